//! Workers of all processes, pause and resume, the failed attempts at an event, and what happened in periods.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;

use super::Inbox;
use crate::activity::{ActivityCounts, minute_since_epoch};
use crate::error::InboxError;
use crate::event::error_field;
use crate::operations::{FailedAttempt, Pause, WorkerInfo};
use crate::storage::admin::SCHEMA_OF_OPERATIONS;

/// Maximum number of slots that [`Inbox::activity`] returns.
const MAX_SLOTS: i64 = 1500;

/// What happened in a period; made by [`Inbox::activity`](crate::Inbox::activity).
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
    /// Pauses the workers of all processes: none starts an attempt until [`resume`](Self::resume). Attempts that are
    /// running go on, and deliveries are still stored. The pause is stored, so it also holds after a restart. Workers
    /// of versions before this method do not obey it. `by` says who paused them, for people.
    ///
    /// ```
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// inbox.pause("ops").await?;
    /// assert_eq!(inbox.paused().await?.unwrap().by, "ops");
    /// inbox.resume().await?;
    /// assert_eq!(inbox.paused().await?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn pause(&self, by: &str) -> Result<(), InboxError> {
        self.storage().pause(error_field(by)).await
    }

    /// Lets the workers of all processes start attempts again: those of this process at once, others within a second.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn resume(&self) -> Result<(), InboxError> {
        self.storage().resume().await?;
        self.wake_workers();
        Ok(())
    }

    /// Whether the workers are paused, since when and by whom.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails;
    /// [`InboxErrorKind::OlderSchema`](crate::InboxErrorKind::OlderSchema) when a read-only inbox has the schema of an
    /// older version.
    pub async fn paused(&self) -> Result<Option<Pause>, InboxError> {
        self.storage().check_has(SCHEMA_OF_OPERATIONS)?;
        self.storage().paused().await
    }

    /// The workers that are alive, in all processes: those that have reported within the last minute.
    ///
    /// ```
    /// use smartshape_webhook::Delivery;
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// assert!(inbox.workers().await?.is_empty());
    /// let worker = inbox.worker(|_: Delivery| async { Ok(()) }).concurrency(3).spawn();
    /// while inbox.workers().await?.is_empty() {
    ///     tokio::task::yield_now().await;
    /// }
    /// let running = inbox.workers().await?;
    /// assert_eq!((running[0].pid, running[0].concurrency), (std::process::id(), 3));
    /// worker.shutdown().await?;
    /// assert!(inbox.workers().await?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`paused`](Self::paused).
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, InboxError> {
        self.storage().check_has(SCHEMA_OF_OPERATIONS)?;
        self.storage().workers().await
    }

    /// The failed attempts at an event, the earliest first: the latest 20. They are deleted when the event is
    /// completed without its body, or purged. An attempt whose lease was lost is not among them.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, Handler, HandlerError};
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// let event = Delivery::for_test(r#"{"file": "5c6f", "event": "file_uploaded", "data": {},
    ///     "owner": "test@smartshape.io", "runTimestamp": 1, "uuid": "a36b"}"#)?;
    /// let key = event.key();
    /// inbox.handle(event).await.map_err(|error| error.to_string())?;
    /// let worker = inbox.worker(|_: Delivery| async { Err(HandlerError::permanent("no such part")) }).spawn();
    /// while inbox.stats().await?.dead_letters == 0 {
    ///     tokio::task::yield_now().await;
    /// }
    /// worker.shutdown().await?;
    /// let attempts = inbox.failed_attempts(key).await?;
    /// assert_eq!((attempts[0].number, &*attempts[0].error), (1, "no such part"));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`paused`](Self::paused).
    pub async fn failed_attempts(&self, key: DeliveryKey) -> Result<Vec<FailedAttempt>, InboxError> {
        self.storage().check_has(SCHEMA_OF_OPERATIONS)?;
        self.storage().failed_attempts(key).await
    }

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
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
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
        let last = minute_since_epoch(Timestamp::now()).div_euclid(width);
        let first = minute_since_epoch(from).div_euclid(width).clamp(last - MAX_SLOTS + 1, last);
        self.storage().check_has(SCHEMA_OF_OPERATIONS)?;
        let found: BTreeMap<i64, ActivityCounts> =
            self.storage().activity(first * width, width).await?.into_iter().collect();
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let time = |milliseconds| Duration::from_millis(count(milliseconds));
        let slot = |slot: i64| {
            let counts = found.get(&slot).copied().unwrap_or_default();
            ActivitySlot {
                start: Timestamp::from_second(slot * width * 60).unwrap_or(Timestamp::MAX),
                stored: count(counts.stored),
                completed: count(counts.completed),
                retried: count(counts.retried),
                dead_letters: count(counts.dead_letters),
                handler_time: time(counts.handler_ms),
                max_handler_time: time(counts.max_handler_ms),
                max_waiting: count(counts.max_waiting),
                max_overdue: time(counts.max_overdue_ms),
            }
        };
        Ok((first..=last).map(slot).collect())
    }
}
