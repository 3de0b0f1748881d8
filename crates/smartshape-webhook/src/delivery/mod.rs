//! One delivery: an event, what came around it, and the exact body.

pub(crate) mod handler;
pub(crate) mod key;
pub(crate) mod router;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use self::key::{DEFAULT_WEBHOOK, DeliveryKey};
use crate::escape::escape_for_log;
use crate::events::{
    BYTE_ORDER_MARK, DecodeError, Envelope, EnvelopeError, Event, EventKind, FileId, Person, RawJson, time,
};
use crate::memory_limit::Reservation;

/// A verified delivery. Plain data, cheap to clone; acknowledging it is the adapter's business.
///
/// The envelope was parsed once; the event's `data` stays raw JSON until [`event`](Self::event)
/// or [`data`](Self::data) asks for it. A delivery's memory counts towards the receiver's byte
/// budget until the last clone is dropped, so whoever keeps many should keep what they need of
/// them instead. Serialising a delivery emits its body exactly as it was received, but for white
/// space or a byte order mark around it.
///
/// ```
/// use smartshape_webhook::{Delivery, Event};
///
/// let delivery = Delivery::for_test(r#"{
///     "file": "5c6fb52c194afb281976f5e4", "event": "file_uploaded",
///     "data": {"name": "test_model.scene", "size": 6581919},
///     "owner": "test@smartshape.io", "runTimestamp": 1550824748604,
///     "uuid": "a36b623a-c1ed-49b5-9585-3532fe8e9881"
/// }"#)?;
/// assert_eq!(delivery.file().as_str(), "5c6fb52c194afb281976f5e4");
/// match delivery.event() {
///     Event::FileUploaded(file) => assert_eq!(file.name.as_deref(), Some("test_model.scene")),
///     other => panic!("unexpected {}", other.name()),
/// }
/// # Ok::<(), smartshape_webhook::EnvelopeError>(())
/// ```
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    body: RawJson,
    /// Where it stands in the body, as does the next one.
    data: Range<usize>,
    run_timestamp: Range<usize>,
    event_name: EventName,
    uuid: Text,
    file: Text,
    /// Empty where the owner is no text without escapes: then `owner` has been read.
    owner_text: Range<usize>,
    /// Made when somebody asks, as is the next one.
    file_id: OnceLock<FileId>,
    owner: OnceLock<Person>,
    key: DeliveryKey,
    received_at: Timestamp,
    secret_name: Option<Arc<str>>,
    webhook: Option<Arc<str>>,
    traceparent: Option<Box<str>>,
    attempt: u32,
    event: OnceLock<Event>,
    /// Holds the body's bytes in the budget.
    _reservation: Option<Reservation>,
}

/// A text of the envelope: where it stands in the body, or what it says when it was escaped there.
enum Text {
    At(Range<usize>),
    Unescaped(Box<str>),
}

/// The nine known names need no memory.
enum EventName {
    Known(EventKind),
    Other(Box<str>),
}

/// What a receiver knows of a delivery beside its body.
pub(crate) struct DeliveryContext {
    pub(crate) secret_name: Option<Arc<str>>,
    /// None for the default webhook.
    pub(crate) webhook: Option<Arc<str>>,
    /// Where it is known already.
    pub(crate) key: Option<DeliveryKey>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) received_at: Timestamp,
    pub(crate) attempt: u32,
    pub(crate) reservation: Option<Reservation>,
}

/// A delivery received just now, by nobody in particular.
impl Default for DeliveryContext {
    fn default() -> Self {
        Self {
            secret_name: None,
            webhook: None,
            key: None,
            traceparent: None,
            received_at: Timestamp::now(),
            attempt: 1,
            reservation: None,
        }
    }
}

/// What a store kept of a delivery beside its body; see [`Delivery::restore`].
#[derive(Clone, Copy, Debug)]
pub struct DeliveryMeta<'a> {
    /// The delivery's key, which its body alone does not give. `None` makes it of the body and `webhook`.
    pub key: Option<DeliveryKey>,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// The number of this attempt at handling it, from 1.
    pub attempt: u32,
    /// The name of the secret that the token matched.
    pub secret_name: Option<&'a str>,
    /// The webhook that the delivery came by, where that is not `default`. A key that is `None` depends on it.
    pub webhook: Option<&'a str>,
    /// The W3C trace context that came with the request.
    pub traceparent: Option<&'a str>,
}

