//! Workers of all processes, pause and resume, and the attempts at one event.

use std::time::Duration;

use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;

use crate::error::InboxError;
use crate::event::error_field;
use crate::inbox::Inbox;

/// A worker that has not reported for longer is not alive. Workers report every 15 seconds.
pub(crate) const WORKER_GONE_AFTER: Duration = Duration::from_secs(60);

/// A worker that runs in some process; see [`Inbox::workers`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The name of its machine, if known.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// The version of this crate that it runs.
    pub version: String,
    /// Maximum number of events that it handles concurrently.
    pub concurrency: u64,
    /// Number of events that it was handling when it last reported.
    pub running: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last reported; it does so every 15 seconds.
    pub seen_at: Timestamp,
}

/// What a worker reports of itself.
#[derive(Clone, Debug)]
pub(crate) struct WorkerReport {
    pub(crate) id: i64,
    pub(crate) host: String,
    pub(crate) concurrency: u64,
    pub(crate) running: u64,
}

/// Workers start no attempts; see [`Inbox::pause`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pause {
    /// When the workers were paused.
    pub since: Timestamp,
    /// Who paused them.
    pub by: String,
}

/// A failed attempt at an event; see [`Inbox::failed_attempts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The number of the attempt. Counts from 1, and again after a replay.
    pub number: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Run time of the handler.
    pub took: Duration,
    /// Its error.
    pub error: String,
}

impl Inbox {
    /// Pauses the workers of all processes: none starts an attempt until [`resume`](Self::resume). Attempts that are
    /// running go on, and deliveries are still stored. The pause is stored, so it also holds after a restart. Workers of
    /// versions before this method do not obey it. `by` says who paused them, for people.
    ///
    /// ```
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = std::env::temp_dir().join(format!("pause-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("inbox.db");
    /// # let path = path.to_str().unwrap();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// inbox.pause("ops").await?;
    /// assert_eq!(inbox.paused().await?.unwrap().by, "ops");
    /// inbox.resume().await?;
    /// assert_eq!(inbox.paused().await?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # std::fs::remove_dir_all(folder)?;
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
        self.storage().paused().await
    }

    /// The workers that are alive, in all processes: those that have reported within the last minute.
    ///
    /// ```
    /// use smartshape_webhook::Delivery;
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = std::env::temp_dir().join(format!("workers-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("inbox.db");
    /// # let path = path.to_str().unwrap();
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
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`paused`](Self::paused).
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, InboxError> {
        self.storage().workers().await
    }

    /// The failed attempts at an event, the earliest first: the latest 20. They are deleted when the event is
    /// completed without its body, or purged. An attempt whose lease was lost is not among them.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, Handler, HandlerError};
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// # let folder = std::env::temp_dir().join(format!("failed-attempts-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("inbox.db");
    /// # let path = path.to_str().unwrap();
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
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`paused`](Self::paused).
    pub async fn failed_attempts(&self, key: DeliveryKey) -> Result<Vec<FailedAttempt>, InboxError> {
        self.storage().failed_attempts(key).await
    }
}
