//! What happened in each minute: counted in memory, and added to the database once a second, so that neither a commit
//! of deliveries nor one of results waits for it. What a process counted in its last second is lost if it is killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::error::InboxError;
use crate::inbox::Inbox;
use crate::storage::Storage;

/// Pause between two writes.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Minutes that are kept in memory while the database fails.
const MAX_PENDING: usize = 60;
/// Maximum number of slots that [`Inbox::activity`] returns.
const MAX_SLOTS: i64 = 1500;

/// Numbers of one minute, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) stored: i64,
    pub(crate) completed: i64,
    pub(crate) retried: i64,
    pub(crate) dead_letters: i64,
    pub(crate) handler_ms: i64,
    pub(crate) max_handler_ms: i64,
    pub(crate) max_waiting: i64,
    pub(crate) max_overdue_ms: i64,
}

impl Numbers {
    fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.completed += other.completed;
        self.retried += other.retried;
        self.dead_letters += other.dead_letters;
        self.handler_ms = self.handler_ms.saturating_add(other.handler_ms);
        self.max_handler_ms = self.max_handler_ms.max(other.max_handler_ms);
        self.max_waiting = self.max_waiting.max(other.max_waiting);
        self.max_overdue_ms = self.max_overdue_ms.max(other.max_overdue_ms);
    }
}

/// Numbers of a minute since 1970.
pub(crate) type Minute = (i64, Numbers);

/// Counts what this process does.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    pending: Mutex<BTreeMap<i64, Numbers>>,
    is_pending: Notify,
}

impl Activity {
    /// Writes to `storage` until either is dropped. The task keeps neither: a file is closed with its inbox.
    pub(crate) fn start(storage: &Arc<dyn Storage>) -> Arc<Self> {
        let activity = Arc::new(Self::default());
        let (written, storage) = (Arc::downgrade(&activity), Arc::downgrade(storage));
        let _detached = tokio::spawn(async move {
            while let Some(activity) = written.upgrade() {
                let pending = tokio::time::timeout(FLUSH_INTERVAL, activity.is_pending.notified()).await;
                drop(activity);
                if pending.is_err() {
                    continue;
                }
                tokio::time::sleep(FLUSH_INTERVAL).await;
                let (Some(activity), Some(storage)) = (written.upgrade(), storage.upgrade()) else { return };
                activity.flush(&*storage).await;
            }
        });
        activity
    }

    pub(crate) fn record(&self, numbers: Numbers) {
        if numbers == Numbers::default() {
            return;
        }
        self.lock().entry(minute_of(Timestamp::now())).or_default().add(numbers);
        self.is_pending.notify_one();
    }

    /// Adds what was counted to the database.
    pub(crate) async fn flush(&self, storage: &dyn Storage) {
        let pending = std::mem::take(&mut *self.lock());
        if pending.is_empty() {
            return;
        }
        let minutes: Vec<Minute> = pending.into_iter().collect();
        if let Err(error) = storage.record_activity(minutes.clone()).await {
            tracing::debug!(%error, "the inbox's activity could not be recorded; it is tried again");
            let mut pending = self.lock();
            for (minute, numbers) in minutes {
                pending.entry(minute).or_default().add(numbers);
            }
            while pending.len() > MAX_PENDING {
                pending.pop_first();
            }
            self.is_pending.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Numbers>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// What happened in a period; made by [`Inbox::activity`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActivitySlot {
    /// When the period begins.
    pub start: Timestamp,
    /// Number of new deliveries.
    pub stored: u64,
    /// Number of events that a handler completed.
    pub completed: u64,
    /// Number of failed attempts that are retried.
    pub retried: u64,
    /// Number of events that became dead letters.
    pub dead_letters: u64,
    /// Time spent in handlers, whatever their outcome.
    pub handler_time: Duration,
    /// The longest run time of a handler.
    pub max_handler_time: Duration,
    /// The highest number of waiting events, sampled every 15 seconds while a worker runs.
    pub max_waiting: u64,
    /// The longest time that an event waited after it was due, sampled as often.
    pub max_overdue: Duration,
}

impl Inbox {
    /// What happened since `from`, in periods of `slot`, which is rounded up to whole minutes: at most the latest 1500
    /// periods, the earliest first; periods in which nothing happened have zeros. Activity is recorded per minute, by
    /// the wall clock, and kept for 14 days. What a process did in the last second before it was killed is missing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use jiff::Timestamp;
    /// use smartshape_webhook::{Delivery, Handler};
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = std::env::temp_dir().join(format!("activity-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("inbox.db");
    /// # let path = path.to_str().unwrap();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// let event = Delivery::for_test(r#"{"file": "5c6f", "event": "file_uploaded", "data": {},
    ///     "owner": "test@smartshape.io", "runTimestamp": 1, "uuid": "a36b"}"#)?;
    /// inbox.handle(event).await.map_err(|error| error.to_string())?;
    /// let hour = Duration::from_secs(60 * 60);
    /// let stored = async || -> Result<u64, Box<dyn std::error::Error>> {
    ///     let slots = inbox.activity(Timestamp::now() - hour, hour).await?;
    ///     Ok(slots.iter().map(|slot| slot.stored).sum())
    /// };
    /// // It is written once a second.
    /// while stored().await? != 1 {
    ///     tokio::task::yield_now().await;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails;
    /// [`InboxErrorKind::OlderSchema`](crate::InboxErrorKind::OlderSchema) when a read-only inbox has the schema of an
    /// older version.
    pub async fn activity(&self, from: Timestamp, slot: Duration) -> Result<Vec<ActivitySlot>, InboxError> {
        let width = i64::try_from(slot.as_secs().div_ceil(60)).unwrap_or(i64::MAX).clamp(1, 60 * 24 * 366);
        let last = minute_of(Timestamp::now()).div_euclid(width);
        let first = minute_of(from).div_euclid(width).clamp(last - MAX_SLOTS + 1, last);
        let found: BTreeMap<i64, Numbers> =
            self.storage().activity(first * width, width).await?.into_iter().collect();
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let time = |milliseconds| Duration::from_millis(count(milliseconds));
        let slot = |slot: i64| {
            let numbers = found.get(&slot).copied().unwrap_or_default();
            ActivitySlot {
                start: Timestamp::from_second(slot * width * 60).unwrap_or(Timestamp::MAX),
                stored: count(numbers.stored),
                completed: count(numbers.completed),
                retried: count(numbers.retried),
                dead_letters: count(numbers.dead_letters),
                handler_time: time(numbers.handler_ms),
                max_handler_time: time(numbers.max_handler_ms),
                max_waiting: count(numbers.max_waiting),
                max_overdue: time(numbers.max_overdue_ms),
            }
        };
        Ok((first..=last).map(slot).collect())
    }
}