impl Delivery {
    /// Makes a delivery of a body, as though it had been received and verified: for the tests of
    /// handlers.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not a SmartShape event.
    pub fn for_test(body: impl Into<Bytes>) -> Result<Self, EnvelopeError> {
        Self::parse(body.into(), DeliveryContext::default())
    }

    /// Makes a delivery that was received and verified earlier, of what a store kept of it. Whoever
    /// calls this vouches for the body: nothing is verified again.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, DeliveryMeta};
    ///
    /// let body = r#"{"file": "5c6f", "event": "file_uploaded", "data": {}, "owner": "test@smartshape.io",
    ///                "runTimestamp": 1550824748604, "uuid": "a36b623a"}"#;
    /// let kept = DeliveryMeta {
    ///     key: None,
    ///     received_at: "2026-11-24T08:00:00Z".parse()?,
    ///     attempt: 2,
    ///     secret_name: Some("uploads"),
    ///     webhook: None,
    ///     traceparent: None,
    /// };
    /// let delivery = Delivery::restore(body, kept)?;
    /// assert_eq!((delivery.attempt(), delivery.secret_name()), (2, Some("uploads")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not a SmartShape event.
    pub fn restore(body: impl Into<Bytes>, kept: DeliveryMeta<'_>) -> Result<Self, EnvelopeError> {
        let around = DeliveryContext {
            secret_name: kept.secret_name.map(Into::into),
            webhook: kept.webhook.map(Into::into),
            key: kept.key,
            traceparent: kept.traceparent.map(Into::into),
            received_at: kept.received_at,
            attempt: kept.attempt,
            reservation: None,
        };
        Self::parse(body.into(), around)
    }

    pub(crate) fn parse(body: Bytes, around: DeliveryContext) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::parse(&body)?;
        let data = place(&body, envelope.data());
        let run_timestamp = place(&body, envelope.run_timestamp_raw());
        let event_name =
            envelope.kind().map_or_else(|| EventName::Other(envelope.event().into()), EventName::Known);
        let key = around.key.unwrap_or_else(|| {
            let webhook = around.webhook.as_deref().unwrap_or(DEFAULT_WEBHOOK);
            DeliveryKey::for_webhook(webhook, envelope.uuid(), envelope.event(), envelope.owner_key())
        });
        let Envelope { file, uuid, owner_text, owner, .. } = envelope;
        let inner = Inner {
            data,
            run_timestamp,
            event_name,
            uuid: Text::of(uuid, &body),
            file: Text::of(file, &body),
            owner_text: owner_text.map_or(0..0, |owner| place(&body, owner)),
            file_id: OnceLock::new(),
            owner,
            key,
            received_at: around.received_at,
            secret_name: around.secret_name,
            webhook: around.webhook,
            traceparent: around.traceparent,
            attempt: around.attempt,
            event: OnceLock::new(),
            _reservation: around.reservation,
            body: RawJson::of_parsed(body),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The event. Its `data` is decoded at the first call. Never fails: what cannot be decoded is
    /// [`Event::Undecoded`], and an event of unknown name is [`Event::Unknown`].
    #[must_use]
    pub fn event(&self) -> &Event {
        self.0.event.get_or_init(|| Event::decode(self.event_name(), self.raw_data()))
    }

    /// The event, if somebody has asked for it already.
    pub(crate) fn decoded_event(&self) -> Option<&Event> {
        self.0.event.get()
    }

    /// Which of the nine documented events it is; `None` for an unknown name.
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        match self.0.event_name {
            EventName::Known(kind) => Some(kind),
            EventName::Other(_) => None,
        }
    }

    /// The event's name as it was sent.
    #[must_use]
    pub fn event_name(&self) -> &str {
        match &self.0.event_name {
            EventName::Known(kind) => kind.as_str(),
            EventName::Other(name) => name,
        }
    }

    /// The file that the event is about.
    #[must_use]
    pub fn file(&self) -> &FileId {
        self.0.file_id.get_or_init(|| self.file_text().into())
    }

