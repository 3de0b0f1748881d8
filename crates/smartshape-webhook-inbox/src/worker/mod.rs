//! Works off what is stored.

mod handle;
mod pool;
mod retry;
#[cfg(feature = "postgres")]
mod transactional;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler, HandlerError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::{Claimed, Engine, EngineFuture, LONGEST, Lease, Settlement, Verdict, Wanted};
use crate::error::{InboxError, InboxErrorKind};
use crate::inbox::Inbox;
use crate::measure;
pub use handle::WorkerHandle;
use pool::Pool;
use retry::Backoff;
#[cfg(feature = "postgres")]
pub use transactional::{Transactional, TransactionalHandler, TransactionalOutcome};

/// How often what is old enough is deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A shutdown does not wait for what can be left undone.
const TIDY_LIMIT: Duration = Duration::from_secs(1);
/// How long a worker leaves a store alone that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Hands stored events to a handler. Made by [`Inbox::worker`]; does nothing until
/// [`run`](Self::run).
///
/// No attempt starts after its event's completion was recorded; before that, an event may be
/// attempted more than once. An attempt starts when it is recorded in the store.
///
/// - A handler's error is tried again after an exponential back-off, or after the time that
///   [`HandlerError::retry_after`] names; [`HandlerError::permanent`], and too many attempts, make the
///   event a dead letter with the last error. So do lost leases: a handler that kills its process is not
///   called for ever.
/// - [`Delivery::attempt`] tells the handler the attempt's number.
#[must_use = "a worker does nothing until `run`"]
#[derive(Debug)]
pub struct Worker<W> {
    inbox: Inbox,
    work: Arc<W>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    concurrency: usize,
    lease: Duration,
    ordered: bool,
    max_attempts: u32,
    max_lost_leases: u32,
    backoff: Backoff,
    poll: Duration,
    grace: Duration,
}

/// What a worker does with an event; sealed, and implemented by every [`Handler`].
pub trait Work: Send + Sync + 'static {
    /// Called before the first attempt, with the number of attempts there can be at once.
    #[doc(hidden)]
    fn prepare(&self, concurrency: usize) {
        let _ = concurrency;
    }

    #[doc(hidden)]
    fn attempt(&self, lease: Lease, delivery: Delivery) -> impl Future<Output = Worked> + Send;
}

/// How the work on an event ended.
#[doc(hidden)]
#[derive(Debug)]
pub enum Worked {
    /// The handler's own result.
    Handled(Result<(), HandlerError>),
    /// It was handled, and that is recorded already.
    Recorded,
    /// The lease was lost, and everything undone.
    Undone,
}

impl<H: Handler> Work for H {
    async fn attempt(&self, _: Lease, delivery: Delivery) -> Worked {
        Worked::Handled(self.handle(delivery).await)
    }
}

