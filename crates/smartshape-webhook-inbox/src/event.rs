//! Events as they are stored: a new one, and a stored one.

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta, EnvelopeError};

/// The newest version of a stored event that this program reads and writes. A process ignores events of a newer
/// version, so that old and new processes can share an inbox during a rolling update.
pub(crate) const EVENT_VERSION: u16 = 1;

/// Text columns are for people and for filters; the body has the exact values.
const MAX_FIELD_CHARS: usize = 200;
const MAX_ERROR_CHARS: usize = 2000;

/// An event to be stored. Text fields may be truncated; the body is exact.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) version: u16,
    pub(crate) key: DeliveryKey,
    pub(crate) name: String,
    pub(crate) file: String,
    /// Equal for events that are attempted in order: those of the same file and webhook. Others may share it by
    /// chance. Its column is named `file_hash`.
    pub(crate) queue: i64,
    pub(crate) uuid: String,
    pub(crate) owner: String,
    pub(crate) secret_name: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) triggered_at: Option<Timestamp>,
    pub(crate) received_at: Timestamp,
    pub(crate) body: Bytes,
}

impl From<&Delivery> for NewEvent {
    fn from(delivery: &Delivery) -> Self {
        Self {
            version: EVENT_VERSION,
            key: delivery.key(),
            name: field(delivery.event_name()),
            file: field(delivery.file().as_str()),
            queue: stable_hash(delivery.file().as_str(), delivery.webhook().unwrap_or_default()),
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

/// A text that every storage accepts: PostgreSQL's `text` cannot contain NUL.
pub(crate) fn field(text: &str) -> String {
    truncate(text, MAX_FIELD_CHARS)
}

/// An error's text, truncated to what is stored.
pub(crate) fn error_field(text: &str) -> String {
    truncate(text, MAX_ERROR_CHARS)
}

fn truncate(text: &str, chars: usize) -> String {
    if text.len() <= chars && !text.contains('\0') {
        return text.to_owned();
    }
    text.chars().take(chars).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

/// Uses the hash of a delivery key, which is fixed across versions, as stored values must be.
pub(crate) fn stable_hash(text: &str, scope: &str) -> i64 {
    let key = DeliveryKey::new(text, scope, "");
    let mut first = [0; 8];
    first.copy_from_slice(&key.as_bytes()[..8]);
    i64::from_le_bytes(first)
}

/// The state of a stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventState {
    /// Waits for its first attempt, or for a retry.
    Waiting,
    /// A worker holds its lease. The worker's process may have ended since.
    Running,
    /// Handled. Kept for deduplication, without its body unless
    /// [`body_retention`](crate::InboxBuilder::body_retention) is set.
    Completed,
    /// Failed for good; [`StoredEvent::error`] says why. [`Inbox::replay`](crate::Inbox::replay) attempts it again.
    DeadLetter,
}

impl EventState {
    /// The state's number in the database.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Waiting => 0,
            Self::Running => 1,
            Self::Completed => 2,
            Self::DeadLetter => 3,
        }
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Waiting, Self::Running, Self::Completed, Self::DeadLetter]
            .into_iter()
            .find(|state| i64::from(state.number()) == number)
    }

    /// The state in words: `waiting`, `running`, `completed`, `dead letter`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::DeadLetter => "dead letter",
        }
    }
}

/// A stored event, without its body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredEvent {
    /// Sequence number, in the order of arrival.
    pub seq: i64,
    /// The delivery's key.
    pub key: DeliveryKey,
    /// The event's state.
    pub state: EventState,
    /// The event's name. Texts are truncated to 200 characters, and to 64 once the event is completed.
    pub event_name: String,
    /// The file that the event is about.
    pub file: String,
    /// The event's unique id.
    pub uuid: String,
    /// The owner of the webhook; `None` once the event is completed.
    pub owner: Option<String>,
    /// The name of the secret that the token matched; `None` after a purge.
    pub secret_name: Option<String>,
    /// When SmartShape triggered the event.
    pub triggered_at: Option<Timestamp>,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// Length of the body in bytes.
    pub body_bytes: u64,
    /// Number of attempts, without those that a shutdown cancelled.
    pub attempts: u32,
    /// Number of attempts that ended without a result, because the process ended or the lease was lost.
    pub lost_leases: u32,
    /// The last attempt's error.
    pub error: Option<String>,
}

/// A stored event, with its body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredDelivery {
    /// The event without its body.
    pub event: StoredEvent,
    /// The exact body; `None` once it was deleted.
    pub body: Option<Bytes>,
    /// When the next attempt is due; `None` unless the event waits. It is in the past if the event waits for a worker,
    /// for an earlier event of its file and webhook, or for the end of a pause.
    pub next_attempt_at: Option<Timestamp>,
}

impl StoredDelivery {
    /// The delivery that the next attempt will handle; `None` once the body was deleted.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not a SmartShape event.
    pub fn delivery(&self) -> Result<Option<Delivery>, EnvelopeError> {
        let Some(body) = &self.body else { return Ok(None) };
        let meta = DeliveryMeta {
            key: Some(self.event.key),
            received_at: self.event.received_at,
            attempt: self.event.attempts + 1,
            secret_name: self.event.secret_name.as_deref().map(Into::into),
            ..DeliveryMeta::default()
        };
        Delivery::restore(body.clone(), meta).map(Some)
    }
}
