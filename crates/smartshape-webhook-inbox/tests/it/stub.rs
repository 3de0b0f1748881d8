//! A storage that stores nothing, and has the faults that its fields say.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::event::NewEvent;
use crate::storage::admin::{AdminAction, StorageAdmin};
use crate::storage::statement::{Dialect, EachRow, Statement};
use crate::storage::{
    Attempt, AttemptOutcome, AttemptResult, ClaimRequest, ClaimResponse, Lease, Retention, Settled, Storage,
    StorageFuture, WorkerGuard,
};
use crate::{EventFilter, Inbox, InboxBuilder, InboxError, InboxErrorKind};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::it::fixture::delivery;

#[derive(Debug, Default)]
pub(crate) struct Stub {
    pub(crate) unreachable: AtomicBool,
    /// Each insert takes a permit.
    pub(crate) insert_gate: Option<Semaphore>,
    pub(crate) batches: AtomicUsize,
    pub(crate) inserted: AtomicUsize,
    /// What the next claim returns.
    pub(crate) attempt: Mutex<Option<Attempt>>,
    /// Each claim takes a permit.
    pub(crate) claim_gate: Option<Semaphore>,
    /// In seconds, of a claim that returns an attempt.
    pub(crate) claims_take: AtomicUsize,
    /// Claims without an attempt report a due event.
    pub(crate) unclaimable_event: bool,
    pub(crate) claims: AtomicUsize,
    pub(crate) renewals: AtomicUsize,
    /// The next `settle` takes effect and then fails.
    pub(crate) loses_response: AtomicBool,
    pub(crate) settled: AtomicUsize,
    pub(crate) released: AtomicUsize,
    pub(crate) recorded: Mutex<HashSet<Lease>>,
    pub(crate) endless_sweep: bool,
    /// Portions left to sweep, each of which takes 8 seconds.
    pub(crate) slow_sweeps: AtomicUsize,
    pub(crate) pings: AtomicUsize,
    /// Number of calls of `settle` that find the event locked.
    pub(crate) locked_settles: AtomicUsize,
    /// The disk is full when the worker starts for the first time.
    pub(crate) full_at_start: AtomicBool,
    /// Counting never ends.
    pub(crate) endless_stats: bool,
}

impl Stub {
    pub(crate) fn with(attempt: Attempt) -> Self {
        Self { attempt: Mutex::new(Some(attempt)), ..Self::default() }
    }

    /// An inbox with this storage and the default settings.
    pub(crate) fn inbox(self: &Arc<Self>) -> Inbox {
        self.inbox_with(&Inbox::builder("stub"))
    }

    pub(crate) fn inbox_with(self: &Arc<Self>, settings: &InboxBuilder) -> Inbox {
        Inbox::with_storage(Arc::<Self>::clone(self), settings)
    }

    fn respond<T: Send + 'static>(&self, value: T) -> StorageFuture<'static, T> {
        let unreachable = self.unreachable.load(Ordering::SeqCst);
        let error = || InboxError::new(InboxErrorKind::Unavailable, "the store is away");
        Box::pin(async move { if unreachable { Err(error()) } else { Ok(value) } })
    }
}

pub(crate) fn attempt() -> Attempt {
    let delivery = delivery(1);
    Attempt {
        lease: Lease { seq: 1, fence: 1 },
        key: delivery.key(),
        number: 1,
        received_at: Timestamp::UNIX_EPOCH,
        secret_name: None,
        traceparent: None,
        body: Ok(Some(delivery.raw().clone())),
    }
}

async fn pass(gate: Option<&Semaphore>) {
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
}

impl StorageAdmin for Stub {
    fn dialect(&self) -> Dialect {
        Dialect::SQLITE
    }

    fn milliseconds_until(&self, _: &str) -> String {
        String::new()
    }

    fn disk_bytes(&self) -> String {
        String::new()
    }

    fn fetch<'a>(&'a self, statement: Statement, _: EachRow<'a>) -> StorageFuture<'a, ()> {
        if self.endless_stats && statement.may_take_minutes {
            return Box::pin(std::future::pending());
        }
        self.respond(())
    }

    fn execute(&self, _: Statement) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn change(&self, _: AdminAction, _: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)> {
        self.respond(Default::default())
    }
}

impl Storage for Stub {
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>> {
        Box::pin(async move {
            pass(self.insert_gate.as_ref()).await;
            self.batches.fetch_add(1, Ordering::SeqCst);
            let response = self.respond(vec![true; events.len()]);
            tokio::time::sleep(Duration::from_millis(1)).await;
            let response = response.await?;
            self.inserted.fetch_add(events.len(), Ordering::SeqCst);
            Ok(response)
        })
    }

    fn claim(&self, _: ClaimRequest) -> StorageFuture<'_, ClaimResponse> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            pass(self.claim_gate.as_ref()).await;
            let attempts = Vec::from_iter(self.attempt.lock().unwrap().take());
            let takes = if attempts.is_empty() { 0 } else { self.claims_take.load(Ordering::SeqCst) };
            let next_due = self.unclaimable_event.then_some(Duration::ZERO);
            let response = self.respond(ClaimResponse { attempts, next_due, ..ClaimResponse::default() });
            tokio::time::sleep(Duration::from_secs(takes as u64)).await;
            response.await
        })
    }

    fn renew(&self, leases: Vec<Lease>, _: Duration) -> StorageFuture<'_, Vec<Lease>> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.respond(leases)
    }

    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled> {
        let released = results.iter().filter(|one| matches!(one.outcome, AttemptOutcome::Released)).count();
        self.released.fetch_add(released, Ordering::SeqCst);
        self.settled.fetch_add(results.len(), Ordering::SeqCst);
        let loses_response = self.loses_response.swap(false, Ordering::SeqCst);
        if !loses_response && self.locked_settles.load(Ordering::SeqCst) > 0 {
            self.locked_settles.fetch_sub(1, Ordering::SeqCst);
            let locked = results.iter().map(|one| one.lease).collect();
            return self.respond(Settled { recorded: Vec::new(), locked });
        }
        let mut recorded = self.recorded.lock().unwrap();
        let held = results.iter().map(|one| one.lease).filter(|lease| recorded.insert(*lease)).collect();
        if loses_response {
            let error = InboxError::new(InboxErrorKind::Unavailable, "the connection was lost");
            return Box::pin(async { Err(error) });
        }
        self.respond(Settled { recorded: held, locked: Vec::new() })
    }

    fn sweep(&self, _: Retention) -> StorageFuture<'_, u64> {
        if self.slow_sweeps.load(Ordering::SeqCst) == 0 {
            return self.respond(self.endless_sweep.into());
        }
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            self.slow_sweeps.fetch_sub(1, Ordering::SeqCst);
            Ok(1)
        })
    }

    fn ping(&self) -> StorageFuture<'_, ()> {
        self.pings.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            tokio::task::yield_now().await;
            self.respond(()).await
        })
    }

    fn lock_worker(&self) -> StorageFuture<'_, WorkerGuard> {
        if self.full_at_start.swap(false, Ordering::SeqCst) {
            let error = InboxError::new(InboxErrorKind::Full, "the disk is full");
            return Box::pin(async { Err(error) });
        }
        self.respond(Arc::new(()))
    }
}
