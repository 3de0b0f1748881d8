//! The hashing threads and their bounded queue.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Settings, Shared, Verdict};
use crate::lock::locked;
use crate::measure::WaitingToken;
use crate::source::Source;
use crate::token::Token;

/// Askers that may wait for one and the same token.
const ASKERS_PER_TOKEN: usize = 256;
/// Tokens that may wait, however short each would take.
const MAX_WAITING: usize = 1024;
/// What one round at the lowest cost takes until it has been measured. A machine that is slower
/// than this lets the queue grow a little too long once, and then knows.
const ASSUMED_UNIT: Duration = Duration::from_micros(900);

/// The queue is longer than the wait allows; try again after this time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashingBusy(pub(crate) Duration);

/// Hashes on a few threads of its own, by default at the lowest priority that the system gives:
/// serving known senders always goes first. A hash belongs to the pool and not to whoever asked first, so
/// an asker who leaves frees nothing and undoes nothing.
pub(crate) struct Pool {
    queue: Arc<Queue>,
    max_wait: Duration,
    threads: usize,
    lowest_priority: bool,
}

struct Queue {
    shared: Arc<Shared>,
    state: Mutex<State>,
    work: Condvar,
    /// Measured nanoseconds of one unit: one secret at the lowest cost.
    unit_nanos: AtomicU64,
    hashes: AtomicU64,
}

#[derive(Default)]
struct State {
    /// With the units each was charged: the set of secrets may change meanwhile.
    waiting: VecDeque<(Token, u64, WaitingToken)>,
    /// Every token that waits or is at work, with who wants to know.
    asked: HashMap<[u8; 60], Vec<oneshot::Sender<Option<Verdict>>>>,
    /// Units of all tokens in `asked`.
    units: u64,
    started: bool,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(shared: Arc<Shared>, settings: &Settings) -> Self {
        let queue = Queue {
            shared,
            state: Mutex::default(),
            work: Condvar::new(),
            unit_nanos: AtomicU64::new(ASSUMED_UNIT.as_nanos() as u64),
            hashes: AtomicU64::new(0),
        };
        Self {
            queue: Arc::new(queue),
            max_wait: settings.hash_wait,
            threads: settings.hash_threads.max(1),
            lowest_priority: settings.lowest_priority,
        }
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.queue.hashes.load(Ordering::Relaxed)
    }

    /// Takes the token into the queue at once (not when first polled), then waits.
    pub(crate) fn hash(
        &self,
        token: Token,
        _source: Option<Source>,
    ) -> impl Future<Output = Result<Verdict, HashingBusy>> + Send + use<> {
        let asked = self.ask(token);
        let max_wait = self.max_wait;
        async move {
            let verdict = match asked? {
                Asked::Recalled(verdict) => return Ok(verdict),
                Asked::Waiting(verdict) => verdict,
            };
            // The hash goes on when the wait ends; its verdict meets the sender's next attempt.
            match tokio::time::timeout(max_wait, verdict).await {
                Ok(Ok(Some(verdict))) => Ok(verdict),
                Ok(Ok(None) | Err(_)) | Err(_) => Err(HashingBusy(max_wait)),
            }
        }
    }

    fn ask(&self, token: Token) -> Result<Asked, HashingBusy> {
        let (sender, receiver) = oneshot::channel();
        let mut state = locked(&self.queue.state);
        if let Some(askers) = state.asked.get_mut(token.as_bytes()) {
            if askers.len() >= ASKERS_PER_TOKEN {
                return Err(HashingBusy(self.max_wait));
            }
            askers.push(sender);
            return Ok(Asked::Waiting(receiver));
        }
        // The verdict may have been reached between the caller's look and this lock.
        if let Some(verdict) = self.queue.shared.recall(&token) {
            return Ok(Asked::Recalled(verdict));
        }
        let wait = self.queue.time_for(state.units / self.threads as u64);
        if wait > self.max_wait || state.waiting.len() >= MAX_WAITING {
            return Err(HashingBusy(wait));
        }
        self.start_threads(&mut state)?;
        let units = self.queue.units(&token);
        let measured = WaitingToken::new();
        state.units += units;
        state.asked.insert(*token.as_bytes(), vec![sender]);
        state.waiting.push_back((token, units, measured));
        drop(state);
        self.queue.work.notify_one();
        Ok(Asked::Waiting(receiver))
    }

    fn start_threads(&self, state: &mut State) -> Result<(), HashingBusy> {
        if state.started {
            return Ok(());
        }
        for number in 0..self.threads {
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
        if state.started { Ok(()) } else { Err(HashingBusy(self.max_wait)) }
    }
}

enum Asked {
    Recalled(Verdict),
    Waiting(oneshot::Receiver<Option<Verdict>>),
}

impl Drop for Pool {
    fn drop(&mut self) {
        locked(&self.queue.state).closed = true;
        self.queue.work.notify_all();
    }
}

impl Queue {
    fn run(&self) {
        while let Some((token, units, waiting)) = self.next() {
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
            state.units = state.units.saturating_sub(units);
            let askers = state.asked.remove(token.as_bytes()).unwrap_or_default();
            drop(state);
            for asker in askers {
                // An asker that left no longer wants to know.
                let _ = asker.send(verdict);
            }
        }
    }

    fn next(&self) -> Option<(Token, u64, WaitingToken)> {
        let mut state = locked(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a token is charged: every secret may have to be tried, and each cost doubles.
    fn units(&self, token: &Token) -> u64 {
        (self.shared.keyring().len() as u64).max(1) << (token.cost() - 4)
    }

    fn time_for(&self, units: u64) -> Duration {
        Duration::from_nanos(self.unit_nanos.load(Ordering::Relaxed).saturating_mul(units))
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
