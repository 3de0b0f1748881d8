//! Claims of this process: one handler at work for a delivery, its duplicates waiting beside it.

use std::future::poll_fn;
use std::hash::BuildHasher as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::hashed::HashedMap;
use crate::lock::locked;
use crate::refusal::{Refusal, RefusalKind};
use crate::seen::{
    ClaimState, DeliveryKey, Fingerprint, Holder, MemoryStore, Seen, SeenStore, StoreError, StoreFuture,
};

/// How long a claim of another process is left alone before the store is asked again.
const FIRST_POLL: Duration = Duration::from_millis(50);
const LAST_POLL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct ClaimSettings {
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) store_wait: Duration,
    pub(crate) waiting_per_key: usize,
    pub(crate) waiting_in_all: usize,
}

pub(crate) struct Claims {
    /// None: what was completed stands beside what is at work, under one lock.
    shared: Option<Arc<dyn SeenStore>>,
    settings: ClaimSettings,
    flights: Mutex<Flights>,
    fingerprints: foldhash::quality::RandomState,
    /// Random, so that holders differ between processes that share a store.
    process: u64,
}

pub(crate) enum Store {
    Memory(MemoryStore),
    Shared(Arc<dyn SeenStore>),
}

struct Flights {
    waiting: usize,
    /// How many claims there have been.
    claims: u64,
    /// Every delivery at work here.
    at_work: HashedMap<DeliveryKey, Flight>,
    seen: Option<Seen>,
}

struct Flight {
    body: Fingerprint,
    /// The duplicates that want to know how it ends.
    waiting: Vec<oneshot::Sender<Ended>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Completed,
    Failed,
}

/// How the delivery stands before it is handled.
pub(crate) enum Standing {
    New(Claim),
    Done(SameBody),
    /// At work here or elsewhere; wait for it, but without holding on to the body.
    AtWork(Waiter, SameBody),
}

/// Whether a duplicate has the body of the delivery that it repeats, as far as that is known here.
pub(crate) type SameBody = Option<bool>;

impl Claims {
    pub(crate) fn new(store: Store, settings: ClaimSettings, process: u64) -> Arc<Self> {
        let (shared, seen) = match store {
            Store::Memory(store) => (None, Some(store.into_seen())),
            Store::Shared(store) => (Some(store), None),
        };
        let flights = Mutex::new(Flights { waiting: 0, claims: 0, at_work: HashedMap::default(), seen });
        let fingerprints = foldhash::quality::RandomState::default();
        Arc::new(Self { shared, settings, flights, fingerprints, process })
    }

    /// Claims the delivery of this key and body.
    pub(crate) async fn claim(self: &Arc<Self>, key: DeliveryKey, body: &[u8]) -> Result<Standing, Refusal> {
        let standing = self.enter(key, self.fingerprint(body), Instant::now())?;
        match (standing, &self.shared) {
            // Boxed, as is whatever few deliveries need: it would take room in the future of each of them.
            (Standing::New(claim), Some(_)) => Box::pin(claim.ask()).await,
            (standing, _) => Ok(standing),
        }
    }

    /// Enters the delivery as at work, or queues up behind the one that is.
    fn enter(
        self: &Arc<Self>,
        key: DeliveryKey,
        body: Fingerprint,
        now: Instant,
    ) -> Result<Standing, Refusal> {
        let mut flights = locked(&self.flights);
        let all_full = self.all_wait(&flights);
        let Some(flight) = flights.at_work.get_mut(&key) else {
            if let Some(done) = flights.seen.as_mut().and_then(|seen| seen.get(key, now)) {
                return Ok(Standing::Done(done.map(|done| done == body)));
            }
            flights.at_work.insert(key, Flight { body, waiting: Vec::new() });
            flights.claims += 1;
            let number = flights.claims;
            drop(flights);
            let claims = Arc::clone(self);
            return Ok(Standing::New(Claim { claims, key, body, number, since: now, open: true }));
        };
        let same_body = Some(flight.body == body);
        let waiting = &mut flight.waiting;
        // Those that gave up leave a closed sender behind.
        waiting.retain(|sender| !sender.is_closed());
        if all_full || waiting.len() >= self.settings.waiting_per_key {
            return Err(too_many());
        }
        let (sender, ended) = oneshot::channel();
        waiting.push(sender);
        flights.waiting += 1;
        Ok(Standing::AtWork(Waiter { claims: Arc::clone(self), whose: Whose::Ours(ended) }, same_body))
    }

    /// Waits for another process, in place of who asked.
    fn wait_elsewhere(self: Arc<Self>, claim: Claim) -> Result<Standing, Refusal> {
        let mut flights = locked(&self.flights);
        if self.all_wait(&flights) {
            // Dropping the claim locks them.
            drop(flights);
            return Err(too_many());
        }
        flights.waiting += 1;
        drop(flights);
        Ok(Standing::AtWork(Waiter { claims: self, whose: Whose::Theirs(claim) }, None))
    }

    /// Of a secret seed, so that nobody can look for two bodies that have the same.
    fn fingerprint(&self, body: &[u8]) -> Fingerprint {
        Fingerprint::MIN | self.fingerprints.hash_one(body) as u32
    }

    fn all_wait(&self, flights: &Flights) -> bool {
        flights.waiting >= self.settings.waiting_in_all
    }

