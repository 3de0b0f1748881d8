//! The worker: claims events, runs the handler, records the results.
//!
//! All of that is the loop in [`run`]. Sweeps and the gauges run beside it, since each portion of a sweep, and each
//! count, may take long.

mod background;
mod backoff;
mod handle;
mod heartbeat;
mod run;
#[cfg(feature = "postgres")]
mod transactional;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler, HandlerError, HandlerErrorKind};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::activity::ActivityRecorder;
use crate::error::{InboxError, InboxErrorKind};
use crate::event::error_field;
use crate::storage::{FAR_FUTURE, Lease, Retention, Storage, WorkerGuard};
use backoff::Backoff;
pub use handle::WorkerHandle;
pub(crate) use heartbeat::Heartbeat;
use run::WorkerLoop;
#[cfg(feature = "postgres")]
pub use transactional::TransactionalFuture;

/// Interval of claims without a notification. Another process may have stored an event, and on SQLite nothing
/// notifies of that.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A shutdown does not wait longer for the checkpoint, which the next process can do as well.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between retries after the database has failed.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What the inbox shares with its workers.
#[derive(Clone)]
pub(crate) struct WorkerContext {
    pub(crate) storage: Arc<dyn Storage>,
    /// Notified when an event was stored or replayed, and when workers are resumed.
    pub(crate) wake: Arc<Notify>,
    pub(crate) store_timeout: Duration,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) activity: Arc<ActivityRecorder>,
    pub(crate) retention: Retention,
}

impl WorkerContext {
    fn keep_body(&self) -> bool {
        !self.retention.bodies.is_zero()
    }
}

/// Passes stored events to a handler. Made by [`Inbox::worker`](crate::Inbox::worker); start it with
/// [`spawn`](Self::spawn) or [`run`](Self::run).
///
/// No attempt starts after its event's completion was recorded; before that, an event may be
/// attempted more than once. An attempt starts when it is recorded in the database.
///
/// - A failed attempt is retried after an exponential back-off, or after the time of [`HandlerError::retry_after`] if
///   that is later. [`HandlerError::permanent`] or too many attempts make the event a dead letter with the last error.
///   So do too many lost leases (see [`max_lost_leases`](Self::max_lost_leases)), so that a handler that kills its
///   process is not called forever.
/// - [`Delivery::attempt`] is the number of the attempt.
#[must_use = "a worker does nothing until `spawn` or `run`"]
pub struct Worker {
    context: WorkerContext,
    handler: Arc<dyn EventHandler>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    concurrency: usize,
    lease_ttl: Duration,
    ordered: bool,
    max_attempts: u32,
    max_lost_leases: u32,
    backoff: Backoff,
    poll_interval: Duration,
    shutdown_timeout: Duration,
}

type AttemptFuture<'a> = Pin<Box<dyn Future<Output = AttemptEnd> + Send + 'a>>;

/// Handles an event: a [`Handler`], or one within a transaction.
trait EventHandler: Send + Sync + 'static {
    /// Called before the first attempt.
    fn prepare(&self, concurrency: usize) {
        let _ = concurrency;
    }

    fn attempt(&self, lease: Lease, delivery: Delivery) -> AttemptFuture<'_>;
}

/// How an attempt ended. Made within the attempt's own task: an error's text comes from the handler's code,
/// which may panic or take long there.
enum AttemptEnd {
    Succeeded,
    Failed {
        kind: HandlerErrorKind,
        error: String,
    },
    /// The handler succeeded, and the event's completion is recorded already.
    #[cfg(feature = "postgres")]
    AlreadyCompleted,
    /// The lease was lost, and the handler's transaction was rolled back.
    #[cfg(feature = "postgres")]
    LeaseLost,
}

impl From<Result<(), HandlerError>> for AttemptEnd {
    fn from(returned: Result<(), HandlerError>) -> Self {
        match returned {
            Ok(()) => Self::Succeeded,
            Err(error) => Self::Failed { kind: error.kind(), error: error_field(&error.display_chain()) },
        }
    }
}

struct HandlerAdapter<H>(H);

