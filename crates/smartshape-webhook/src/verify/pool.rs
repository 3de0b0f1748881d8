//! The hashing threads and their bounded queue.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::line::{Line, MAX_WAITING};
use super::{Settings, Shared, Verdict};
use crate::lock::locked;
use crate::measure::WaitingToken;
use crate::source::Source;
use crate::token::Token;

/// Askers that may wait for one and the same token.
const ASKERS_PER_TOKEN: usize = 256;
/// Askers that may wait beyond the first of each token. With those, which the line bounds, this bounds the requests
/// that are held up, whatever they have sent ahead.
const LATER_ASKERS: usize = MAX_WAITING;
/// What one round at the lowest cost takes until it has been measured. A machine that is slower
/// than this lets the queue grow a little too long once, and then knows.
const ASSUMED_UNIT: Duration = Duration::from_micros(900);

/// The token could not be checked in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashingBusy {
    pub(crate) why: &'static str,
    pub(crate) retry_in: Duration,
}

const TOO_MANY: &str = "too many wait";
const TOO_LATE: &str = "its turn did not come within hash_wait; where other work keeps the cores busy, \
                        see hash_at_lowest_priority";

/// Hashes on a few threads of its own, by default at the lowest priority that the system gives:
/// serving known senders always goes first. A hash belongs to the pool and not to whoever asked first, so
/// an asker who leaves undoes nothing.
pub(crate) struct Pool {
    queue: Arc<Queue>,
    lowest_priority: bool,
}

struct Queue {
    shared: Arc<Shared>,
    state: Mutex<State>,
    work: Condvar,
    max_wait: Duration,
    threads: usize,
    /// Measured nanoseconds of one unit: one secret at the lowest cost.
    unit_nanos: AtomicU64,
    hashes: AtomicU64,
}

struct State {
    line: Line<(Token, WaitingToken)>,
    /// Every token that waits or is at work, with who wants to know.
    asked: HashMap<[u8; 60], Vec<Asker>>,
    /// Of all tokens, the askers beyond the first of each.
    later: usize,
    started: bool,
    closed: bool,
}

type Asker = oneshot::Sender<Option<Verdict>>;

impl Pool {
    pub(crate) fn new(shared: Arc<Shared>, settings: &Settings) -> Self {
        let queue = Queue {
            shared,
            state: Mutex::new(State {
                line: Line::new(),
                asked: HashMap::new(),
                later: 0,
                started: false,
                closed: false,
            }),
            work: Condvar::new(),
            max_wait: settings.hash_wait,
            threads: settings.hash_threads.max(1),
            unit_nanos: AtomicU64::new(ASSUMED_UNIT.as_nanos() as u64),
            hashes: AtomicU64::new(0),
        };
        Self { queue: Arc::new(queue), lowest_priority: settings.lowest_priority }
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.queue.hashes.load(Ordering::Relaxed)
    }

    /// Takes the token into the queue at once (not when first polled), then waits.
    pub(crate) fn hash(
        &self,
        token: Token,
        source: Option<Source>,
    ) -> impl Future<Output = Result<Verdict, HashingBusy>> + Send + use<> {
        let asked = self.ask(token, source);
        let max_wait = self.queue.max_wait;
        async move {
            let mut waiting = match asked? {
                Asked::Recalled(verdict) => return Ok(verdict),
                Asked::Waiting(waiting) => waiting,
            };
            // A token that is in line when the wait ends stays there; its verdict meets the sender's next attempt.
            match tokio::time::timeout(max_wait, &mut waiting.verdict).await {
                Ok(Ok(Some(verdict))) => Ok(verdict),
                Ok(Ok(None) | Err(_)) => Err(HashingBusy { why: TOO_MANY, retry_in: max_wait }),
                Err(_) => Err(HashingBusy { why: TOO_LATE, retry_in: max_wait }),
            }
        }
    }

    fn ask(&self, token: Token, source: Option<Source>) -> Result<Asked, HashingBusy> {
        let (sender, verdict) = oneshot::channel();
        let mut state = locked(&self.queue.state);
        let later = state.later;
        if let Some(askers) = state.asked.get_mut(token.as_bytes()) {
            let is_later = !askers.is_empty();
            if askers.len() >= ASKERS_PER_TOKEN || (is_later && later >= LATER_ASKERS) {
                return Err(HashingBusy { why: TOO_MANY, retry_in: self.queue.max_wait });
            }
            askers.push(sender);
            state.later += usize::from(is_later);
            return Ok(self.waiting(token, verdict));
        }
        // The verdict may have been reached between the caller's look and this lock.
        if let Some((verdict, _)) = self.queue.shared.recall(&token) {
            return Ok(Asked::Recalled(verdict));
        }
        self.start_threads(&mut state)?;
        let units = self.queue.units(&token);
        state.asked.insert(*token.as_bytes(), vec![sender]);
        let item = (token, WaitingToken::new());
        for (sent_away, _) in state.line.enter(token.as_bytes(), source, units, item, self.queue.room()) {
            // Who asked learns it by this; so does the caller, if it is the one.
            state.forget(&sent_away);
        }
        drop(state);
        self.queue.work.notify_one();
        Ok(self.waiting(token, verdict))
    }

