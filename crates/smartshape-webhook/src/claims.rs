//! Claims of this process: one handler at work for a delivery, its duplicates waiting beside it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::hashed::HashedMap;
use crate::lock::locked;
use crate::refusal::{Refusal, RefusalKind};
use crate::seen::{ClaimState, DeliveryKey, Holder, MemoryStore, SeenStore, StoreError};

/// How long a claim of another process is left alone before the store is asked again.
const FIRST_POLL: Duration = Duration::from_millis(50);
const LAST_POLL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct ClaimSettings {
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) waiting_per_key: usize,
    pub(crate) waiting_in_all: usize,
}

pub(crate) struct Claims {
    store: Store,
    settings: ClaimSettings,
    flights: Mutex<Flights>,
    /// Random, so that holders differ between processes that share a store.
    process: u64,
    next: AtomicU64,
}

pub(crate) enum Store {
    Memory(MemoryStore),
    Shared(Arc<dyn SeenStore>),
}

#[derive(Default)]
struct Flights {
    waiting: usize,
    /// Every delivery at work here, with the duplicates that want to know how it ends.
    at_work: HashedMap<DeliveryKey, Vec<oneshot::Sender<Ended>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Completed,
    Failed,
}

/// How the delivery stands before it is handled.
pub(crate) enum Standing {
    New(Claim),
    Done,
    /// At work here; wait for it, but without holding on to the body.
    AtWork(Waiter),
}

impl Claims {
    pub(crate) fn new(store: Store, settings: ClaimSettings, process: u64) -> Arc<Self> {
        Arc::new(Self { store, settings, flights: Mutex::default(), process, next: AtomicU64::new(0) })
    }

    /// Claims the delivery.
    pub(crate) async fn claim(self: &Arc<Self>, key: DeliveryKey) -> Result<Standing, Refusal> {
        if let Some(waiter) = self.enter(key)? {
            return Ok(Standing::AtWork(waiter));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let holder = Holder::new(u128::from(self.process) << 64 | u128::from(number));
        let mut now = Instant::now();
        let deadline = now + self.settings.wait;
        // From here on, dropping the claim gives it back.
        let mut claim = Claim { claims: Arc::clone(self), key, holder, since: now, open: true };
        let mut poll = FIRST_POLL;
        loop {
            match self.store.claim(key, holder, self.settings.lease, now).await {
                Ok(ClaimState::New) => {
                    claim.since = now;
                    return Ok(Standing::New(claim));
                }
                Ok(ClaimState::Done) => {
                    claim.open = false;
                    self.leave(key, Ended::Completed);
                    return Ok(Standing::Done);
                }
                Ok(ClaimState::InFlight) => {
                    let again = Instant::now() + poll;
                    if again >= deadline {
                        return Err(RefusalKind::DuplicateUnfinished.into());
                    }
                    tokio::time::sleep_until(again).await;
                    now = Instant::now();
                    poll = (poll * 2).min(LAST_POLL);
                }
                Err(error) => return Err(Refusal::with_detail(RefusalKind::StoreUnavailable, error)),
            }
        }
    }

    /// Enters the delivery as at work, or queues up behind the one that is.
    fn enter(self: &Arc<Self>, key: DeliveryKey) -> Result<Option<Waiter>, Refusal> {
        let mut flights = locked(&self.flights);
        let all_full = flights.waiting >= self.settings.waiting_in_all;
        let Some(waiting) = flights.at_work.get_mut(&key) else {
            flights.at_work.insert(key, Vec::new());
            return Ok(None);
        };
        // Those that gave up leave a closed sender behind.
        waiting.retain(|sender| !sender.is_closed());
        if all_full || waiting.len() >= self.settings.waiting_per_key {
            return Err(Refusal::with_detail(RefusalKind::DuplicateUnfinished, "too many duplicates wait"));
        }
        let (sender, ended) = oneshot::channel();
        waiting.push(sender);
        flights.waiting += 1;
        Ok(Some(Waiter { claims: Arc::clone(self), ended }))
    }

    fn leave(&self, key: DeliveryKey, ended: Ended) {
        let waiting = locked(&self.flights).at_work.remove(&key).unwrap_or_default();
        for waiter in waiting {
            // One that gave up no longer wants to know.
            let _ = waiter.send(ended);
        }
    }
}

/// A duplicate that waits for the delivery at work.
pub(crate) struct Waiter {
    claims: Arc<Claims>,
    ended: oneshot::Receiver<Ended>,
}

impl Waiter {
    /// Returns once the delivery at work was completed.
    pub(crate) async fn wait(mut self) -> Result<(), Refusal> {
        match tokio::time::timeout(self.claims.settings.wait, &mut self.ended).await {
            Ok(Ok(Ended::Completed)) => Ok(()),
            Ok(Ok(Ended::Failed) | Err(_)) => {
                Err(Refusal::with_detail(RefusalKind::DuplicateUnfinished, "it failed meanwhile"))
            }
            Err(_) => Err(Refusal::with_detail(RefusalKind::DuplicateUnfinished, "it is still at work")),
        }
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
    holder: Holder,
    since: Instant,
    open: bool,
}

impl Claim {
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Records that the delivery was handled, then tells the duplicates that wait.
    pub(crate) async fn complete(mut self, now: Instant) -> Result<(), StoreError> {
        let recorded = self.claims.store.complete(self.key, self.holder, now).await;
        // The work is done whether or not that could be recorded.
        self.open = false;
        self.claims.leave(self.key, Ended::Completed);
        recorded
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (key, holder) = (self.key, self.holder);
        match &self.claims.store {
            Store::Memory(store) => {
                store.release_now(key, holder);
                self.claims.leave(key, Ended::Failed);
            }
            Store::Shared(store) => release_later(Arc::clone(&self.claims), Arc::clone(store), key, holder),
        }
    }
}

fn release_later(claims: Arc<Claims>, store: Arc<dyn SeenStore>, key: DeliveryKey, holder: Holder) {
    // Without a runtime (at its shutdown) the claim ends with its lease.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return claims.leave(key, Ended::Failed);
    };
    let _detached = runtime.spawn(async move {
        if let Err(error) = store.release(key, holder).await {
            tracing::warn!(%key, %error, "a claim could not be given back; it ends with its lease");
        }
        claims.leave(key, Ended::Failed);
    });
}

impl Store {
    async fn claim(
        &self,
        key: DeliveryKey,
        holder: Holder,
        lease: Duration,
        now: Instant,
    ) -> Result<ClaimState, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.claim_now(key, holder, lease, now)),
            Self::Shared(store) => store.claim(key, holder, lease).await,
        }
    }

    async fn complete(&self, key: DeliveryKey, holder: Holder, now: Instant) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.complete_now(key, holder, now);
                Ok(())
            }
            Self::Shared(store) => store.complete(key, holder).await,
        }
    }
}
