//! A delivery: an event, its envelope and the exact body.

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

/// A verified delivery. Plain data, and cheap to clone.
///
/// The envelope is parsed once; the event's `data` stays raw JSON until [`event`](Self::event) or [`data`](Self::data)
/// decodes it. A delivery's memory counts towards `memory_limit_bytes` until the last clone is dropped, so keep the
/// values that you need instead of many deliveries. Serialising a delivery emits its body exactly as it was received,
/// except for white space or a byte order mark around it.
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
    /// A range of the body, like the following one.
    data: Range<usize>,
    run_timestamp: Range<usize>,
    event_name: EventName,
    uuid: Text,
    file: Text,
    /// Empty if the owner is not a string without escapes; `owner` is then set.
    owner_text: Range<usize>,
    /// The file's id, decoded on first use, like the owner.
    file_id: OnceLock<FileId>,
    owner: OnceLock<Person>,
    key: DeliveryKey,
    received_at: Timestamp,
    secret_name: Option<Arc<str>>,
    webhook: Option<Arc<str>>,
    traceparent: Option<Box<str>>,
    attempt: u32,
    event: OnceLock<Event>,
    /// Counts the body's bytes towards the memory limit.
    _reservation: Option<Reservation>,
}

/// A string of the envelope: its range in the body, or its unescaped text if it contains escapes.
enum Text {
    At(Range<usize>),
    Unescaped(Box<str>),
}

/// The nine documented names need no allocation.
enum EventName {
    Known(EventKind),
    Other(Box<str>),
}

/// Metadata of a delivery, besides its body. The default is a first attempt, received now, without a secret's name.
#[derive(Clone, Debug)]
pub struct DeliveryMeta {
    /// The delivery's key. `None` computes it from the body and `webhook`.
    pub key: Option<DeliveryKey>,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// Number of this attempt at handling it, from 1.
    pub attempt: u32,
    /// Name of the secret that the token matched.
    pub secret_name: Option<Arc<str>>,
    /// The webhook that the delivery came by, if it is not `default`.
    pub webhook: Option<Arc<str>>,
    /// The W3C trace context of the request.
    pub traceparent: Option<Box<str>>,
}

impl Default for DeliveryMeta {
    fn default() -> Self {
        Self {
            key: None,
            received_at: Timestamp::now(),
            attempt: 1,
            secret_name: None,
            webhook: None,
            traceparent: None,
        }
    }
}

impl Delivery {
    /// Makes a delivery from a body as if it had been received and verified, to test a handler.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not a SmartShape event.
    pub fn for_test(body: impl Into<Bytes>) -> Result<Self, EnvelopeError> {
        Self::parse(body.into(), DeliveryMeta::default(), None)
    }

    /// Makes a delivery that was received and verified earlier from its stored body. The caller vouches for the body:
    /// nothing is verified again.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, DeliveryMeta};
    ///
    /// let body = r#"{"file": "5c6f", "event": "file_uploaded", "data": {}, "owner": "test@smartshape.io",
    ///                "runTimestamp": 1550824748604, "uuid": "a36b623a"}"#;
    /// let meta = DeliveryMeta {
    ///     received_at: "2026-11-24T08:00:00Z".parse()?,
    ///     attempt: 2,
    ///     secret_name: Some("uploads".into()),
    ///     ..DeliveryMeta::default()
    /// };
    /// let delivery = Delivery::restore(body, meta)?;
    /// assert_eq!((delivery.attempt(), delivery.secret_name()), (2, Some("uploads")));
    /// assert_eq!(delivery.received_at().to_string(), "2026-11-24T08:00:00Z");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not a SmartShape event.
    pub fn restore(body: impl Into<Bytes>, meta: DeliveryMeta) -> Result<Self, EnvelopeError> {
        Self::parse(body.into(), meta, None)
    }