    /// What the store says, within the time that it may take. One that panics has failed, too.
    async fn answer<'s, T>(&self, ask: impl FnOnce() -> StoreFuture<'s, T>) -> Result<T, StoreError> {
        let mut answer = pin!(async move { ask().await });
        let answer = poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)))
                .unwrap_or_else(|_| Poll::Ready(Err(StoreError::new("the store panicked"))))
        });
        tokio::time::timeout(self.settings.store_wait, answer)
            .await
            .unwrap_or_else(|_| Err(StoreError::new("no answer within store_wait")))
    }

    fn complete(&self, key: DeliveryKey, body: Fingerprint, now: Instant) {
        let mut flights = locked(&self.flights);
        if let Some(seen) = &mut flights.seen {
            seen.record(key, Some(body), now);
        }
        flights.leave(key, Ended::Completed);
    }

    fn fail(&self, key: DeliveryKey) {
        locked(&self.flights).leave(key, Ended::Failed);
    }
}

impl Flights {
    fn leave(&mut self, key: DeliveryKey, ended: Ended) {
        for waiter in self.at_work.remove(&key).into_iter().flat_map(|flight| flight.waiting) {
            // One that gave up no longer wants to know.
            let _ = waiter.send(ended);
        }
    }
}

fn too_many() -> Refusal {
    Refusal::with_detail(RefusalKind::DuplicateUnfinished, "too many duplicates wait")
}

/// A duplicate that waits for the delivery at work.
pub(crate) struct Waiter {
    claims: Arc<Claims>,
    whose: Whose,
}

enum Whose {
    Ours(oneshot::Receiver<Ended>),
    /// Another process's. The claim is not ours yet; duplicates that come here wait behind it.
    Theirs(Claim),
}

impl Waiter {
    /// Returns once the delivery at work was completed.
    pub(crate) async fn wait(mut self) -> Result<(), Refusal> {
        let ended = match &mut self.whose {
            Whose::Ours(ended) => {
                let ended = tokio::time::timeout(self.claims.settings.wait, ended).await;
                ended.ok().map(|ended| ended.unwrap_or(Ended::Failed))
            }
            Whose::Theirs(claim) => claim.watch().await?,
        };
        let why = match ended {
            Some(Ended::Completed) => return Ok(()),
            Some(Ended::Failed) => "it failed meanwhile",
            None => "it is still at work",
        };
        Err(Refusal::with_detail(RefusalKind::DuplicateUnfinished, why))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        locked(&self.claims.flights).waiting -= 1;
    }
}

/// The right to handle a delivery. Only completing it counts; dropping it gives it back.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    key: DeliveryKey,
    body: Fingerprint,
    number: u64,
    since: Instant,
    open: bool,
}

impl Claim {
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    fn holder(&self) -> Holder {
        Holder::new(u128::from(self.claims.process) << 64 | u128::from(self.number))
    }

    /// Claims the delivery from the other processes, too.
    async fn ask(mut self) -> Result<Standing, Refusal> {
        match self.state().await? {
            ClaimState::New => Ok(Standing::New(self)),
            ClaimState::Done => {
                self.close(self.since);
                Ok(Standing::Done(None))
            }
            ClaimState::InFlight => Arc::clone(&self.claims).wait_elsewhere(self),
        }
    }

    /// Looks from time to time what has become of another process's claim; `None` if it stands at the end.
    async fn watch(&mut self) -> Result<Option<Ended>, Refusal> {
        let deadline = self.since + self.claims.settings.wait;
        let mut poll = FIRST_POLL;
        loop {
            let again = Instant::now() + poll;
            if again >= deadline {
                return Ok(None);
            }
            tokio::time::sleep_until(again).await;
            poll = (poll * 2).min(LAST_POLL);
            match self.state().await? {
                ClaimState::InFlight => {}
                ClaimState::Done => {
                    self.close(again);
                    return Ok(Some(Ended::Completed));
                }
                // Without its body the delivery cannot be handled here: it is given back for the next attempt.
                ClaimState::New => return Ok(Some(Ended::Failed)),
            }
        }
    }

    async fn state(&self) -> Result<ClaimState, Refusal> {
        let Some(store) = &self.claims.shared else { return Ok(ClaimState::New) };
        let lease = self.claims.settings.lease;
        let state = self.claims.answer(|| store.claim(self.key, self.holder(), lease)).await;
        state.map_err(|error| Refusal::with_detail(RefusalKind::StoreUnavailable, error))
    }

    /// Records that the delivery was handled, then tells the duplicates that wait.
    pub(crate) async fn complete(&mut self, now: Instant) -> Result<(), StoreError> {
        let recorded = match &self.claims.shared {
            // Boxed, as above.
            Some(store) => Box::pin(self.claims.answer(|| store.complete(self.key, self.holder()))).await,
            None => Ok(()),
        };
        // The work is done whether or not that could be recorded.
        self.close(now);
        recorded
    }

    fn close(&mut self, now: Instant) {
        self.open = false;
        self.claims.complete(self.key, self.body, now);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        match &self.claims.shared {
            None => self.claims.fail(self.key),
            Some(store) => {
                release_later(Arc::clone(&self.claims), Arc::clone(store), self.key, self.holder());
            }
        }
    }
}

/// Frees a key once its claim was given back, and also when the task that does so is dropped with its runtime.
struct Leaving {
    claims: Arc<Claims>,
    key: DeliveryKey,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.claims.fail(self.key);
    }
}

fn release_later(claims: Arc<Claims>, store: Arc<dyn SeenStore>, key: DeliveryKey, holder: Holder) {
    let leaving = Leaving { claims, key };
    // Without a runtime (at its shutdown) the claim ends with its lease.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let _detached = runtime.spawn(async move {
        if let Err(error) = leaving.claims.answer(|| store.release(key, holder)).await {
            tracing::warn!(%key, %error, "a claim could not be given back; it ends with its lease");
        }
    });
}
