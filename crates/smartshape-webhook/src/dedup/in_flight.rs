//! In-process deduplication. At most one handler runs per delivery key; concurrent duplicates wait for its outcome.
//!
//! A key is in flight from the claim until it is completed or released. A completed key is known until it expires; a
//! released one is as if it had never been claimed. Dropping a [`Claim`] releases its key unless [`Claim::complete`]
//! was called, so a handler that panics or is cancelled cannot leave its key in flight.
//!
//! With a shared [`DedupStore`], a key claimed here is claimed there too, before its handler starts. The key stays in
//! this table until the store has been told of its end, so that no other request of this process asks the store
//! meanwhile.
//!
//! The table's lock is never held across an await, nor while the store or the metrics recorder runs.

use std::future::poll_fn;
use std::hash::BuildHasher as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::completed::{CompletedKeys, Fingerprint};
use super::store::{ClaimState, DedupStore, LeaseToken, StoreError, StoreFuture};
use crate::cache::HashedMap;
use crate::delivery::key::DeliveryKey;
use crate::lock::locked;
use crate::metrics::{Evicted, Eviction, record_eviction};
use crate::response::rejection::{Rejection, RejectionKind};

/// Delays between polls of a claim that another process holds. They double from the first to the last.
const FIRST_POLL: Duration = Duration::from_millis(50);
const LAST_POLL: Duration = Duration::from_secs(1);
/// Maximum time for a call of the shared store. After it a delivery that was to be claimed is rejected with 503, and
/// one that was handled is acknowledged without being recorded.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of duplicates that wait for one delivery. A sender that retries while its first attempt runs needs
/// one or two.
const MAX_WAITERS_PER_DELIVERY: usize = 8;
/// Maximum number of duplicates that wait, for all deliveries together. Each holds a connection and some hundred bytes,
/// but no body.
const MAX_WAITERS: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct DedupSettings {
    pub(crate) claim_ttl: Duration,
    pub(crate) duplicate_timeout: Duration,
    /// Number of completed deliveries kept in memory, if there is no shared store.
    pub(crate) capacity: usize,
    pub(crate) ttl: Duration,
}

pub(crate) struct Deduplicator {
    /// `None`: the completed keys stand in `table`, under the same lock as those in flight.
    shared: Option<Arc<dyn DedupStore>>,
    settings: DedupSettings,
    table: Mutex<InFlightTable>,
    fingerprints: foldhash::quality::RandomState,
    /// Random, so that lease tokens differ between the processes that share a store.
    process: u64,
}

struct InFlightTable {
    /// Duplicates that wait, for any key.
    waiters: usize,
    /// Claims made so far; the last one's number.
    claims: u64,
    in_flight: HashedMap<DeliveryKey, InFlightDelivery>,
    completed: Option<CompletedKeys>,
}

struct InFlightDelivery {
    body: Fingerprint,
    waiters: Vec<oneshot::Sender<InFlightOutcome>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InFlightOutcome {
    Completed,
    Failed,
}

/// What a delivery turns out to be when it is claimed.
pub(crate) enum ClaimOutcome {
    New(Claim),
    Done(SameBody),
    /// In flight in this process or another. The caller waits for it, but drops the body first.
    InFlight(Waiter, SameBody),
}

/// Whether a duplicate has the same body as the delivery that it repeats. `None` where only another process knows.
pub(crate) type SameBody = Option<bool>;

impl Deduplicator {
    pub(crate) fn new(
        shared: Option<Arc<dyn DedupStore>>,
        settings: DedupSettings,
        process: u64,
    ) -> Arc<Self> {
        let completed =
            shared.is_none().then(|| CompletedKeys::new(settings.capacity, settings.ttl, Instant::now()));
        let table = InFlightTable { waiters: 0, claims: 0, in_flight: HashedMap::default(), completed };
        let table = Mutex::new(table);
        let fingerprints = foldhash::quality::RandomState::default();
        Arc::new(Self { shared, settings, table, fingerprints, process })
    }

    /// Claims the delivery with this key and body.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        key: DeliveryKey,
        body: &[u8],
    ) -> Result<ClaimOutcome, Rejection> {
        let outcome = self.begin(key, self.fingerprint(body), Instant::now());
        match (outcome, &self.shared) {
            // Boxed, since only few receivers have a store: unboxed it would enlarge the future of every delivery.
            (Ok(ClaimOutcome::New(claim)), Some(_)) => Box::pin(claim.claim_in_store()).await,
            (outcome, _) => outcome,
        }
    }

