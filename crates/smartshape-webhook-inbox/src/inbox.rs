//! The inbox: a handler that stores, and what can be done with what is stored.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use smartshape_webhook::{Delivery, DeliveryKey, Handler, HandlerError};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::builder::InboxBuilder;
use crate::engine::{Engine, Retention};
use crate::error::{InboxError, InboxErrorKind};
use crate::intake::Intake;
use crate::measure;
use crate::record::{Filter, Stats, StoredDelivery, StoredEvent};
use crate::worker::Worker;

/// What a sender is told to wait when the store is not reachable, or too slow.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);
/// What a sender is told to wait when there is no space.
const RETRY_FULL: Duration = Duration::from_secs(60);

/// A durable inbox. As a [`Handler`] it stores each delivery, and returns once the delivery is
/// durable; a [`Worker`] hands what is stored to your own handler. Cheap to clone.
///
/// A delivery whose key is known already is not stored again, as long as its row or its tombstone
/// lives: 14 days by default, [`InboxBuilder::keep_tombstones`]. Where the store is down, full or
/// too slow, the handler fails with [`HandlerError::retry_after`], which an endpoint answers 503.
///
/// ```
/// use smartshape_webhook::{Delivery, Handler};
/// use smartshape_webhook_inbox::Inbox;
///
/// # let folder = std::env::temp_dir().join(format!("inbox-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("inbox.db");
/// # let path = path.to_str().unwrap();
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let inbox = Inbox::open(path).await?;
///
/// // This is what an endpoint does with it.
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
/// // It stops when this future ends.
/// worker.run(async { handled.await.unwrap() }).await?;
/// assert_eq!(inbox.stats().await?.waiting, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Inbox(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    intake: Intake,
    wake: Arc<Notify>,
    retention: Retention,
    store_limit: Duration,
    looked: Mutex<Option<(Instant, bool)>>,
    pulse: Pulse,
    #[cfg(feature = "postgres")]
    transactions: Option<Arc<crate::engine::postgres::Transactions>>,
}

impl Inbox {
    /// Opens an inbox with the default settings: a file of this path, created where there is none,
    /// or the database that a `postgres://` URL names.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when it cannot be used; a server that cannot be reached is tried again for
    /// 30 s before.
    pub async fn open(place: &str) -> Result<Self, InboxError> {
        Self::builder(place).open().await
    }

    /// Opens an inbox with other settings.
    pub fn builder(place: &str) -> InboxBuilder {
        InboxBuilder::new(place)
    }

    /// An inbox on an engine of your own.
    ///
    /// `settings` are those that do not concern opening; [`Inbox::builder`] of any place makes them.
    #[must_use]
    pub fn with_engine(engine: Arc<dyn Engine>, settings: &InboxBuilder) -> Self {
        Self::assemble(engine, settings)
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.engine
    }

