//! Workers of all processes, pause and resume, and the failed attempts at an event.

use smartshape_webhook::DeliveryKey;

use super::Inbox;
use crate::error::InboxError;
use crate::event::error_field;
use crate::storage::admin::{FailedAttempt, Pause, SCHEMA_OF_OPERATIONS, WorkerInfo};

impl Inbox {
    /// Pauses the workers of all processes: none starts an attempt until [`resume`](Self::resume). Attempts that are
    /// running go on, and deliveries are still stored. The pause is stored, so it also holds after a restart. Workers of
    /// versions before this method do not obey it. `by` says who paused them, for people.
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
}