    fn waiting(&self, token: Token, verdict: oneshot::Receiver<Option<Verdict>>) -> Asked {
        Asked::Waiting(Waiting { verdict, token, queue: Arc::clone(&self.queue) })
    }

    fn start_threads(&self, state: &mut State) -> Result<(), HashingBusy> {
        if state.started {
            return Ok(());
        }
        for number in 0..self.queue.threads {
            let (queue, lowest_priority) = (Arc::clone(&self.queue), self.lowest_priority);
            let spawned =
                std::thread::Builder::new().name(format!("smartshape-hash-{number}")).spawn(move || {
                    if lowest_priority {
                        lower_priority();
                    }
                    queue.run();
                });
            match spawned {
                Ok(_) => state.started = true,
                Err(error) => tracing::error!(%error, "cannot start a hashing thread"),
            }
        }
        if state.started {
            return Ok(());
        }
        Err(HashingBusy { why: "no hashing thread could be started", retry_in: self.queue.max_wait })
    }
}

enum Asked {
    Recalled(Verdict),
    Waiting(Waiting),
}

/// An asker. Whoever leaves before the verdict makes room for another.
struct Waiting {
    verdict: oneshot::Receiver<Option<Verdict>>,
    token: Token,
    queue: Arc<Queue>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.verdict.close();
        locked(&self.queue.state).forget_who_left(&self.token);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        locked(&self.queue.state).closed = true;
        self.queue.work.notify_all();
    }
}

impl State {
    /// Who asked for a token that is no longer in line or at work.
    fn forget(&mut self, token: &Token) -> Vec<Asker> {
        let askers = self.asked.remove(token.as_bytes()).unwrap_or_default();
        self.later -= askers.len().saturating_sub(1);
        askers
    }

    fn forget_who_left(&mut self, token: &Token) {
        let Some(askers) = self.asked.get_mut(token.as_bytes()) else { return };
        let before = askers.len().saturating_sub(1);
        askers.retain(|asker| !asker.is_closed());
        self.later -= before - askers.len().saturating_sub(1);
    }
}

impl Queue {
    fn run(&self) {
        while let Some(((token, waiting), units)) = self.next() {
            let hashing = waiting.begin();
            let begun = Instant::now();
            let judge = AssertUnwindSafe(|| self.shared.judge(&token, &hashing));
            let verdict = std::panic::catch_unwind(judge).ok();
            self.hashes.fetch_add(1, Ordering::Relaxed);
            if verdict == Some(Verdict::MatchesNone) {
                // Only then was every secret tried, so that the time stands for all units.
                self.measured(begun.elapsed(), units);
            }
            hashing.end();
            let mut state = locked(&self.state);
            state.line.done(units);
            let askers = state.forget(&token);
            drop(state);
            for asker in askers {
                // An asker that left no longer wants to know.
                let _ = asker.send(verdict);
            }
        }
    }

    fn next(&self) -> Option<((Token, WaitingToken), u64)> {
        let mut state = locked(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = state.line.next(self.room()) {
                return Some(next);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a token is charged: every secret may have to be tried, and each cost doubles.
    fn units(&self, token: &Token) -> u64 {
        (self.shared.keyring().len() as u64).max(1) << (token.cost() - 4)
    }

    /// The units that all threads do in the longest wait.
    fn room(&self) -> u64 {
        let nanos = self.max_wait.as_nanos().saturating_mul(self.threads as u128);
        u64::try_from(nanos).unwrap_or(u64::MAX) / self.unit_nanos.load(Ordering::Relaxed).max(1)
    }

    fn measured(&self, took: Duration, units: u64) {
        let sample = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / units.max(1);
        let before = self.unit_nanos.load(Ordering::Relaxed);
        self.unit_nanos.store((before / 8 * 7).saturating_add(sample / 8).max(1), Ordering::Relaxed);
    }
}

/// Best effort: where the system refuses, hashing competes with serving but works.
fn lower_priority() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    }
    // On other systems that are neither of these, the call would renice the whole process.
    #[cfg(any(target_os = "macos", target_os = "ios", windows))]
    let _ = thread_priority::set_current_thread_priority(thread_priority::ThreadPriority::Min);
}

#[cfg(test)]
mod tests;
