//! The threads that hash tokens, and the bounded queue before them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::keyring::Keyring;
use super::line::{Line, MAX_WAITING};
use super::{Known, Settings, Verdict};
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
/// On a core that others keep busy, a thread pauses after a token that matched no secret for this many times its CPU time.
/// A flood of forgeries then gets 1/32 of it: known senders keep more than 0.9 of their
/// throughput, of which some 0.05 are the forged requests themselves.
const PAUSE: u32 = 30;
/// The longest pause, in times of the longest wait. With many secrets a hash takes seconds, and thirty times as long
/// would keep out for a minute whoever shares the forger's source, as all do behind a proxy.
const LONGEST_PAUSE: u32 = 4;
/// When a pause ends for a token of another source, as a part of the longest wait: early enough for that token to be
/// hashed before its sender is told to come again.
const PAUSE_FOR_OTHERS: u32 = 8;

/// The token could not be checked in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashingBusy {
    pub(crate) why: &'static str,
    pub(crate) retry_in: Duration,
}

const TOO_MANY: &str = "too many wait";
const TOO_LATE: &str = "its turn did not come within hash_wait";

/// Hashes on a few threads of its own, at ordinary priority: at a lower one, programs that keep all cores busy would keep
/// every new sender out. A hash belongs to the pool and not to whoever asked first, so an asker who leaves undoes nothing.
pub(crate) struct Pool {
    queue: Arc<Queue>,
}

/// The only thing that requests share with the threads. A request whose token is known never looks at it.
struct Queue {
    state: Mutex<State>,
    work: Condvar,
    end: Condvar,
    max_wait: Duration,
    threads: usize,
    /// Measured nanoseconds of one unit: one secret at the lowest cost.
    unit_nanos: AtomicU64,
    hashes: AtomicU64,
}

struct State {
    line: Line<Item>,
    /// Every token that waits or is at work, with who wants to know.
    asked: HashMap<[u8; 60], Vec<Asker>>,
    /// Of all tokens, the askers beyond the first of each.
    later: usize,
    /// Results that no request has put into the token cache yet.
    hashed: Vec<(Token, Hashed)>,
    keyring: Arc<Keyring>,
    /// The process that the threads were started in: a `fork` leaves them behind.
    started_in: Option<u32>,
    closed: bool,
}

type Asker = oneshot::Sender<Hashed>;
/// What waits, and the source that it came from.
type Item = (Token, WaitingToken, Option<Source>);

/// A verdict, with the secrets that were tried.
#[derive(Clone)]
pub(crate) struct Hashed {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) verdict: Verdict,
}

impl Pool {
    pub(crate) fn new(keyring: Arc<Keyring>, settings: &Settings) -> Self {
        let queue = Queue {
            state: Mutex::new(State {
                line: Line::new(),
                asked: HashMap::new(),
                later: 0,
                hashed: Vec::new(),
                keyring,
                started_in: None,
                closed: false,
            }),
            work: Condvar::new(),
            end: Condvar::new(),
            max_wait: settings.hash_wait,
            threads: settings.hash_threads.max(1),
            unit_nanos: AtomicU64::new(ASSUMED_UNIT.as_nanos() as u64),
            hashes: AtomicU64::new(0),
        };
        Self { queue: Arc::new(queue) }
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.queue.hashes.load(Ordering::Relaxed)
    }

    /// Takes the token into the queue; `None` when a verdict on it was reached meanwhile.
    pub(crate) fn ask(
        &self,
        known: &Mutex<Known>,
        token: &Token,
        source: Option<Source>,
    ) -> Result<Option<Waiting>, HashingBusy> {
        let mut state = locked(&self.queue.state);
        self.start_threads(&mut state)?;
        if let Some(joined) = self.join(&mut state, known, token) {
            return joined;
        }
        drop(state);
        // What a recorder does at this is not done under the lock.
        let item = (*token, WaitingToken::new(), source);
        let mut state = locked(&self.queue.state);
        if let Some(joined) = self.join(&mut state, known, token) {
            drop(state);
            return joined;
        }
        let units = state.units(token);
        let (asker, verdict) = oneshot::channel();
        state.asked.insert(*token.as_bytes(), vec![asker]);
        let sent_away = state.line.enter(token.as_bytes(), source, units, item, self.queue.room());
        for (token, ..) in &sent_away {
            // Who asked learns it by this; so does the caller, if it is the one.
            state.forget(token);
        }
        drop(state);
        self.queue.work.notify_one();
        Ok(Some(self.waiting(token, verdict)))
    }