    pub(crate) fn parse(
        body: Bytes,
        meta: DeliveryMeta,
        reservation: Option<Reservation>,
    ) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::parse(&body)?;
        let data = range_in(&body, envelope.data());
        let run_timestamp = range_in(&body, envelope.run_timestamp_raw());
        let event_name =
            envelope.kind().map_or_else(|| EventName::Other(envelope.event().into()), EventName::Known);
        let key = meta.key.unwrap_or_else(|| {
            let webhook = meta.webhook.as_deref().unwrap_or(DEFAULT_WEBHOOK);
            DeliveryKey::for_webhook(webhook, envelope.uuid(), envelope.event(), envelope.owner_key())
        });
        let Envelope { file, uuid, owner_text, owner, .. } = envelope;
        let inner = Inner {
            data,
            run_timestamp,
            event_name,
            uuid: Text::new(uuid, &body),
            file: Text::new(file, &body),
            owner_text: owner_text.map_or(0..0, |owner| range_in(&body, owner)),
            file_id: OnceLock::new(),
            owner,
            key,
            received_at: meta.received_at,
            secret_name: meta.secret_name,
            webhook: meta.webhook,
            traceparent: meta.traceparent,
            attempt: meta.attempt,
            event: OnceLock::new(),
            _reservation: reservation,
            body: RawJson::from_parsed(body),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The event. Its `data` is decoded at the first call. Never fails: data that cannot be decoded gives
    /// [`Event::Undecoded`], and an unknown name gives [`Event::Unknown`].
    #[must_use]
    pub fn event(&self) -> &Event {
        self.0.event.get_or_init(|| Event::decode(self.event_name(), self.raw_data()))
    }

    /// The event, if it has been decoded.
    pub(crate) fn decoded_event(&self) -> Option<&Event> {
        self.0.event.get()
    }

    /// Which of the nine documented events this is; `None` for an unknown name.
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

    /// The file's id as text, without an allocation.
    pub(crate) fn file_text(&self) -> &str {
        self.0.file.resolve(self.raw())
    }

    /// The event's unique id, as it was sent.
    #[must_use]
    pub fn uuid(&self) -> &str {
        self.0.uuid.resolve(self.raw())
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

    /// Identifies the delivery across retries. Store its text under a unique index of your own to make an effect happen
    /// exactly once.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        self.0.key
    }

    /// The name of the secret that the token matched; `None` for a delivery made by [`for_test`](Self::for_test).
    #[must_use]
    pub fn secret_name(&self) -> Option<&str> {
        self.0.secret_name.as_deref()
    }

    /// The webhook that the delivery came by, if it is not `default`; see
    /// [`NamedSecret::for_webhook`](crate::NamedSecret::for_webhook). An inbox does not store it.
    #[must_use]
    pub fn webhook(&self) -> Option<&str> {
        self.0.webhook.as_deref()
    }

    /// The W3C trace context that came with the request, if there was a well-formed one.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.0.traceparent.as_deref()
    }

    /// Number of this attempt at handling it, from 1. A receiver without an inbox does not know earlier attempts: a
    /// retry by SmartShape is a first attempt again.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The body without its byte order mark, which is not JSON.
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

    /// The tracing span in which a handler runs, with event, uuid, file and the secret's name escaped for the log.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!(
            "webhook",
            event = %escape_for_log(self.event_name()),
            uuid = %escape_for_log(self.uuid()),
            file = %escape_for_log(self.file_text()),
            secret = self.secret_name().map(|name| tracing::field::display(escape_for_log(name))),
        )
    }

    /// The body on one line: white space between JSON tokens is removed, and nothing else changed.
    #[must_use]
    pub fn to_json_line(&self) -> String {
        self.json().compact()
    }
}

impl Text {
    fn new(text: Cow<'_, str>, body: &[u8]) -> Self {
        match text {
            Cow::Borrowed(text) => Self::At(range_in(body, text)),
            Cow::Owned(text) => Self::Unescaped(text.into()),
        }
    }

    fn resolve<'a>(&'a self, body: &'a [u8]) -> &'a str {
        match self {
            Self::At(range) => part(body, range),
            Self::Unescaped(text) => text,
        }
    }
}

/// The string at `range`, where the envelope found it.
fn part<'a>(body: &'a [u8], range: &Range<usize>) -> &'a str {
    body.get(range.clone()).and_then(|part| str::from_utf8(part).ok()).unwrap_or_default()
}

/// The range of `part` in `whole`, from which it was parsed.
fn range_in(whole: &[u8], part: &str) -> Range<usize> {
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
