//! Worker threads that hash tokens, and the bounded queue in front of them.
//!
//! A worker hashes up to [`MAX_LANES`](bcrypt_lanes::MAX_LANES) tokens and secrets side by side (see [`lanes`]).
//!
//! Invariant: a worker never takes the lock that every request takes ([`Verifier`](super::Verifier)'s). Workers publish
//! results in `State::hashed`, and requests move them into the token cache. So a worker that is descheduled in a
//! critical section cannot hold up a request whose token is cached.
//!
//! Lock order: `State`, then `Current`.

mod lanes;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::client_addr::ClientAddr;
use super::fair_queue::{FairQueue, MAX_WAITING};
use super::keyring::Keyring;
use super::token::Token;
use super::{Current, Settings, TokenStatus};
use crate::lock::locked;
use crate::metrics::{QueuedTokenGauge, record_eviction};
use lanes::Worker;

/// Requests that may wait for the same token.
const WAITERS_PER_TOKEN: usize = 256;
/// Requests that may wait in addition to the first one of each token. The queue bounds the number of tokens, so this
/// bounds the number of waiting requests, and the memory that their unread bodies take.
const EXTRA_WAITERS: usize = MAX_WAITING;
/// Assumed time of one unit of work, until it has been measured. On a slower machine the queue grows a little too long
/// once.
const ASSUMED_TIME_PER_UNIT: Duration = Duration::from_micros(900);
/// On a contended core, a worker pauses after a rejected token for this many times the CPU time that it took. A flood
/// of forgeries thus gets 1/31 of the core.
const PAUSE: u32 = 30;
/// Longest pause, as a multiple of `verify_timeout`. With many secrets a hash takes seconds, and thirty times as long
/// would lock out for a minute everyone who shares the forger's address, as all clients behind a proxy do.
const LONGEST_PAUSE: u32 = 4;
/// A pause ends for a token from another client after this fraction of `verify_timeout`: early enough to hash that
/// token before its request times out.
const PAUSE_FOR_OTHER_CLIENTS: u32 = 8;

/// A token could not be verified in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifyBusy {
    pub(crate) why: &'static str,
    pub(crate) retry_in: Duration,
}

const TOO_MANY: &str = "too many requests wait";
const TOO_LATE: &str = "its turn did not come within verify_timeout";

/// Hashes tokens on dedicated threads, at normal priority: at a lower one, other programs that keep all cores busy
/// would lock out every new sender. A hash continues if the request that submitted it is dropped.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

/// The state that requests share with the workers. A request whose token is cached never touches it.
struct Shared {
    state: Mutex<State>,
    /// Notified when a token is queued, and when the workers are dropped.
    queued: Condvar,
    /// Notified only when the workers are dropped; ends a pause.
    end: Condvar,
    timeout: Duration,
    threads: usize,
    /// Measured time of one unit of work. One unit: hashing with one secret at bcrypt cost 4.
    nanos_per_unit: AtomicU64,
    hashes: AtomicU64,
}

struct State {
    queue: FairQueue<QueuedItem>,
    /// Tokens that wait or are being hashed, with the requests that wait for each.
    pending: HashMap<[u8; 60], Vec<Waiter>>,
    /// Waiters in addition to the first one of each token.
    extra_waiters: usize,
    /// Results that no request has moved into the token cache yet.
    hashed: Vec<(Token, Hashed)>,
    keyring: Arc<Keyring>,
    /// Number of started worker threads. The first token to be hashed starts them.
    started: usize,
    /// Whether it was logged that one could not be started: anybody can send the next token.
    start_failure_logged: bool,
    /// Number of workers that wait for a token.
    idle: usize,
    closed: bool,
}

type Waiter = oneshot::Sender<Hashed>;

/// A token in the queue.
struct QueuedItem {
    token: Token,
    gauge: QueuedTokenGauge,
    client: Option<ClientAddr>,
}

/// A token's status, and the secrets it was tried with.
#[derive(Clone)]
pub(crate) struct Hashed {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) status: TokenStatus,
}