    /// Joins those who wait for the same token; `None` when nobody does.
    fn join(
        &self,
        state: &mut State,
        known: &Mutex<Known>,
        token: &Token,
    ) -> Option<Result<Option<Waiting>, HashingBusy>> {
        let later = state.later;
        if let Some(askers) = state.asked.get_mut(token.as_bytes()) {
            let is_later = !askers.is_empty();
            if askers.len() >= ASKERS_PER_TOKEN || (is_later && later >= LATER_ASKERS) {
                return Some(Err(HashingBusy { why: TOO_MANY, retry_in: self.queue.max_wait }));
            }
            let (asker, verdict) = oneshot::channel();
            askers.push(asker);
            state.later += usize::from(is_later);
            return Some(Ok(Some(self.waiting(token, verdict))));
        }
        let reached = state.hashed.iter().any(|(hashed, _)| hashed.as_bytes() == token.as_bytes())
            || locked(known).memory.knows(token);
        reached.then_some(Ok(None))
    }

    /// Waits for the verdict.
    pub(crate) async fn wait(&self, mut waiting: Waiting) -> Result<Hashed, HashingBusy> {
        let max_wait = self.queue.max_wait;
        let _held = hold_paused_clock();
        // A token that is in line when the wait ends stays there; its verdict meets the sender's next attempt.
        match tokio::time::timeout(max_wait, &mut waiting.verdict).await {
            Ok(Ok(hashed)) => Ok(hashed),
            Ok(Err(_)) => Err(HashingBusy { why: TOO_MANY, retry_in: max_wait }),
            Err(_) => Err(HashingBusy { why: TOO_LATE, retry_in: max_wait }),
        }
    }

    /// Puts what the threads have found out since into the token cache, and tells whether there was anything. The
    /// threads leave it to the requests, so that none of these ever waits for a thread.
    pub(crate) fn collect(&self, known: &Mutex<Known>) -> bool {
        let mut state = locked(&self.queue.state);
        if state.hashed.is_empty() {
            return false;
        }
        let mut known = locked(known);
        let hashed = state.hashed.drain(..);
        // Of secrets that were replaced meanwhile, the verdict is reached anew.
        let current =
            hashed.filter(|(_, hashed)| Arc::ptr_eq(&hashed.keyring, &known.keyring)).collect::<Vec<_>>();
        let remembered = current
            .iter()
            .map(|(token, hashed)| (hashed.verdict, known.memory.remember(token, hashed.verdict)));
        let evicted: Vec<_> = remembered.collect();
        drop(known);
        drop(state);
        for (verdict, evicted) in evicted {
            crate::measure::tokens_evicted(verdict, evicted);
        }
        true
    }

    /// Puts the secrets in place that `next` makes of the present ones.
    pub(crate) fn replace(&self, known: &Mutex<Known>, next: impl FnOnce(&Keyring) -> Keyring) {
        let mut state = locked(&self.queue.state);
        let mut known = locked(known);
        let next = Arc::new(next(&known.keyring));
        known.memory.keep_only(&next);
        known.keyring = Arc::clone(&next);
        state.keyring = next;
    }

    fn waiting(&self, token: &Token, verdict: oneshot::Receiver<Hashed>) -> Waiting {
        Waiting { verdict, token: *token, queue: Arc::clone(&self.queue) }
    }

    fn start_threads(&self, state: &mut State) -> Result<(), HashingBusy> {
        let process = std::process::id();
        if state.started_in == Some(process) {
            return Ok(());
        }
        if state.started_in.take().is_some() {
            tracing::warn!("this process was forked from one that checked tokens: threads are started anew");
            state.line = Line::new();
            state.asked.clear();
            state.later = 0;
        }
        for number in 0..self.queue.threads {
            let queue = Arc::clone(&self.queue);
            let thread = std::thread::Builder::new().name(format!("smartshape-hash-{number}"));
            match thread.spawn(move || queue.run()) {
                Ok(_) => state.started_in = Some(process),
                Err(error) => tracing::error!(%error, "cannot start a hashing thread"),
            }
        }
        if state.started_in.is_some() {
            return Ok(());
        }
        Err(HashingBusy { why: "no hashing thread could be started", retry_in: self.queue.max_wait })
    }
}

