//! What is kept of a delivery.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta, EnvelopeError};

/// The newest form of a record that this version reads and writes. A process leaves records of a
/// newer form alone, so that old and new processes can share a store during a rolling update.
pub const RECORD_VERSION: u16 = 1;

/// Fields are kept for people; the exact ones are in the body.
const FIELD_CHARS: usize = 200;
/// An error is kept up to this length.
const ERROR_CHARS: usize = 2000;

/// A delivery to be stored.
///
/// The text fields are for people and may be cut; the body is exact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The form of the record: [`RECORD_VERSION`].
    pub version: u16,
    /// The delivery's key: a store keeps one record for each.
    pub key: DeliveryKey,
    /// The event's name.
    pub event: String,
    /// The file that the event is about.
    pub file: String,
    /// Equal for events that are attempted in order: those of the same file and secret name; others may share it by
    /// chance.
    pub file_hash: i64,
    /// The event's unique id.
    pub uuid: String,
    /// Who owns the webhook.
    pub owner: String,
    /// The name of the secret that the token matched.
    pub secret_name: Option<String>,
    /// The W3C trace context that came with the request.
    pub traceparent: Option<String>,
    /// When the event was triggered.
    pub triggered_at: Option<Timestamp>,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// The exact body.
    pub body: Bytes,
}

impl Record {
    /// What is kept of `delivery`.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        Self {
            version: RECORD_VERSION,
            key: delivery.key(),
            event: field(delivery.event_name()),
            file: field(delivery.file().as_str()),
            file_hash: file_hash(delivery.file().as_str(), delivery.webhook().unwrap_or_default()),
            uuid: field(delivery.uuid()),
            owner: field(&delivery.owner().to_string()),
            secret_name: delivery.secret_name().map(field),
            traceparent: delivery.traceparent().map(field),
            triggered_at: delivery.triggered_at(),
            received_at: delivery.received_at(),
            body: delivery.raw().clone(),
        }
    }
}

impl Record {
    /// Orders it with the events of the same file that came by other webhooks.
    pub(crate) fn order_across_webhooks(&mut self, delivery: &Delivery) {
        self.file_hash = file_hash(delivery.file().as_str(), "");
    }
}

/// A column that every engine can hold: PostgreSQL's text knows no NUL.
pub(crate) fn field(text: &str) -> String {
    cut(text, FIELD_CHARS)
}

/// An error, made fit to be kept as [`field`] is.
pub(crate) fn kept_error(text: &str) -> String {
    cut(text, ERROR_CHARS)
}

fn cut(text: &str, chars: usize) -> String {
    if text.len() <= chars && !text.contains('\0') {
        return text.to_owned();
    }
    text.chars().take(chars).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

/// The key's hash serves for this too: it is fixed across versions, as what is stored must be.
fn file_hash(file: &str, webhook: &str) -> i64 {
    let key = DeliveryKey::new(file, webhook, "");
    let mut first = [0; 8];
    first.copy_from_slice(&key.as_bytes()[..8]);
    i64::from_le_bytes(first)
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Waits for its first attempt, or for the next one.
    Waiting,
    /// A worker is at it, or was when it ended.
    AtWork,
    /// Handled. Only a tombstone is left, and the body if the inbox keeps bodies.
    Completed,
    /// Given up; see its error. [`Inbox::replay`](crate::Inbox::replay) tries it again.
    Dead,
}

impl State {
    /// The state's number in a store.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::Waiting => 0,
            Self::AtWork => 1,
            Self::Completed => 2,
            Self::Dead => 3,
        }
    }

    /// The state of that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Waiting),
            1 => Some(Self::AtWork),
            2 => Some(Self::Completed),
            3 => Some(Self::Dead),
            _ => None,
        }
    }

    /// In words: `waiting`, `at work`, `completed`, `dead`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::AtWork => "at work",
            Self::Completed => "completed",
            Self::Dead => "dead",
        }
    }
}