impl<H: Handler> EventHandler for HandlerAdapter<H> {
    fn attempt(&self, _: Lease, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(async move { self.0.handle(delivery).await.into() })
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn new(context: WorkerContext, handler: impl Handler) -> Self {
        Self::with_handler(context, Arc::new(HandlerAdapter(handler)))
    }

    fn with_handler(context: WorkerContext, handler: Arc<dyn EventHandler>) -> Self {
        let settings = Settings {
            concurrency: 8,
            lease_ttl: (context.store_timeout * 10).clamp(Duration::from_secs(60), FAR_FUTURE),
            ordered: false,
            max_attempts: 10,
            max_lost_leases: 3,
            backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60 * 60) },
            poll_interval: POLL_INTERVAL,
            shutdown_timeout: Duration::from_secs(25),
        };
        Self { context, handler, settings }
    }

    /// Maximum number of events handled concurrently. The worker claims no more, and holds their bodies in memory.
    /// Defaults to 8.
    pub fn concurrency(mut self, events: usize) -> Self {
        self.settings.concurrency = events;
        self
    }

    /// How long an event stays leased to a worker that does not renew its lease, because its process has ended.
    /// Leases are renewed while handlers run, so a handler may take longer. Should be at least ten times
    /// [`store_timeout`](crate::InboxBuilder::store_timeout), which a slow database may take for each step between two
    /// renewals. Defaults to 60 seconds, or to ten times the timeout if that is longer.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.settings.lease_ttl = ttl.min(FAR_FUTURE);
        self
    }

    /// Handles the events of a file and webhook one at a time, in the order of arrival; see
    /// [`order_across_webhooks`](crate::InboxBuilder::order_across_webhooks). A failing event holds back the later
    /// events of its file and webhook until it succeeds or is a dead letter. All workers of an inbox must use the same
    /// order. By default, events are not ordered.
    pub fn ordered_by_file(mut self) -> Self {
        self.settings.ordered = true;
        self
    }

    /// Maximum number of attempts; then the event is a dead letter. Defaults to 10, which with the default
    /// back-off are over in 4 to 9 minutes.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// Maximum number of attempts that end without a result, because the process ended or the lease was lost; then the
    /// event is a dead letter. Defaults to 3.
    pub fn max_lost_leases(mut self, leases: u32) -> Self {
        self.settings.max_lost_leases = leases;
        self
    }

    /// The pause after a failed attempt: `initial`, doubled with each attempt up to `max`, and reduced
    /// by up to half at random. Defaults to 1 second and 1 hour.
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.settings.backoff = Backoff { initial, max: max.min(FAR_FUTURE) };
        self
    }

    /// Maximum time that a shutdown waits for running handlers, and for a database that is unavailable to record their
    /// results; then they are cancelled, and their events released: the attempt does not count. A handler that blocks
    /// its thread cannot be cancelled, and keeps its lease, and on SQLite the lock of the file. Defaults to 25 seconds.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.settings.shutdown_timeout = timeout.min(FAR_FUTURE);
        self
    }

    #[cfg(test)]
    pub(crate) fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval.min(FAR_FUTURE);
        self
    }

    /// Runs until `shutdown` completes, then waits for running handlers as [`shutdown_timeout`](Self::shutdown_timeout)
    /// describes. Keeps retrying while the database is unavailable or its disk full. Dropping this future cancels the
    /// handlers; their leases have to expire, and count as lost.
    ///
    /// # Errors
    ///
    /// [`InboxErrorKind::InvalidSettings`] for an invalid setting; [`InboxErrorKind::Locked`] when
    /// the worker of another process holds the lock of the file.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), InboxError> {
        self.settings.check()?;
        self.handler.prepare(self.settings.concurrency);
        let mut shutdown = std::pin::pin!(shutdown);
        let guard = tokio::select! {
            guard = self.lock() => guard?,
            () = &mut shutdown => return Ok(()),
        };
        let Self { context, handler, settings } = self;
        let _running = context.heartbeat.start();
        let mut worker_loop = WorkerLoop::new(context.clone(), handler, settings, Arc::clone(&guard));
        let id = worker_loop.id();
        tokio::select! {
            () = worker_loop.run_until(shutdown) => {}
            never = background::sweep(&*context.storage, context.retention) => match never {},
            never = background::update_gauges(&context) => match never {},
        }
        worker_loop.shut_down().await;
        let gone = context.storage.remove_worker(id);
        if let Err(error) = within(CHECKPOINT_TIMEOUT, gone).await {
            tracing::debug!(%error, "the worker is still listed as alive, for a minute");
        }
        let _ = timeout(CHECKPOINT_TIMEOUT, context.activity.flush(&*context.storage)).await;
        if let Err(error) = within(CHECKPOINT_TIMEOUT, context.storage.checkpoint()).await {
            tracing::debug!(%error, "the inbox's log was not checkpointed at the worker's shutdown");
        }
        drop(guard);
        Ok(())
    }

    /// The database may be unavailable, or its disk full, at the start too.
    async fn lock(&self) -> Result<WorkerGuard, InboxError> {
        let mut pause = MIN_PAUSE;
        loop {
            match self.context.storage.lock_worker().await {
                Err(error) if matches!(error.kind(), InboxErrorKind::Unavailable | InboxErrorKind::Full) => {
                    tracing::warn!(%error, "the worker cannot start yet; trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                result => return result,
            }
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), InboxError> {
        for (name, is_zero) in [
            ("concurrency", self.concurrency == 0),
            ("lease_ttl", self.lease_ttl.is_zero()),
            ("max_attempts", self.max_attempts == 0),
            ("max_lost_leases", self.max_lost_leases == 0),
        ] {
            if is_zero {
                let text = format!("the worker's {name} must not be zero");
                return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
            }
        }
        Ok(())
    }
}

async fn within<T>(
    limit: Duration,
    response: impl Future<Output = Result<T, InboxError>>,
) -> Result<T, InboxError> {
    timeout(limit, response).await.unwrap_or_else(|_| Err(timed_out()))
}

fn timed_out() -> InboxError {
    InboxError::new(InboxErrorKind::Unavailable, "the inbox's database did not respond in time")
}