/// An asker. Whoever leaves before the verdict makes room for another.
pub(crate) struct Waiting {
    verdict: oneshot::Receiver<Hashed>,
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
        self.queue.end.notify_all();
    }
}

impl State {
    /// What a token is charged: every secret may have to be tried, and each cost doubles.
    fn units(&self, token: &Token) -> u64 {
        (self.keyring.len() as u64).max(1) << (token.cost() - 4)
    }

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
        while let Some(((token, waiting, source), keyring, units)) = self.next() {
            // A recorder is somebody else's code: its panic must not end the thread, nor keep the verdict back.
            let hashing = caught(|| waiting.begin());
            let (begun, cpu_before) = (Instant::now(), cpu_time());
            let found = caught(|| keyring.find(&token));
            let took = begun.elapsed();
            let cpu = cpu_time().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
            if let Some(hashing) = hashing {
                caught(|| hashing.end());
            }
            self.hashes.fetch_add(1, Ordering::Relaxed);
            let pause = if matches!(found, Some((None, _))) { pause(took, cpu) } else { Duration::ZERO };
            let tried = found.map(|(_, tried)| tried);
            let hashed = found.map(|(id, _)| {
                let verdict = id.map_or(Verdict::MatchesNone, Verdict::Matches);
                Hashed { keyring, verdict }
            });
            let mut state = locked(&self.state);
            state.line.done(units);
            let askers = state.forget(&token);
            state.hashed.extend(hashed.clone().map(|hashed| (token, hashed)));
            drop(state);
            if let Some(hashed) = hashed {
                for asker in askers {
                    // An asker that left no longer wants to know.
                    let _ = asker.send(hashed.clone());
                }
            }
            let paused = self.pause(pause, source);
            if let Some(tried) = tried {
                self.measured(took + paused, tried << (token.cost() - 4));
            }
        }
    }

    fn next(&self) -> Option<(Item, Arc<Keyring>, u64)> {
        let mut state = locked(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some((item, units)) = state.line.next(self.room()) {
                return Some((item, Arc::clone(&state.keyring), units));
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Pauses after a forgery, and returns for how long: sources pay for their own forgeries, so it ends soon when
    /// a token of another one waits.
    fn pause(&self, pause: Duration, forger: Option<Source>) -> Duration {
        let begun = Instant::now();
        let pause = pause.min(self.max_wait * LONGEST_PAUSE);
        let step = self.max_wait / PAUSE_FOR_OTHERS;
        let mut state = locked(&self.state);
        loop {
            let left = pause.saturating_sub(begun.elapsed());
            if left.is_zero()
                || state.closed
                || (begun.elapsed() >= step && state.line.has_other_than(forger))
            {
                return begun.elapsed().min(pause);
            }
            // What closes the queue wakes it; a token that comes is seen at the next step.
            let waited = self.end.wait_timeout(state, left.min(step));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
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

fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).ok()
}

/// How long a thread pauses after a forgery: not at all while others want less than a third of its core. A forger cannot avoid it,
/// and a sender who knows a secret never causes it.
fn pause(took: Duration, cpu: Option<Duration>) -> Duration {
    // Where the system does not tell, as if somebody had wanted it all the time.
    let cpu = cpu.unwrap_or(took / 2);
    // Others who want less than a third of the core get it beside a thread that never pauses.
    took.saturating_sub(cpu).min(cpu).saturating_sub(cpu / 2) * (2 * PAUSE)
}

/// The CPU time of this thread so far.
fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).ok()
    }
    #[cfg(not(unix))]
    None
}

/// Keeps tokio's clock from leaping ahead until the returned sender is dropped. In tests it may be paused; then it leaps to the
/// next timer as soon as the runtime has nothing else to do, and waiting for our threads is nothing that it knows of. It
/// knows of blocking tasks.
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