    /// Inserts the delivery into the table, or joins the waiters of the one with the same key.
    fn begin(
        self: &Arc<Self>,
        key: DeliveryKey,
        body: Fingerprint,
        now: Instant,
    ) -> Result<ClaimOutcome, Rejection> {
        let mut table = locked(&self.table);
        let eviction = table.expire(now);
        let outcome = self.begin_in(&mut table, key, body, now);
        drop(table);
        // The lock is released first: the metrics recorder is foreign code.
        record_eviction(eviction);
        outcome
    }

    fn begin_in(
        self: &Arc<Self>,
        table: &mut InFlightTable,
        key: DeliveryKey,
        body: Fingerprint,
        now: Instant,
    ) -> Result<ClaimOutcome, Rejection> {
        let all_full = table.waiters >= MAX_WAITERS;
        let Some(delivery) = table.in_flight.get_mut(&key) else {
            if let Some(done) = table.completed.as_ref().and_then(|completed| completed.get(key)) {
                return Ok(ClaimOutcome::Done(Some(done == body)));
            }
            table.in_flight.insert(key, InFlightDelivery { body, waiters: Vec::new() });
            table.claims += 1;
            let number = table.claims;
            let dedup = Arc::clone(self);
            return Ok(ClaimOutcome::New(Claim {
                dedup,
                key,
                body,
                number,
                since: now,
                releases_on_drop: true,
            }));
        };
        let same_body = Some(delivery.body == body);
        let waiters = &mut delivery.waiters;
        // A waiter that gave up leaves a closed sender behind.
        waiters.retain(|sender| !sender.is_closed());
        if all_full || waiters.len() >= MAX_WAITERS_PER_DELIVERY {
            return Err(too_many());
        }
        let (sender, ended) = oneshot::channel();
        waiters.push(sender);
        table.waiters += 1;
        Ok(ClaimOutcome::InFlight(
            Waiter { dedup: Arc::clone(self), awaited: Awaited::Local(ended) },
            same_body,
        ))
    }

    /// Lets the caller wait for another process.
    fn wait_for_remote(self: Arc<Self>, claim: Claim) -> Result<ClaimOutcome, Rejection> {
        let mut table = locked(&self.table);
        if table.waiters >= MAX_WAITERS {
            // Dropping the claim locks the table.
            drop(table);
            return Err(too_many());
        }
        table.waiters += 1;
        drop(table);
        Ok(ClaimOutcome::InFlight(Waiter { dedup: self, awaited: Awaited::Remote(claim) }, None))
    }

    /// Hashes with a random seed of this process, so that nobody can search for two bodies with the same fingerprint.
    fn fingerprint(&self, body: &[u8]) -> Fingerprint {
        Fingerprint::MIN | self.fingerprints.hash_one(body) as u32
    }

    /// Calls the store. A panic, or no response within [`STORE_TIMEOUT`], counts as a failure.
    async fn call<'s, T>(&self, call: impl FnOnce() -> StoreFuture<'s, T>) -> Result<T, StoreError> {
        let mut response = pin!(async move { call().await });
        let response = poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| response.as_mut().poll(context)))
                .unwrap_or_else(|_| Poll::Ready(Err(StoreError::new("the store panicked"))))
        });
        tokio::time::timeout(STORE_TIMEOUT, response)
            .await
            .unwrap_or_else(|_| Err(StoreError::new("no response within 5 s")))
    }

    fn complete(&self, key: DeliveryKey, body: Fingerprint, now: Instant) {
        let mut table = locked(&self.table);
        let eviction = table.expire(now);
        if let Some(completed) = &mut table.completed {
            completed.insert(key, body);
        }
        table.finish(key, InFlightOutcome::Completed);
        drop(table);
        record_eviction(eviction);
    }

    fn finish_released(&self, key: DeliveryKey) {
        locked(&self.table).finish(key, InFlightOutcome::Failed);
    }
}

impl InFlightTable {
    fn expire(&mut self, now: Instant) -> Eviction {
        let count = self.completed.as_mut().map_or(0, |completed| completed.expire(now));
        Eviction { what: Evicted::CompletedKey, count }
    }

    fn finish(&mut self, key: DeliveryKey, ended: InFlightOutcome) {
        let Some(delivery) = self.in_flight.remove(&key) else { return };
        for waiter in delivery.waiters {
            // It fails for a waiter that gave up.
            let _ = waiter.send(ended);
        }
    }
}

fn too_many() -> Rejection {
    Rejection::with_detail(RejectionKind::DuplicateUnfinished, "too many duplicates wait")
}

/// A duplicate that waits for the delivery in flight.
pub(crate) struct Waiter {
    dedup: Arc<Deduplicator>,
    awaited: Awaited,
}

enum Awaited {
    Local(oneshot::Receiver<InFlightOutcome>),
    /// In flight in another process. The claim is not granted yet; duplicates that come here wait behind it.
    Remote(Claim),
}