    /// The same for those who need no id of their own.
    pub(crate) fn file_text(&self) -> &str {
        self.0.file.of_body(self.raw())
    }

    /// The event's unique id, as it was sent.
    #[must_use]
    pub fn uuid(&self) -> &str {
        self.0.uuid.of_body(self.raw())
    }

    /// The event's unique id, if it has the form of a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> Option<uuid::Uuid> {
        self.uuid().parse().ok()
    }

    /// Who owns the webhook.
    #[must_use]
    pub fn owner(&self) -> &Person {
        self.0.owner.get_or_init(|| Person::from(part(self.raw(), &self.0.owner_text)))
    }

    /// When the event was triggered: `runTimestamp`, which SmartShape sends in milliseconds.
    /// `None` when it is no time that can be represented.
    #[must_use]
    pub fn triggered_at(&self) -> Option<Timestamp> {
        time::from_json(self.run_timestamp_raw())
    }

    /// `runTimestamp` as it was sent.
    #[must_use]
    pub fn run_timestamp_raw(&self) -> &str {
        part(self.raw(), &self.0.run_timestamp)
    }

    /// When the delivery was received.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.0.received_at
    }

    /// Identifies the delivery across retries: put its text into a unique index of your own to
    /// make an effect happen exactly once.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        self.0.key
    }

    /// The name of the secret that the token matched; `None` in a test's delivery.
    #[must_use]
    pub fn secret_name(&self) -> Option<&str> {
        self.0.secret_name.as_deref()
    }

    /// The webhook that the delivery came by, where that is not `default`: see [`NamedSecret::webhook`](crate::NamedSecret::webhook).
    /// `None` too in a test's delivery, and in one that was [restored](Self::restore) without it, as an inbox does.
    #[must_use]
    pub fn webhook(&self) -> Option<&str> {
        self.0.webhook.as_deref()
    }

    /// The W3C trace context that came with the request, if there was a well-formed one.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.0.traceparent.as_deref()
    }

    /// The number of this attempt at handling it, from 1. An inline receiver does not know of
    /// earlier ones: a retry of SmartShape's is a first attempt again.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The body without a byte order mark before it, which is no JSON.
    fn json(&self) -> RawJson {
        let mark = if self.raw().starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        self.0.body.part(mark..self.raw().len())
    }

    /// The exact body.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        self.0.body.as_bytes()
    }

    /// The event's `data`, exactly as it was sent.
    #[must_use]
    pub fn raw_data(&self) -> RawJson {
        self.0.body.part(self.0.data.clone())
    }

    /// Decodes the event's `data` into a type of your own.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the data does not fit the type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        self.raw_data().decode()
    }

    /// The span in which a handler of it runs: event, uuid and file, made fit for a log.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!(
            "webhook",
            event = %escape_for_log(self.event_name()),
            uuid = %escape_for_log(self.uuid()),
            file = %escape_for_log(self.file_text()),
        )
    }

    /// The body on one line, with white space between tokens removed and nothing else changed.
    #[must_use]
    pub fn to_json_line(&self) -> String {
        self.json().compact()
    }
}

impl Text {
    fn of(text: Cow<'_, str>, body: &[u8]) -> Self {
        match text {
            Cow::Borrowed(text) => Self::At(place(body, text)),
            Cow::Owned(text) => Self::Unescaped(text.into()),
        }
    }

    fn of_body<'a>(&'a self, body: &'a [u8]) -> &'a str {
        match self {
            Self::At(place) => part(body, place),
            Self::Unescaped(text) => text,
        }
    }
}

/// What stands at `place`, as the envelope found it in a text.
fn part<'a>(body: &'a [u8], place: &Range<usize>) -> &'a str {
    body.get(place.clone()).and_then(|part| str::from_utf8(part).ok()).unwrap_or_default()
}

/// Where `part` stands in `whole`, out of which it was parsed.
fn place(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

impl Serialize for Delivery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("event", &self.event_name())
            .field("file", &self.file())
            .field("uuid", &self.uuid())
            .field("owner", &self.owner())
            .finish_non_exhaustive()
    }
}