impl<W: Work> Worker<W> {
    pub(crate) fn new(inbox: Inbox, work: W) -> Self {
        let settings = Settings {
            concurrency: 8,
            lease: Duration::from_secs(60),
            ordered: false,
            max_attempts: 10,
            max_lost_leases: 3,
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60 * 60) },
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(25),
        };
        Self { inbox, work: Arc::new(work), settings }
    }

    /// How many events are handled at once. Default 8. The worker fetches no event that it has no
    /// free place for, and holds the bodies of this many in memory.
    pub fn concurrency(mut self, events: usize) -> Self {
        self.settings.concurrency = events;
        self
    }

    /// How long an event is left to a worker that gives no sign of life. Default 60 s. It is
    /// renewed while the handler runs, so a handler may take longer. Much more than
    /// [`store_limit`](crate::InboxBuilder::store_limit), which a slow store may take for each step between two
    /// renewals: at least ten times as long.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.min(LONGEST);
        self
    }

    /// Handles one event of a file at a time, in the order of arrival. An event that fails holds
    /// back its own file only, until it succeeds or is a dead letter. Default: no order. All workers
    /// of a store must agree on it.
    pub fn ordered_by_file(mut self) -> Self {
        self.settings.ordered = true;
        self
    }

    /// After this many attempts an event is a dead letter. Default 10.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// After this many attempts that ended with the process, or with the lease, an event is a dead
    /// letter. Default 3.
    pub fn max_lost_leases(mut self, leases: u32) -> Self {
        self.settings.max_lost_leases = leases;
        self
    }

    /// The wait after a failed attempt: `first`, doubled with each attempt up to `longest`, and cut
    /// by up to half at random. Default 1 s and 1 h.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.backoff = Backoff { first, longest: longest.min(LONGEST) };
        self
    }

    /// How often the worker looks for events that it was not told of. Default 1 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll = interval.min(LONGEST);
        self
    }

    /// How long running handlers get at a shutdown; then they are cancelled, and their events
    /// given back. One that blocks its thread cannot be cancelled, and is left behind. Default 25 s.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace.min(LONGEST);
        self
    }

    /// Works until `shutdown` ends, then finishes what is running, or gives it back. Goes on while
    /// the store is away. Where this future is dropped before, handlers are cancelled, and their leases
    /// count as lost.
    ///
    /// # Errors
    ///
    /// [`InboxErrorKind::Settings`] for a setting that cannot be; [`InboxErrorKind::Locked`] when
    /// another process works on the same file.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), InboxError> {
        self.check()?;
        self.work.prepare(self.settings.concurrency);
        let mut shutdown = std::pin::pin!(shutdown);
        let _seat = tokio::select! {
            seat = self.seat() => seat?,
            () = &mut shutdown => return Ok(()),
        };
        let _running = self.inbox.pulse().start();
        let mut pool = Pool::new(self.inbox.clone(), Arc::clone(&self.work), self.settings.clone());
        let mut chores = Chores { sweep_at: Instant::now(), measure_at: Instant::now(), claim: None };
        self.work_until(&mut pool, &mut chores, shutdown).await;
        let _ = timeout(self.inbox.store_limit(), self.receive(&mut pool, &mut chores)).await;
        if let Some(claim) = chores.claim {
            give_back_later(Arc::clone(self.inbox.engine()), claim);
        }
        pool.finish().await;
        if let Err(error) = within(TIDY_LIMIT, self.inbox.engine().tidy()).await {
            tracing::debug!(%error, "the inbox's store was not put in order at the worker's end");
        }
        Ok(())
    }

    fn check(&self) -> Result<(), InboxError> {
        let settings = &self.settings;
        for (name, zero) in [
            ("concurrency", settings.concurrency == 0),
            ("lease", settings.lease.is_zero()),
            ("max_attempts", settings.max_attempts == 0),
            ("max_lost_leases", settings.max_lost_leases == 0),
            ("poll_interval", settings.poll.is_zero()),
        ] {
            if zero {
                let text = format!("the worker's {name} must not be zero");
                return Err(InboxError::new(InboxErrorKind::Settings, text));
            }
        }
        Ok(())
    }

    /// The engine may be away at the start too.
    async fn seat(&self) -> Result<Box<dyn std::any::Any + Send>, InboxError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.inbox.engine().seat().await {
                Err(error) if error.kind() == InboxErrorKind::Unavailable => {
                    tracing::warn!(%error, "the worker cannot start yet; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    async fn work_until(
        &self,
        pool: &mut Pool<W>,
        chores: &mut Chores,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.inbox.pulse().awake();
            let outcome = tokio::select! {
                biased;
                () = &mut shutdown => return,
                outcome = self.round(pool, chores) => outcome,
            };
            let wait_until = match outcome {
                Ok(next) => {
                    pause = FIRST_PAUSE;
                    next
                }
                Err(error) => {
                    tracing::warn!(%error, "the inbox's store fails; the worker tries again");
                    let until = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tokio::select! {
                        () = sleep_until(until) => continue,
                        () = &mut shutdown => return,
                    }
                }
            };
            if pool.has_results() {
                continue;
            }
            let (renew_at, free, busy) = (pool.renew_at(), pool.free() > 0, pool.is_busy());
            let look = if free { wait_until } else { renew_at };
            self.inbox.pulse().asleep_until(if busy { look.min(renew_at) } else { look });
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = pool.one_ended() => {}
                () = self.inbox.wake().notified(), if free => {}
                () = sleep_until(wait_until), if free => {}
                () = sleep_until(renew_at), if busy => {}
            }
        }
    }

    /// Renews, settles, claims. Returns when to look again at the latest.
    async fn round(&self, pool: &mut Pool<W>, chores: &mut Chores) -> Result<Instant, InboxError> {
        // What runs keeps its leases whatever becomes of results.
        let (renewed, settled) = (pool.renew().await, pool.settle().await);
        renewed.and(settled)?;
        self.do_chores(chores).await?;
        let now = Instant::now();
        let mut next = (now + self.settings.poll).min(chores.sweep_at.max(now));
        if pool.free() > 0 {
            chores.claim.get_or_insert_with(|| self.ask(pool.free()));
            let received = timeout(self.inbox.store_limit(), self.receive(pool, chores)).await;
            if let Some(due) = received.unwrap_or_else(|_| Err(too_slow()))? {
                next = next.min(due);
            }
        }
        Ok(next)
    }

    /// Claims in a task of its own, so that neither a slow store nor a shutdown loses the answer.
    fn ask(&self, places: usize) -> Claim {
        let wanted = Wanted {
            ordered: self.settings.ordered,
            max_attempts: self.settings.max_attempts,
            max_lost_leases: self.settings.max_lost_leases,
            ..Wanted::new(u32::try_from(places).unwrap_or(u32::MAX), self.settings.lease)
        };
        let engine = Arc::clone(self.inbox.engine());
        Claim { asked: Instant::now(), answer: tokio::spawn(async move { engine.claim(wanted).await }) }
    }

    /// Starts what was asked for, if anything was. Returns when the next event is due.
    async fn receive(&self, pool: &mut Pool<W>, chores: &mut Chores) -> Result<Option<Instant>, InboxError> {
        let Some(Claim { asked, answer }) = &mut chores.claim else { return Ok(None) };
        let (asked, answer) = (*asked, answer.await);
        chores.claim = None;
        let claimed = answer.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))??;
        if claimed.buried > 0 {
            measure::buried(claimed.buried);
            tracing::error!(
                events = claimed.buried,
                "events whose workers ended too often are dead letters now"
            );
        }
        // What is due and was not given to us is another's, or waits for something: asking again at
        // once would not change that.
        let next_due = claimed.next_due.filter(|due| !due.is_zero() || !claimed.attempts.is_empty());
        pool.start(claimed.attempts, asked);
        Ok(next_due.map(|due| asked + due.min(LONGEST)))
    }

    async fn do_chores(&self, chores: &mut Chores) -> Result<(), InboxError> {
        let (engine, limit) = (self.inbox.engine(), self.inbox.store_limit());
        if Instant::now() >= chores.sweep_at {
            chores.sweep_at = Instant::now() + SWEEP_EVERY;
            if within(limit, engine.sweep(self.inbox.retention())).await? > 0 {
                // More in the next round: a long sweep must not keep leases and results waiting.
                chores.sweep_at = Instant::now();
            }
        }
        if Instant::now() >= chores.measure_at {
            chores.measure_at = Instant::now() + measure::DEPTH_EVERY;
            measure::depth(&within(limit, engine.stats()).await?);
        }
        Ok(())
    }
}

/// When what is not urgent is done next, and what the store was asked for.
struct Chores {
    sweep_at: Instant,
    measure_at: Instant,
    claim: Option<Claim>,
}

struct Claim {
    asked: Instant,
    answer: JoinHandle<Result<Claimed, InboxError>>,
}

/// What is claimed after the worker has ended would be lost leases.
fn give_back_later(engine: Arc<dyn Engine>, Claim { answer, .. }: Claim) {
    let _detached = tokio::spawn(async move {
        let Ok(Ok(claimed)) = answer.await else { return };
        let settlements = claimed
            .attempts
            .iter()
            .map(|attempt| Settlement { lease: attempt.lease, verdict: Verdict::GivenBack });
        if let Err(error) = engine.settle(settlements.collect()).await {
            tracing::warn!(%error, "attempts that came too late could not be given back; they are made again");
        }
    });
}

async fn within<T>(limit: Duration, answer: EngineFuture<'_, T>) -> Result<T, InboxError> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> InboxError {
    InboxError::new(InboxErrorKind::Unavailable, "the inbox's store did not answer in time")
}