impl Waiter {
    /// Returns once the delivery in flight is completed.
    pub(crate) async fn wait(mut self) -> Result<(), Rejection> {
        let ended = match &mut self.awaited {
            Awaited::Local(ended) => {
                let ended = tokio::time::timeout(self.dedup.settings.duplicate_timeout, ended).await;
                ended.ok().map(|ended| ended.unwrap_or(InFlightOutcome::Failed))
            }
            Awaited::Remote(claim) => claim.poll_remote().await?,
        };
        let why = match ended {
            Some(InFlightOutcome::Completed) => return Ok(()),
            Some(InFlightOutcome::Failed) => "it failed meanwhile",
            None => "it is still in flight",
        };
        Err(Rejection::with_detail(RejectionKind::DuplicateUnfinished, why))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        locked(&self.dedup.table).waiters -= 1;
    }
}

/// The right to handle a delivery. Only [`complete`](Self::complete) completes the delivery; dropping the claim
/// releases it.
pub(crate) struct Claim {
    dedup: Arc<Deduplicator>,
    key: DeliveryKey,
    body: Fingerprint,
    /// Part of the lease token, with the process's number.
    number: u64,
    since: Instant,
    /// Whether dropping the claim has to release the key.
    releases_on_drop: bool,
}

impl Claim {
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    fn lease_token(&self) -> LeaseToken {
        LeaseToken::new(u128::from(self.dedup.process) << 64 | u128::from(self.number))
    }

    /// Claims the delivery in the shared store too.
    async fn claim_in_store(mut self) -> Result<ClaimOutcome, Rejection> {
        match self.state().await? {
            ClaimState::New => Ok(ClaimOutcome::New(self)),
            ClaimState::Done => {
                self.finish_completed(self.since);
                Ok(ClaimOutcome::Done(None))
            }
            ClaimState::InFlight => Arc::clone(&self.dedup).wait_for_remote(self),
        }
    }

    /// Polls the store for the outcome of another process's claim; `None` if it is still in flight at the end.
    async fn poll_remote(&mut self) -> Result<Option<InFlightOutcome>, Rejection> {
        let deadline = self.since + self.dedup.settings.duplicate_timeout;
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
                    self.finish_completed(again);
                    return Ok(Some(InFlightOutcome::Completed));
                }
                // This waiter has dropped the body, so it cannot handle the delivery: it releases the claim for the
                // next attempt.
                ClaimState::New => return Ok(Some(InFlightOutcome::Failed)),
            }
        }
    }

    async fn state(&self) -> Result<ClaimState, Rejection> {
        let Some(store) = &self.dedup.shared else { return Ok(ClaimState::New) };
        let ttl = self.dedup.settings.claim_ttl;
        let state = self.dedup.call(|| store.claim(self.key, self.lease_token(), ttl)).await;
        state.map_err(|error| Rejection::with_detail(RejectionKind::StoreUnavailable, error))
    }

    /// Records the completion, then notifies the duplicates that wait.
    pub(crate) async fn complete(&mut self, now: Instant) -> Result<(), StoreError> {
        let recorded = match &self.dedup.shared {
            // Boxed, as in `claim`.
            Some(store) => Box::pin(self.dedup.call(|| store.complete(self.key, self.lease_token()))).await,
            None => Ok(()),
        };
        // The handler has run, whether or not its completion could be recorded.
        self.finish_completed(now);
        recorded
    }

    fn finish_completed(&mut self, now: Instant) {
        self.releases_on_drop = false;
        self.dedup.complete(self.key, self.body, now);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.releases_on_drop {
            return;
        }
        match &self.dedup.shared {
            None => self.dedup.finish_released(self.key),
            Some(store) => {
                release_later(Arc::clone(&self.dedup), Arc::clone(store), self.key, self.lease_token());
            }
        }
    }
}

/// Removes the key from the table once its claim is released, or when the releasing task is dropped with its runtime.
struct RemoveOnDrop {
    dedup: Arc<Deduplicator>,
    key: DeliveryKey,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.dedup.finish_released(self.key);
    }
}

fn release_later(
    dedup: Arc<Deduplicator>,
    store: Arc<dyn DedupStore>,
    key: DeliveryKey,
    lease_token: LeaseToken,
) {
    let entry = RemoveOnDrop { dedup, key };
    // Without a runtime, as during its shutdown, the claim ends when its TTL does.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let _detached = runtime.spawn(async move {
        if let Err(error) = entry.dedup.call(|| store.release(key, lease_token)).await {
            tracing::warn!(%key, %error, "a claim could not be released; it ends when its TTL does");
        }
    });
}
