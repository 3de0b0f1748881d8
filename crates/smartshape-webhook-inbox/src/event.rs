//! Events as they are stored: a new one, a stored one, and the filter that selects some.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta, EnvelopeError};

use crate::reason::ReasonId;

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
fn field(text: &str) -> String {
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
    /// When the next attempt is due; `None` unless the event waits. It is in the past if the event waits for a worker, for an
    /// earlier event of its file and webhook, or for the end of a pause.
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

/// Selects stored events. The default selects the first 1000; each method narrows the selection.
///
/// ```
/// use smartshape_webhook_inbox::{EventFilter, EventState};
///
/// let dead_uploads = EventFilter::default().state(EventState::DeadLetter).event("file_uploaded").limit(100);
/// // Events sent with a stolen token.
/// let forged = EventFilter::default().secret_name("uploads").received_from("2026-03-01T12:00:00Z".parse()?);
/// # let _ = (dead_uploads, forged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct EventFilter {
    pub(crate) state: Option<EventState>,
    pub(crate) event: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) key: Option<DeliveryKey>,
    pub(crate) secret: Option<String>,
    pub(crate) received_from: Option<Timestamp>,
    pub(crate) received_before: Option<Timestamp>,
    pub(crate) reason: Option<ReasonId>,
    pub(crate) text: Option<String>,
    pub(crate) after: i64,
    pub(crate) up_to: i64,
    pub(crate) newest_first: bool,
    pub(crate) limit: u32,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self {
            state: None,
            event: None,
            file: None,
            key: None,
            secret: None,
            received_from: None,
            received_before: None,
            reason: None,
            text: None,
            after: 0,
            up_to: i64::MAX,
            newest_first: false,
            limit: 1000,
        }
    }
}

impl EventFilter {
    /// Events in this state.
    pub fn state(mut self, state: EventState) -> Self {
        self.state = Some(state);
        self
    }

    /// Events of this name.
    pub fn event(mut self, name: &str) -> Self {
        self.event = Some(field(name));
        self
    }

    /// Events about this file.
    pub fn file(mut self, file: &str) -> Self {
        self.file = Some(field(file));
        self
    }

    /// The event with this key.
    pub fn key(mut self, key: DeliveryKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Events whose token matched the secret of this name, completed ones included.
    pub fn secret_name(mut self, name: &str) -> Self {
        self.secret = Some(field(name));
        self
    }

    /// Events received at this time or later.
    pub fn received_from(mut self, time: Timestamp) -> Self {
        self.received_from = Some(time);
        self
    }

    /// Events received before this time.
    pub fn received_before(mut self, time: Timestamp) -> Self {
        self.received_before = Some(time);
        self
    }

    /// Dead letters with this reason.
    pub fn reason(mut self, reason: ReasonId) -> Self {
        self.state = Some(EventState::DeadLetter);
        self.reason = Some(reason);
        self
    }

    /// Events whose file or uuid is this text, or whose owner or error contains it; ASCII letters in any case. A
    /// delivery key selects its event.
    pub fn text(mut self, text: &str) -> Self {
        match text.parse() {
            Ok(key) => self.key = Some(key),
            Err(_) => self.text = Some(field(text)),
        }
        self
    }

    /// Events that arrived no later than the event with this sequence number: a replay or purge of all events that
    /// were listed leaves those that match since. Defaults to all.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, Handler};
    /// use smartshape_webhook_inbox::{EventFilter, Inbox};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let event = |n: u32| Delivery::for_test(format!(r#"{{"file": "5c6f", "event": "file_uploaded", "data": {{}},
    /// #     "owner": "test@smartshape.io", "runTimestamp": 1, "uuid": "{n}"}}"#));
    /// let inbox = Inbox::open(path).await?;
    /// inbox.handle(event(1)?).await.map_err(|error| error.to_string())?;
    /// let seen = inbox.list(EventFilter::default()).await?;
    /// inbox.handle(event(2)?).await.map_err(|error| error.to_string())?;
    /// assert_eq!(inbox.purge(EventFilter::default().up_to(seen[0].seq)).await?, 1);
    /// assert_eq!(inbox.stats().await?.waiting, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn up_to(mut self, seq: i64) -> Self {
        self.up_to = seq;
        self
    }

    /// Events that arrived after the event with this sequence number, for paging. Defaults to 0: all.
    pub fn after(mut self, seq: i64) -> Self {
        self.after = seq;
        self
    }

    /// Whether conditions remain that no index covers.
    pub(crate) fn is_scan(&self) -> bool {
        self.key.is_none()
            && (self.state == Some(EventState::Completed)
                || self.event.is_some()
                || self.file.is_some()
                || self.secret.is_some()
                || self.text.is_some()
                || self.received_from.is_some()
                || self.received_before.is_some())
    }

    /// Maximum number of events, the earliest first. Defaults to 1000.
    pub fn limit(mut self, events: u32) -> Self {
        self.limit = events;
        self
    }
}

/// Number of events by state, and the inbox's size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxStats {
    /// Number of events that wait for an attempt.
    pub waiting: u64,
    /// Number of events that a worker is handling.
    pub running: u64,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Age of the oldest waiting event, since it was stored.
    pub oldest_waiting: Option<Duration>,
    /// Bytes that the inbox takes on the disk.
    pub disk_bytes: u64,
}

/// Number of events that match, by the name of the event, the most frequent first. See
/// [`Inbox::count_by_event`](crate::Inbox::count_by_event).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountByEvent {
    /// At most 100 names.
    pub names: Vec<(String, u64)>,
    /// Number of events of these names: [`Count::AtLeast`] when more events match than were examined.
    pub total: Count,
}

/// A number of events that was counted up to a limit, so that counting takes milliseconds however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// All were counted.
    Exactly(u64),
    /// Counting stopped at this number.
    AtLeast(u64),
}

impl Count {
    /// The number that was counted.
    #[must_use]
    pub fn get(self) -> u64 {
        match self {
            Self::Exactly(count) | Self::AtLeast(count) => count,
        }
    }

    /// The count of a query that stops at [`MAX_EXAMINED`] rows.
    pub(crate) fn from_rows(rows: i64) -> Self {
        let count = u64::try_from(rows).unwrap_or(0);
        if count < u64::from(MAX_EXAMINED) { Self::Exactly(count) } else { Self::AtLeast(count) }
    }
}

impl Default for Count {
    fn default() -> Self {
        Self::Exactly(0)
    }
}

/// The number, or `≥` and the number.
impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(count) => write!(f, "{count}"),
            Self::AtLeast(count) => write!(f, "≥ {count}"),
        }
    }
}

/// Maximum number of events that one query for a page or a count examines.
pub(crate) const MAX_EXAMINED: u32 = 50_000;

/// Number of events by state, counted within a limit. Unlike [`InboxStats`] it takes milliseconds however many events
/// wait or are dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxCounts {
    /// Number of events that wait for an attempt, including [`retrying`](Self::retrying).
    pub waiting: Count,
    /// Number of waiting events that are not due yet, because an attempt has failed.
    pub retrying: Count,
    /// Number of events that a worker is handling.
    pub running: Count,
    /// Number of dead letters.
    pub dead_letters: Count,
    /// Estimated number of all stored events.
    pub stored: u64,
    /// How long the longest due event has waited since it was due; `None` when no event is due. A replayed event is due
    /// from its replay on.
    pub overdue: Option<Duration>,
    /// Bytes that the inbox takes on the disk.
    pub disk_bytes: u64,
}