/// An event in the store, without its body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredEvent {
    /// Counts up in the order of arrival.
    pub seq: i64,
    /// The delivery's key.
    pub key: DeliveryKey,
    /// Where it stands.
    pub state: State,
    /// The event's name, cut after 200 characters, as are the other texts; after 64 once it is completed.
    pub event: String,
    /// The file that the event is about.
    pub file: String,
    /// The event's unique id.
    pub uuid: String,
    /// Who owns the webhook; gone once the event is completed.
    pub owner: Option<String>,
    /// The name of the secret that the token matched; gone once the event is completed.
    pub secret_name: Option<String>,
    /// When the event was triggered.
    pub triggered_at: Option<Timestamp>,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// The body's length.
    pub bytes: u64,
    /// How many attempts were made, those given back at a shutdown left out.
    pub attempts: u32,
    /// How many of them ended with the process or the lease, and not with a result.
    pub lost_leases: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// An event in the store, with its body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredDelivery {
    /// All but the body.
    pub event: StoredEvent,
    /// The exact body; `None` once it was deleted.
    pub body: Option<Bytes>,
}

impl StoredDelivery {
    /// With its body.
    #[must_use]
    pub fn new(event: StoredEvent, body: Option<Bytes>) -> Self {
        Self { event, body }
    }

    /// The delivery as its next attempt would see it; `None` once the body was deleted.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not a SmartShape event.
    pub fn delivery(&self) -> Result<Option<Delivery>, EnvelopeError> {
        let Some(body) = &self.body else { return Ok(None) };
        let kept = DeliveryMeta {
            key: Some(self.event.key),
            received_at: self.event.received_at,
            attempt: self.event.attempts + 1,
            secret_name: self.event.secret_name.as_deref().map(Into::into),
            webhook: None,
            traceparent: None,
        };
        Delivery::restore(body.clone(), kept).map(Some)
    }
}

/// Which events are meant. The default means all.
///
/// ```
/// use smartshape_webhook_inbox::{Filter, State};
///
/// let dead_uploads = Filter::default().state(State::Dead).event("file_uploaded").limit(100);
/// // What came in by a token that was stolen.
/// let forged = Filter::default().secret_name("uploads").received_from("2026-03-01T12:00:00Z".parse()?);
/// # let _ = (dead_uploads, forged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Filter {
    pub(crate) state: Option<State>,
    pub(crate) event: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) key: Option<DeliveryKey>,
    pub(crate) secret: Option<String>,
    pub(crate) received_from: Option<Timestamp>,
    pub(crate) received_before: Option<Timestamp>,
    pub(crate) after: i64,
    pub(crate) limit: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            state: None,
            event: None,
            file: None,
            key: None,
            secret: None,
            received_from: None,
            received_before: None,
            after: 0,
            limit: 1000,
        }
    }
}

impl Filter {
    /// Only events that stand there.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Only events of this name.
    pub fn event(mut self, name: &str) -> Self {
        self.event = Some(field(name));
        self
    }

    /// Only events about this file.
    pub fn file(mut self, file: &str) -> Self {
        self.file = Some(field(file));
        self
    }

    /// Only the event of this key.
    pub fn key(mut self, key: DeliveryKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Only events whose token matched the secret of this name. A completed event whose body was not kept has lost
    /// the name.
    pub fn secret_name(mut self, name: &str) -> Self {
        self.secret = Some(field(name));
        self
    }

    /// Only events that were received at this time or later.
    pub fn received_from(mut self, time: Timestamp) -> Self {
        self.received_from = Some(time);
        self
    }

    /// Only events that were received before this time.
    pub fn received_before(mut self, time: Timestamp) -> Self {
        self.received_before = Some(time);
        self
    }

    /// Only events that arrived after the one of this sequence number. Default 0: all.
    pub fn after(mut self, seq: i64) -> Self {
        self.after = seq;
        self
    }

    /// At most this many, the earliest first. Default 1000.
    pub fn limit(mut self, events: u32) -> Self {
        self.limit = events;
        self
    }
}

/// How full an inbox is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events that wait for an attempt.
    pub waiting: u64,
    /// Events that a worker is at.
    pub at_work: u64,
    /// Events that were given up.
    pub dead: u64,
    /// How long the longest waiting event has been in the store.
    pub oldest_waiting: Option<Duration>,
    /// The space that the store takes, in bytes.
    pub stored_bytes: u64,
}
