//! Which stored events are listed, replayed or purged.

use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;

use crate::event::{EventState, field};
use crate::reason::ReasonId;

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
