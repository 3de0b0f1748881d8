//! The inbox: a handler that stores deliveries, and access to the stored events.

mod admin;
mod page;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, DeliveryKey, Handler, HandlerError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::activity::ActivityRecorder;
use crate::batcher::Batcher;
use crate::error::{InboxError, InboxErrorKind};
use crate::event::{StoredDelivery, StoredEvent};
use crate::filter::EventFilter;
use crate::metrics;
use crate::reason::DeadLetterReason;
use crate::settings::InboxBuilder;
use crate::stats::{InboxCounts, InboxStats};
use crate::storage::admin::SCHEMA_OF_REASONS;
use crate::storage::{self, Storage, wake_all};
use crate::worker::{Heartbeat, Worker, WorkerContext};
pub use admin::ActivitySlot;
pub use page::{EventPage, PageCursor};

/// `Retry-After` when the database is unavailable or too slow.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);
/// `Retry-After` when the disk is full or `max_size_bytes` is reached.
const RETRY_FULL: Duration = Duration::from_secs(60);
/// How long [`Inbox::is_ready`] reuses its result. Load balancers ask every few seconds.
const READY_TTL: Duration = Duration::from_secs(1);

/// A durable inbox. As a [`Handler`] it stores each delivery, and returns once the delivery is
/// durable; a [`Worker`] passes the stored events to your own handler. Cheap to clone.
///
/// A delivery whose key is stored already is acknowledged and not stored again, until
/// [`InboxBuilder::dedup_retention`] (14 days) after its completion. When the database is unavailable, full or
/// too slow, the handler fails with [`HandlerError::retry_after`], for which an endpoint responds 503.
///
/// ```
/// use smartshape_webhook::{Delivery, Handler};
/// use smartshape_webhook_inbox::Inbox;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = &folder.path().join("inbox.db").display().to_string();
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let inbox = Inbox::open(path).await?;
///
/// // An endpoint calls the inbox as its handler.
/// let delivery = Delivery::for_test(r#"{"file": "5c6f", "event": "file_uploaded", "data": {},
///     "owner": "test@smartshape.io", "runTimestamp": 1550824748604, "uuid": "a36b623a"}"#)?;
/// assert!(inbox.handle(delivery).await.is_ok());
/// assert_eq!(inbox.stats().await?.waiting, 1);
///
/// let (done, handled) = tokio::sync::oneshot::channel();
/// let done = std::sync::Mutex::new(Some(done));
/// let worker = inbox.worker(move |delivery: Delivery| {
///     let done = done.lock().unwrap().take();
///     async move {
///         println!("{} of {}", delivery.event_name(), delivery.file());
///         done.map(|done| done.send(()));
///         Ok(())
///     }
/// });
/// // The worker shuts down when this future ends.
/// worker.run(async { handled.await.unwrap() }).await?;
/// assert_eq!(inbox.stats().await?.waiting, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    batcher: Batcher,
    worker: WorkerContext,
    /// The last result of [`Inbox::is_ready`], and its time.
    readiness: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl InboxBuilder {
    /// Opens the inbox; creates and migrates its tables if necessary. The tokio runtime that opens it also runs its
    /// I/O, so it has to last as long as the inbox; other runtimes can use the inbox too.
    ///
    /// # Errors
    ///
    /// [`InboxError`] names the cause. While the database is unavailable, opening is retried for
    /// [`connect_timeout`](Self::connect_timeout).
    pub async fn open(self) -> Result<Inbox, InboxError> {
        self.check()?;
        let deadline = Instant::now() + self.connect_timeout;
        let mut pause = Duration::from_millis(100);
        loop {
            let error = match storage::open(&self.url, &self.storage).await {
                Ok(storage) => return Ok(Inbox::with_storage(storage, &self)),
                Err(error) => error,
            };
            let retry_at = Instant::now() + pause;
            if error.kind() != InboxErrorKind::Unavailable || retry_at > deadline {
                return Err(error);
            }
            tracing::warn!(%error, "the inbox cannot be opened yet; trying again");
            tokio::time::sleep_until(retry_at).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

impl Inbox {
    /// Opens an inbox with the default settings. `url` is the path of a file, which is created if it does not exist, or
    /// a `postgres://` URL. With several hosts (`postgres://user@one,two:5433/database`) it writes to the one that is
    /// the primary, also after a failover.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when it cannot be opened. While the database is unavailable, opening is retried for 30 seconds.
    pub async fn open(url: &str) -> Result<Self, InboxError> {
        Self::builder(url).open().await
    }

    /// Opens an inbox with other settings.
    pub fn builder(url: &str) -> InboxBuilder {
        InboxBuilder::new(url)
    }

    pub(crate) fn with_storage(storage: Arc<dyn Storage>, settings: &InboxBuilder) -> Self {
        metrics::describe();
        let worker = WorkerContext {
            activity: ActivityRecorder::start(&storage),
            wake: Arc::default(),
            store_timeout: settings.storage.store_timeout,
            heartbeat: Arc::new(Heartbeat::new()),
            retention: settings.retention,
            storage,
        };
        worker.storage.subscribe(Arc::clone(&worker.wake));
        let batcher = Batcher::new(worker.clone(), settings.order_across_webhooks);
        Self(Arc::new(Inner { batcher, worker, readiness: Arc::default() }))
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.0.worker.storage
    }

    pub(crate) fn wake_workers(&self) {
        wake_all(&self.0.worker.wake);
    }

    /// A worker that passes the stored events to `handler`. Start it with [`Worker::spawn`] or [`Worker::run`].
    pub fn worker<H: Handler>(&self, handler: H) -> Worker {
        Worker::new(self.0.worker.clone(), handler)
    }

    /// A worker whose handler receives a transaction in the inbox's own database. What the handler writes in it is
    /// committed together with the event's completion, so the effect happens exactly once.
    ///
    /// The handler must not commit or roll back. An error fails the attempt, and the transaction is rolled back.
    ///
    /// The inbox does not limit how long the handler or its statements take: the lease is renewed while it runs. A
    /// connection that falls silent would keep a statement waiting forever, so use `tokio::time::timeout` in the
    /// handler, and `SET LOCAL statement_timeout` for what the server does. Once the inbox has found that another
    /// server took over (failover), the handler is cancelled, its transaction is rolled back, and the event is
    /// attempted again.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// let inbox = Inbox::open("postgres://app@db.example/app").await?;
    /// let worker = inbox.transactional_worker(|transaction, delivery| {
    ///     Box::pin(async move {
    ///         sqlx::query("INSERT INTO uploads (file) VALUES ($1)")
    ///             .bind(delivery.file().as_str())
    ///             .execute(&mut **transaction)
    ///             .await?;
    ///         Ok(())
    ///     })
    /// })?;
    /// worker.run(std::future::pending()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InboxErrorKind::InvalidSettings`] when the inbox is not on PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn transactional_worker<F>(&self, handler: F) -> Result<Worker, InboxError>
    where
        F: for<'a> Fn(&'a mut sqlx::PgTransaction<'static>, Delivery) -> crate::TransactionalFuture<'a>
            + Send
            + Sync
            + 'static,
    {
        Worker::transactional(self.0.worker.clone(), Box::new(handler))
    }

    /// A [`DedupStore`](smartshape_webhook::DedupStore) in the inbox's database, for receivers that handle inline and
    /// run in several processes: a delivery that one of them handles or has handled is not handled by another. It has a
    /// table of its own, shares no key with the inbox's events, and needs no worker. Completed deliveries are known for
    /// [`InboxBuilder::dedup_retention`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use smartshape_webhook::{Receiver, Secret};
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// let store = Inbox::open("postgres://app@db.example/app").await?.dedup_store()?;
    /// let receiver = Receiver::builder()
    ///     .secret(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)
    ///     .dedup_store(store, Duration::from_secs(10 * 60)) // a crashed process's claim ends after this time
    ///     .build()?;
    /// # let _ = receiver;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InboxErrorKind::InvalidSettings`] when the inbox is not on PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn dedup_store(&self) -> Result<crate::PostgresDedupStore, InboxError> {
        self.storage().dedup_store(self.0.worker.retention.dedup).ok_or_else(|| {
            let text =
                "a shared deduplication store needs an inbox on PostgreSQL: open one by a postgres:// URL";
            InboxError::new(InboxErrorKind::InvalidSettings, text)
        })
    }

    /// The events that match `filter`, in the order of arrival.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn list(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, InboxError> {
        self.storage().list(filter).await
    }

    /// One event with its body.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn get(&self, key: DeliveryKey) -> Result<Option<StoredDelivery>, InboxError> {
        self.storage().get(key).await
    }

    /// Attempts dead letters again, and completed events whose body was kept. It is the only way to start an
    /// attempt after the event's completion. Returns the number of events.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn replay(&self, filter: EventFilter) -> Result<u64, InboxError> {
        let replayed = self.storage().replay(filter).await?;
        self.wake_workers();
        self.storage().notify();
        Ok(replayed)
    }

    /// Completes events without handling them, except running ones, and deletes their bodies. Late duplicates are
    /// still recognized. Works on a full disk. Returns the number of bodies deleted.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn purge(&self, filter: EventFilter) -> Result<u64, InboxError> {
        self.storage().purge(filter).await
    }

    /// Number of events by state, and the inbox's size.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn stats(&self) -> Result<InboxStats, InboxError> {
        self.storage().stats().await
    }

    /// Number of events by state, counted up to 50,000 each. Takes milliseconds however many events there are, so a
    /// page may show it to many people.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn counts(&self) -> Result<InboxCounts, InboxError> {
        self.storage().counts().await
    }

    /// Why events are dead letters: their errors, grouped when they differ only in ids and long numbers, the most
    /// frequent first, at most `limit`. At most 50,000 dead letters are examined.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, Handler, HandlerError};
    /// use smartshape_webhook_inbox::{EventFilter, Inbox};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// for file in ["5c6aeed079bf3f432d3c929e", "5d10c2aa4fb090280ecc0042"] {
    ///     let event = Delivery::for_test(format!(r#"{{"file": "{file}", "event": "file_uploaded", "data": {{}},
    ///         "owner": "test@smartshape.io", "runTimestamp": 1, "uuid": "{file}"}}"#))?;
    ///     inbox.handle(event).await.map_err(|error| error.to_string())?;
    /// }
    /// let worker = inbox.worker(|delivery: Delivery| async move {
    ///     Err(HandlerError::permanent(format!("no part {}", delivery.file())))
    /// });
    /// let worker = worker.spawn();
    /// while inbox.stats().await?.dead_letters < 2 {
    ///     tokio::task::yield_now().await;
    /// }
    /// worker.shutdown().await?;
    ///
    /// let reasons = inbox.dead_letter_reasons(10).await?;
    /// assert_eq!((&*reasons[0].text, reasons[0].dead_letters), ("no part …", 2));
    /// assert_eq!(inbox.replay(EventFilter::default().reason(reasons[0].id)).await?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails; [`InboxErrorKind::OlderSchema`] when a read-only inbox has the schema of
    /// an older version.
    pub async fn dead_letter_reasons(&self, limit: u32) -> Result<Vec<DeadLetterReason>, InboxError> {
        self.storage().check_has(SCHEMA_OF_REASONS)?;
        self.storage().reasons(limit).await
    }

    /// Checks whether the database can be written to, and whether workers of this process are alive. Returns within
    /// [`InboxBuilder::store_timeout`].
    pub async fn health(&self) -> Health {
        let WorkerContext { storage, store_timeout, heartbeat, .. } = &self.0.worker;
        let storage_error = match tokio::time::timeout(*store_timeout, storage.ping()).await {
            Ok(Ok(())) if self.0.batcher.is_stuck() => {
                Some("the database does not respond to inserts, though it can be reached".to_owned())
            }
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the database did not respond in time".to_owned()),
        };
        Health { storage_error, workers: heartbeat.workers(), stalled: heartbeat.is_stalled() }
    }

    /// Whether [`health`](Self::health) is ready, for a readiness check that anybody may call: the database is pinged
    /// at most once a second, however often it is called. Returns within [`InboxBuilder::store_timeout`].
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// let inbox = smartshape_webhook_inbox::Inbox::open(path).await?;
    /// assert!(!inbox.is_ready().await, "no worker runs");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn is_ready(&self) -> bool {
        // Held during the ping, so that concurrent callers share it.
        let mut readiness = Arc::clone(&self.0.readiness).lock_owned().await;
        if let Some((at, ready)) = *readiness
            && at.elapsed() < READY_TTL
        {
            return ready;
        }
        let inbox = self.clone();
        // The ping is a task of its own, which a caller that leaves does not end: the next one would ping again.
        let pinged = tokio::spawn(async move {
            let ready = inbox.health().await.is_ready();
            *readiness = Some((Instant::now(), ready));
            ready
        });
        pinged.await.unwrap_or(false)
    }
}

impl Handler for Inbox {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let started_at = Instant::now();
        let stored = self.0.batcher.store(delivery.clone()).await;
        metrics::delivery_stored(
            stored.as_ref().map(|new| *new).map_err(|error| &**error),
            started_at.elapsed(),
        );
        match stored {
            Ok(new) => {
                if !new {
                    tracing::debug!(key = %delivery.key(), "the inbox has this delivery already");
                }
                Ok(())
            }
            Err(error) => {
                let retry_after = match error.kind() {
                    InboxErrorKind::Full => RETRY_FULL,
                    _ => RETRY_UNAVAILABLE,
                };
                Err(HandlerError::retry_after(retry_after, error))
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("storage", self.storage()).finish_non_exhaustive()
    }
}

/// The state of an inbox and of this process's workers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why the database cannot be written to; `None` when it can.
    pub storage_error: Option<String>,
    /// Number of workers that run in this process.
    pub workers: usize,
    /// Whether the workers of this process have not reached the database for 30 seconds.
    pub stalled: bool,
}

impl Health {
    /// Whether the database can be written to and a worker of this process is alive.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.storage_error.is_none() && self.workers > 0 && !self.stalled
    }
}