impl Workers {
    pub(crate) fn new(keyring: Arc<Keyring>, settings: &Settings) -> Self {
        let shared = Shared {
            state: Mutex::new(State {
                queue: FairQueue::new(),
                pending: HashMap::new(),
                extra_waiters: 0,
                hashed: Vec::new(),
                keyring,
                started: 0,
                start_failure_logged: false,
                idle: 0,
                closed: false,
            }),
            queued: Condvar::new(),
            end: Condvar::new(),
            timeout: settings.verify_timeout,
            threads: settings.verify_threads.max(1),
            nanos_per_unit: AtomicU64::new(ASSUMED_TIME_PER_UNIT.as_nanos() as u64),
            hashes: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// Queues the token. Returns `None` if its status has become known meanwhile.
    pub(crate) fn submit(
        &self,
        current: &Mutex<Current>,
        token: &Token,
        client: Option<ClientAddr>,
    ) -> Result<Option<PendingRequest>, VerifyBusy> {
        let mut state = locked(&self.shared.state);
        self.start_threads(&mut state)?;
        if let Some(joined) = self.join(&mut state, current, token) {
            return joined;
        }
        drop(state);
        // The gauge is made outside the lock, since it calls the metrics recorder, which is foreign code.
        let item = QueuedItem { token: *token, gauge: QueuedTokenGauge::new(), client };
        let mut state = locked(&self.shared.state);
        // Another request may have queued the token, or a worker published its status, while the lock was released.
        if let Some(joined) = self.join(&mut state, current, token) {
            drop(state);
            return joined;
        }
        let work = state.work(token);
        let (waiter, result) = oneshot::channel();
        state.pending.insert(*token.as_bytes(), vec![waiter]);
        let evicted = state.queue.push(token.as_bytes(), client, work, item, self.shared.capacity());
        for item in &evicted {
            // Dropping the waiters tells them, this request perhaps among them.
            drop(state.take_waiters(&item.token));
        }
        drop(state);
        self.shared.queued.notify_one();
        Ok(Some(self.pending_request(token, result)))
    }

    /// Waits with the other requests for the same token. Returns `None` if the token has to be queued.
    fn join(
        &self,
        state: &mut State,
        current: &Mutex<Current>,
        token: &Token,
    ) -> Option<Result<Option<PendingRequest>, VerifyBusy>> {
        let extra = state.extra_waiters;
        if let Some(waiters) = state.pending.get_mut(token.as_bytes()) {
            let is_extra = !waiters.is_empty();
            if waiters.len() >= WAITERS_PER_TOKEN || (is_extra && extra >= EXTRA_WAITERS) {
                return Some(Err(VerifyBusy { why: TOO_MANY, retry_in: self.shared.timeout }));
            }
            let (waiter, result) = oneshot::channel();
            waiters.push(waiter);
            state.extra_waiters += usize::from(is_extra);
            return Some(Ok(Some(self.pending_request(token, result))));
        }
        let is_known = state.hashed.iter().any(|(hashed, _)| hashed.as_bytes() == token.as_bytes())
            || locked(current).tokens.contains(token);
        is_known.then_some(Ok(None))
    }

    /// Waits for the token's status.
    pub(crate) async fn wait(&self, mut request: PendingRequest) -> Result<Hashed, VerifyBusy> {
        let timeout = self.shared.timeout;
        let _held = hold_paused_clock();
        // After a timeout the token stays in the queue, so that its status is cached for the sender's next attempt.
        match tokio::time::timeout(timeout, &mut request.result).await {
            Ok(Ok(hashed)) => Ok(hashed),
            Ok(Err(_)) => Err(VerifyBusy { why: TOO_MANY, retry_in: timeout }),
            Err(_) => Err(VerifyBusy { why: TOO_LATE, retry_in: timeout }),
        }
    }

    /// Moves the workers' results into the token cache. Returns whether there were any.
    pub(crate) fn collect(&self, current: &Mutex<Current>) -> bool {
        let mut state = locked(&self.shared.state);
        if state.hashed.is_empty() {
            return false;
        }
        let mut current = locked(current);
        let hashed = state.hashed.drain(..);
        // A result from replaced secrets is dropped, and its token hashed again.
        let valid =
            hashed.filter(|(_, hashed)| Arc::ptr_eq(&hashed.keyring, &current.keyring)).collect::<Vec<_>>();
        let inserted = valid.iter().map(|(token, hashed)| current.tokens.insert(token, hashed.status));
        let evictions: Vec<_> = inserted.collect();
        drop(current);
        drop(state);
        evictions.into_iter().for_each(record_eviction);
        true
    }

    /// Replaces the secrets by those that `next` makes from the current ones.
    pub(crate) fn replace(&self, current: &Mutex<Current>, next: impl FnOnce(&Keyring) -> Keyring) {
        let mut state = locked(&self.shared.state);
        let mut current = locked(current);
        let next = Arc::new(next(&current.keyring));
        current.tokens.retain_secrets(&next);
        current.keyring = Arc::clone(&next);
        state.keyring = next;
    }

    fn pending_request(&self, token: &Token, result: oneshot::Receiver<Hashed>) -> PendingRequest {
        PendingRequest { result, token: *token, shared: Arc::clone(&self.shared) }
    }

    fn start_threads(&self, state: &mut State) -> Result<(), VerifyBusy> {
        while state.started < self.shared.threads {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name(format!("smartshape-hash-{}", state.started));
            match thread.spawn(move || shared.run()) {
                Ok(_) => state.started += 1,
                // The next token tries again: a limit of threads may have been reached for a moment only.
                Err(error) => {
                    if !std::mem::replace(&mut state.start_failure_logged, true) {
                        tracing::error!(%error, "cannot start a worker thread that hashes tokens");
                    }
                    break;
                }
            }
        }
        if state.started > 0 {
            return Ok(());
        }
        Err(VerifyBusy { why: "no worker thread could be started", retry_in: self.shared.timeout })
    }
}

/// A request that waits for the status of its token. Dropping it frees its slot for another.
pub(crate) struct PendingRequest {
    result: oneshot::Receiver<Hashed>,
    token: Token,
    shared: Arc<Shared>,
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.result.close();
        locked(&self.shared.state).remove_closed_waiters(&self.token);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        locked(&self.shared.state).closed = true;
        self.shared.queued.notify_all();
        self.shared.end.notify_all();
    }
}

impl State {
    /// Work of a token, in units: each secret may have to be tried, and each step of bcrypt cost doubles the time.
    fn work(&self, token: &Token) -> u64 {
        (self.keyring.len() as u64).max(1) << (token.cost() - 4)
    }