    pub(crate) fn assemble(engine: Arc<dyn Engine>, settings: &InboxBuilder) -> Self {
        measure::describe();
        let wake = Arc::new(Notify::new());
        engine.watch(Arc::clone(&wake));
        Self(Arc::new(Inner {
            intake: Intake::new(
                Arc::clone(&engine),
                Arc::clone(&wake),
                settings.store_limit,
                settings.one_order,
            ),
            engine,
            wake,
            retention: Retention {
                capacity: settings.capacity,
                ..Retention::new(settings.tombstones, settings.bodies)
            },
            store_limit: settings.store_limit,
            looked: Mutex::const_new(None),
            pulse: Pulse::new(),
            #[cfg(feature = "postgres")]
            transactions: None,
        }))
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn with_transactions(self, transactions: Arc<crate::engine::postgres::Transactions>) -> Self {
        let Ok(mut inner) = Arc::try_unwrap(self.0).map_err(drop) else {
            unreachable!("an inbox that was just assembled has one owner")
        };
        inner.transactions = Some(transactions);
        Self(Arc::new(inner))
    }

    /// A worker that hands the stored events to `handler`. Start it with [`Worker::run`].
    pub fn worker<H: Handler>(&self, handler: H) -> Worker<H> {
        Worker::new(self.clone(), handler)
    }

    /// A worker whose handler gets a transaction of the inbox's own database: what it writes there
    /// and the event's completion are committed together, so the effect happens exactly once.
    ///
    /// The handler must not commit or roll back by itself. It fails the attempt by an error, upon
    /// which all of it is rolled back.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use smartshape_webhook_inbox::Inbox;
    ///
    /// let inbox = Inbox::open("postgres://app@db.example/app").await?;
    /// let worker = inbox.transactional(|transaction, delivery| {
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
    /// [`InboxErrorKind::Settings`] when the inbox is not on PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn transactional<F>(&self, handler: F) -> Result<Worker<crate::Transactional<F>>, InboxError>
    where
        F: for<'a> Fn(&'a mut sqlx::PgTransaction<'static>, Delivery) -> crate::TransactionalOutcome<'a>
            + Send
            + Sync
            + 'static,
    {
        let Some(transactions) = &self.0.transactions else {
            let text = "a transactional worker needs an inbox on PostgreSQL: open one by a postgres:// URL";
            return Err(InboxError::new(InboxErrorKind::Settings, text));
        };
        let work =
            crate::Transactional::new(Arc::clone(transactions), !self.0.retention.bodies.is_zero(), handler);
        Ok(Worker::new(self.clone(), work))
    }

    /// The events that `filter` means, in the order of arrival.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the store fails, as for all that follow.
    pub async fn list(&self, filter: Filter) -> Result<Vec<StoredEvent>, InboxError> {
        self.0.engine.list(filter).await
    }

    /// One event with its body.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the store fails.
    pub async fn show(&self, key: DeliveryKey) -> Result<Option<StoredDelivery>, InboxError> {
        self.0.engine.show(key).await
    }

    /// Lets dead events wait anew, and completed ones whose body was kept: the one way to have an
    /// attempt start after the event's completion. Returns how many.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the store fails.
    pub async fn replay(&self, filter: Filter) -> Result<u64, InboxError> {
        let replayed = self.0.engine.replay(filter).await?;
        self.0.wake.notify_one();
        self.0.engine.announce();
        Ok(replayed)
    }

    /// Gives up on events, those at work left out, and deletes their bodies. Their tombstones stay,
    /// so that late duplicates are still known. Works on a full disk. Returns how many bodies were deleted.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the store fails.
    pub async fn purge(&self, filter: Filter) -> Result<u64, InboxError> {
        self.0.engine.purge(filter).await
    }

    /// How full it is.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the store fails.
    pub async fn stats(&self) -> Result<Stats, InboxError> {
        self.0.engine.stats().await
    }

    /// Whether the store can be written to, and whether workers of this process are alive: for a
    /// readiness check. Returns within the store's time limit.
    pub async fn health(&self) -> Health {
        let ping = tokio::time::timeout(self.0.store_limit, self.0.engine.ping()).await;
        let store = match ping {
            Ok(Ok(())) if self.0.intake.is_stuck() => {
                Some("the store does not answer, though it can be reached".to_owned())
            }
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store did not answer in time".to_owned()),
        };
        Health {
            store,
            workers: self.0.pulse.workers.load(Ordering::Relaxed),
            stalled: self.0.pulse.is_stalled(),
        }
    }

    /// Whether [`health`](Self::health) is ready, for a readiness check that strangers may reach: the store is asked at
    /// most once a second, whoever asks and how often. Returns within the store's time limit.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let folder = std::env::temp_dir().join(format!("ready-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("inbox.db");
    /// # let path = path.to_str().unwrap();
    /// let inbox = smartshape_webhook_inbox::Inbox::open(path).await?;
    /// assert!(!inbox.is_ready().await, "no worker runs");
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn is_ready(&self) -> bool {
        // Held meanwhile, so that those who ask at once share one look.
        let mut looked = self.0.looked.lock().await;
        if let Some((at, ready)) = *looked
            && at.elapsed() < READY_FOR
        {
            return ready;
        }
        let ready = self.health().await.is_ready();
        *looked = Some((Instant::now(), ready));
        ready
    }

    pub(crate) fn retention(&self) -> Retention {
        self.0.retention
    }

    pub(crate) fn store_limit(&self) -> Duration {
        self.0.store_limit
    }

    pub(crate) fn wake(&self) -> &Notify {
        &self.0.wake
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }
}

impl Handler for Inbox {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let began = Instant::now();
        let stored = self.0.intake.store(delivery.clone()).await;
        measure::stored(stored.as_ref().map(|fresh| *fresh).map_err(|error| &**error), began.elapsed());
        match stored {
            Ok(fresh) => {
                if !fresh {
                    tracing::debug!(key = %delivery.key(), "the inbox has this delivery already");
                }
                Ok(())
            }
            Err(error) => {
                let wait = match error.kind() {
                    InboxErrorKind::Full => RETRY_FULL,
                    _ => RETRY_UNAVAILABLE,
                };
                Err(HandlerError::retry_after(wait, error))
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("engine", &self.0.engine).finish_non_exhaustive()
    }
}

/// How an inbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why the store cannot be written to; `None` when it can.
    pub store: Option<String>,
    /// Workers that run in this process.
    pub workers: usize,
    /// Whether no worker of this process has reached the store lately.
    pub stalled: bool,
}

impl Health {
    /// Whether the store can be written to and a worker of this process is alive.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store.is_none() && self.workers > 0 && !self.stalled
    }
}

/// Signs of life of this process's workers.
pub(crate) struct Pulse {
    workers: AtomicUsize,
    born: Instant,
    /// Until then a worker may be silent. Milliseconds after `born`.
    silent_until: AtomicU64,
}

/// A worker that runs.
pub(crate) struct Running<'a>(&'a Pulse);

/// Load balancers ask every few seconds.
const READY_FOR: Duration = Duration::from_secs(1);

/// A healthy worker reaches the store far more often.
const STALLED_AFTER: Duration = Duration::from_secs(30);

impl Pulse {
    fn new() -> Self {
        Self { workers: AtomicUsize::new(0), born: Instant::now(), silent_until: AtomicU64::new(0) }
    }

    pub(crate) fn start(&self) -> Running<'_> {
        self.workers.fetch_add(1, Ordering::Relaxed);
        self.asleep_until(Instant::now());
        Running(self)
    }

    /// A worker that has reached the store rests.
    pub(crate) fn asleep_until(&self, time: Instant) {
        self.silent_until.store(self.age(time), Ordering::Relaxed);
    }

    /// It turns to the store again, maybe earlier than it meant to.
    pub(crate) fn awake(&self) {
        self.silent_until.fetch_min(self.age(Instant::now()), Ordering::Relaxed);
    }

    fn is_stalled(&self) -> bool {
        let late = self.age(Instant::now()).saturating_sub(self.silent_until.load(Ordering::Relaxed));
        Duration::from_millis(late) > STALLED_AFTER
    }

    fn age(&self, time: Instant) -> u64 {
        u64::try_from(time.duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::Relaxed);
    }
}