    /// Removes a token that is no longer queued or being hashed, and returns its waiters.
    fn take_waiters(&mut self, token: &Token) -> Vec<Waiter> {
        let waiters = self.pending.remove(token.as_bytes()).unwrap_or_default();
        self.extra_waiters -= waiters.len().saturating_sub(1);
        waiters
    }

    fn remove_closed_waiters(&mut self, token: &Token) {
        let Some(waiters) = self.pending.get_mut(token.as_bytes()) else { return };
        let before = waiters.len().saturating_sub(1);
        waiters.retain(|waiter| !waiter.is_closed());
        self.extra_waiters -= before - waiters.len().saturating_sub(1);
    }
}

impl Shared {
    fn run(&self) {
        let mut worker = Worker::new(self);
        while self.wait_for_token() {
            worker.run();
        }
    }

    /// Waits until a token is queued; `false` once the workers are dropped.
    fn wait_for_token(&self) -> bool {
        let mut state = locked(&self.state);
        loop {
            if state.closed {
                return false;
            }
            if !state.queue.is_empty() {
                return true;
            }
            state.idle += 1;
            state = self.queued.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Takes the next token out of the queue if `is_allowed` for its client, with the secrets to try and its work. A
    /// worker that hashes already leaves it to an idle one.
    fn pop(
        &self,
        is_hashing: bool,
        is_allowed: impl FnOnce(Option<ClientAddr>) -> bool,
    ) -> Option<(QueuedItem, Arc<Keyring>, u64)> {
        let mut state = locked(&self.state);
        if state.closed || (is_hashing && state.idle > 0) {
            return None;
        }
        let (item, work) = state.queue.pop(self.capacity(), is_allowed)?;
        Some((item, Arc::clone(&state.keyring), work))
    }

    /// Publishes the status of a token; `None` if a panic kept it from being determined. Its waiters are then dropped,
    /// which rejects their requests as busy.
    fn publish(&self, token: &Token, work: u64, hashed: Option<Hashed>) {
        self.hashes.fetch_add(1, Ordering::Relaxed);
        let mut state = locked(&self.state);
        state.queue.complete(work);
        let waiters = state.take_waiters(token);
        state.hashed.extend(hashed.clone().map(|hashed| (*token, hashed)));
        drop(state);
        if let Some(hashed) = hashed {
            for waiter in waiters {
                // It fails for a waiter that left. The request's waker is foreign code.
                let _ = catch_panic(|| waiter.send(hashed.clone()));
            }
        }
    }

    /// Pauses after rejected tokens of these clients, and returns for how long. A client pays for its own forgeries
    /// only, so the pause ends soon when a token from another client waits.
    fn pause(&self, pause: Duration, forgers: &[Option<ClientAddr>]) -> Duration {
        let started_at = Instant::now();
        let pause = pause.min(self.timeout * LONGEST_PAUSE);
        let step = self.timeout / PAUSE_FOR_OTHER_CLIENTS;
        let mut state = locked(&self.state);
        loop {
            let left = pause.saturating_sub(started_at.elapsed());
            if left.is_zero()
                || state.closed
                || (started_at.elapsed() >= step
                    && forgers.iter().any(|forger| state.queue.has_other_flow(*forger)))
            {
                return started_at.elapsed().min(pause);
            }
            // Only the end wakes it; a new token is noticed at the next step.
            let waited = self.end.wait_timeout(state, left.min(step));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The work that all workers can do within the timeout.
    fn capacity(&self) -> u64 {
        let nanos = self.timeout.as_nanos().saturating_mul(self.threads as u128);
        u64::try_from(nanos).unwrap_or(u64::MAX) / self.nanos_per_unit.load(Ordering::Relaxed).max(1)
    }

    /// Updates the measured time of a unit of work: a moving average in which a sample has a weight of an eighth.
    fn record_time_per_unit(&self, took: Duration, work: u64) {
        let sample = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / work.max(1);
        let before = self.nanos_per_unit.load(Ordering::Relaxed);
        self.nanos_per_unit.store((before / 8 * 7).saturating_add(sample / 8).max(1), Ordering::Relaxed);
    }
}

fn catch_panic<T>(run: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).ok()
}

/// The pause after a rejected token that took `took`, of which its thread had a core for `cpu`. Rises linearly with the
/// time that other threads had the core: from zero, when they had half as much as this one (a third of the core), to
/// [`PAUSE`] times `cpu`, when they had as much as this one. A sender that knows a secret never causes a pause.
fn pause(took: Duration, cpu: Option<Duration>) -> Duration {
    // Where the system does not tell the CPU time, the core counts as contended.
    let cpu = cpu.unwrap_or(took / 2);
    // Threads that want less than a third of the core get it beside a worker that never pauses.
    took.saturating_sub(cpu).min(cpu).saturating_sub(cpu / 2) * (2 * PAUSE)
}

/// CPU time of this thread so far.
fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).ok()
    }
    #[cfg(not(unix))]
    None
}

/// Keeps tokio's paused clock, which tests use, from advancing until the returned sender is dropped. A paused clock
/// advances to the next timer when the runtime is idle. The runtime does not know that it waits for our threads, but it
/// does know of blocking tasks.
fn hold_paused_clock() -> Option<std::sync::mpsc::Sender<()>> {
    let before = Instant::now();
    let clock = tokio::time::Instant::now().into_std();
    if (before..=Instant::now()).contains(&clock) {
        return None;
    }
    let (held, released) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || released.recv());
    Some(held)
}

#[cfg(test)]
mod tests;
