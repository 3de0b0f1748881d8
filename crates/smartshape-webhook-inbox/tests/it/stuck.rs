//! Faults that must neither stop a worker nor make it spin. The clock is paused: while a worker spins no time
//! passes, so its test never ends.
use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::activity::{Minute, Numbers};
use crate::event::NewEvent;
use crate::operations::{FailedAttempt, Pause, WorkerInfo, WorkerReport};
use crate::reason::DeadLetterReason;
use crate::storage::{
    Attempt, AttemptResult, ClaimRequest, ClaimResponse, Lease, Retention, Settled, Storage, StorageFuture,
};
use crate::{
    EventFilter, Inbox, InboxCounts, InboxError, InboxErrorKind, InboxStats, StoredDelivery, StoredEvent,
};
use jiff::Timestamp;
use smartshape_webhook::{Delivery, DeliveryKey, Handler as _};
use tokio::sync::Notify;

use crate::it::fixture::delivery;

const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// A storage that returns one attempt, and then behaves as its flags say.
#[derive(Debug, Default)]
struct Puppet {
    attempt: Mutex<Option<Attempt>>,
    /// How many events each insert had.
    batches: Mutex<Vec<usize>>,
    claims: AtomicUsize,
    renewals: AtomicUsize,
    settled: AtomicUsize,
    recorded: Mutex<HashSet<Lease>>,
    /// Of the next `settle`, which takes effect.
    loses_response: AtomicBool,
    sweeps_for_ever: AtomicBool,
    /// Portions left to sweep, each of which takes 8 seconds.
    slow_sweeps: AtomicUsize,
    claims_hang: AtomicBool,
    /// In seconds.
    claims_take: AtomicUsize,
    inserts_hang: AtomicBool,
    is_away: AtomicBool,
}

impl Puppet {
    fn with(attempt: Attempt) -> Self {
        Self { attempt: Mutex::new(Some(attempt)), ..Self::default() }
    }

    fn respond<T: Send + 'static>(&self, value: T) -> StorageFuture<'static, T> {
        let away = self.is_away.load(Ordering::SeqCst);
        let error = || InboxError::new(InboxErrorKind::Unavailable, "the store is away");
        Box::pin(async move { if away { Err(error()) } else { Ok(value) } })
    }
}

impl Storage for Puppet {
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>> {
        self.batches.lock().unwrap().push(events.len());
        let response = self.respond(vec![true; events.len()]);
        if self.inserts_hang.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            response.await
        })
    }

    fn claim(&self, _: ClaimRequest) -> StorageFuture<'_, ClaimResponse> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        let Some(attempt) = self.attempt.lock().unwrap().take() else {
            if self.claims_hang.load(Ordering::SeqCst) {
                return Box::pin(std::future::pending());
            }
            return self.respond(ClaimResponse::default());
        };
        let response = self.respond(ClaimResponse { attempts: vec![attempt], ..ClaimResponse::default() });
        let takes = Duration::from_secs(self.claims_take.load(Ordering::SeqCst) as u64);
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            response.await
        })
    }

    fn renew(&self, leases: Vec<Lease>, _: Duration) -> StorageFuture<'_, Vec<Lease>> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.respond(leases)
    }

    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled> {
        self.settled.fetch_add(results.len(), Ordering::SeqCst);
        let mut recorded = self.recorded.lock().unwrap();
        let held = results.iter().map(|one| one.lease).filter(|lease| recorded.insert(*lease)).collect();
        if self.loses_response.swap(false, Ordering::SeqCst) {
            let error = InboxError::new(InboxErrorKind::Unavailable, "the connection was lost");
            return Box::pin(async { Err(error) });
        }
        self.respond(Settled { recorded: held, locked: Vec::new() })
    }

    fn list(&self, _: EventFilter) -> StorageFuture<'_, Vec<StoredEvent>> {
        self.respond(Vec::new())
    }

    fn get(&self, _: DeliveryKey) -> StorageFuture<'_, Option<StoredDelivery>> {
        self.respond(None)
    }

    fn replay(&self, _: EventFilter) -> StorageFuture<'_, u64> {
        self.respond(0)
    }

    fn purge(&self, _: EventFilter) -> StorageFuture<'_, u64> {
        self.respond(0)
    }

    fn stats(&self) -> StorageFuture<'_, InboxStats> {
        self.respond(InboxStats::default())
    }

    fn counts(&self) -> StorageFuture<'_, InboxCounts> {
        self.respond(InboxCounts::default())
    }

    fn nth(&self, _: EventFilter, _: u32) -> StorageFuture<'_, Option<i64>> {
        self.respond(None)
    }

    fn count_by_event(&self, _: EventFilter) -> StorageFuture<'_, Vec<(String, u64)>> {
        self.respond(Vec::new())
    }

    fn reasons(&self, _: u32) -> StorageFuture<'_, Vec<DeadLetterReason>> {
        self.respond(Vec::new())
    }

    fn record_activity(&self, _: Vec<Minute>) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn activity(&self, _: i64, _: i64) -> StorageFuture<'_, Vec<(i64, Numbers)>> {
        self.respond(Vec::new())
    }

    fn failed_attempts(&self, _: DeliveryKey) -> StorageFuture<'_, Vec<FailedAttempt>> {
        self.respond(Vec::new())
    }

    fn pause(&self, _: String) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn resume(&self) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn paused(&self) -> StorageFuture<'_, Option<Pause>> {
        self.respond(None)
    }

    fn report_worker(&self, _: WorkerReport) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn remove_worker(&self, _: i64) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn workers(&self) -> StorageFuture<'_, Vec<WorkerInfo>> {
        self.respond(Vec::new())
    }

    fn sweep(&self, _: Retention) -> StorageFuture<'_, u64> {
        if self.slow_sweeps.load(Ordering::SeqCst) == 0 {
            return self.respond(self.sweeps_for_ever.load(Ordering::SeqCst).into());
        }
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            self.slow_sweeps.fetch_sub(1, Ordering::SeqCst);
            Ok(1)
        })
    }

    fn ping(&self) -> StorageFuture<'_, ()> {
        self.respond(())
    }

    fn lock_worker(&self) -> StorageFuture<'_, Box<dyn Any + Send>> {
        self.respond(Box::new(()))
    }
}

fn attempt() -> Attempt {
    let delivery = delivery(1);
    Attempt {
        lease: Lease { seq: 1, fence: 1 },
        key: delivery.key(),
        number: 1,
        received_at: Timestamp::UNIX_EPOCH,
        secret_name: None,
        traceparent: None,
        body: Some(delivery.raw().clone()),
    }
}

fn inbox(storage: &Arc<Puppet>) -> Inbox {
    Inbox::with_storage(Arc::<Puppet>::clone(storage), &Inbox::builder("puppet"))
}

async fn ends(_: Delivery) -> Result<(), smartshape_webhook::HandlerError> {
    Ok(())
}

async fn never_ends(_: Delivery) -> Result<(), smartshape_webhook::HandlerError> {
    std::future::pending().await
}

async fn reaches(counter: &AtomicUsize, count: usize) {
    let reached = async {
        while counter.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(LONG, reached).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn unreadable_event_frees_its_concurrency() {
    let storage = Arc::new(Puppet::with(Attempt { body: None, ..attempt() }));
    let worker = inbox(&storage).worker(ends).concurrency(1).spawn();
    reaches(&storage.settled, 1).await;
    worker.shutdown().await.unwrap();
}

/// Its text is the handler's code.
#[derive(Debug)]
struct Unshown(std::sync::OnceLock<Arc<Unshown>>);

impl std::fmt::Display for Unshown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.get().is_none() { Err(std::fmt::Error) } else { f.write_str("again") }
    }
}

impl std::error::Error for Unshown {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.get().map(|cause| &**cause as &dyn std::error::Error)
    }
}

#[tokio::test(start_paused = true)]
async fn error_that_panics_in_display_is_a_failed_attempt() {
    // One whose text fails, which makes `to_string` panic, and one that is its own cause.
    let own_cause = Arc::new(Unshown(std::sync::OnceLock::new()));
    own_cause.0.set(Arc::clone(&own_cause)).unwrap();
    for error in [Arc::new(Unshown(std::sync::OnceLock::new())), own_cause] {
        let storage = Arc::new(Puppet::with(attempt()));
        let inbox = inbox(&storage);
        let worker = inbox.worker(move |_: Delivery| {
            let error = Arc::clone(&error);
            async move { Err(smartshape_webhook::HandlerError::from(error)) }
        });
        let worker = worker.spawn();
        reaches(&storage.settled, 1).await;
        // It goes on.
        *storage.attempt.lock().unwrap() = Some(attempt());
        reaches(&storage.settled, 2).await;
        worker.shutdown().await.unwrap();
    }
}

/// The result was recorded before the connection was lost, so nothing is attempted again.
#[cfg(feature = "sqlite")]
#[tokio::test(start_paused = true)]
async fn result_with_lost_response_is_no_lost_lease() {
    let measured = super::metrics::Measured::default();
    let _installed = metrics::set_default_local_recorder(&measured);
    let storage = Arc::new(Puppet::with(attempt()));
    storage.loses_response.store(true, Ordering::SeqCst);
    let worker = inbox(&storage).worker(ends).spawn();
    reaches(&storage.settled, 2).await;
    worker.shutdown().await.unwrap();
    let series: Vec<String> = measured.0.lock().unwrap().keys().cloned().collect();
    assert!(series.iter().any(|name| name.contains("completed")), "{series:?}");
    assert!(!series.iter().any(|name| name.contains("lease_lost")), "{series:?}");
}

#[tokio::test(start_paused = true)]
async fn storage_with_hanging_inserts_is_not_ready() {
    let storage = Arc::new(Puppet::default());
    let inbox = inbox(&storage);
    let worker = inbox.worker(ends).spawn();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    assert_eq!(inbox.health().await.storage_error, None);
    storage.inserts_hang.store(true, Ordering::SeqCst);
    assert!(inbox.handle(delivery(2)).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let health = inbox.health().await;
    assert!(!health.is_ready() && health.storage_error.is_some(), "{health:?}");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_claim_hangs() {
    let storage = Arc::new(Puppet::with(attempt()));
    storage.claims_hang.store(true, Ordering::SeqCst);
    let worker = inbox(&storage).worker(never_ends).spawn();
    reaches(&storage.renewals, 3).await;
    assert_eq!(storage.claims.load(Ordering::SeqCst), 2, "the second claim is still asked for");
    worker.shutdown().await.unwrap();
}

/// Its response took 50 of the lease's 60 seconds, and the next renewal would be in 20.
#[tokio::test(start_paused = true)]
async fn lease_of_slow_claim_is_renewed_at_once() {
    let storage = Arc::new(Puppet::with(attempt()));
    storage.claims_take.store(50, Ordering::SeqCst);
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let handler = move |_: Delivery| {
        begins.notify_one();
        std::future::pending::<Result<(), smartshape_webhook::HandlerError>>()
    };
    let worker = inbox(&storage).worker(handler).spawn();
    begun.notified().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(storage.renewals.load(Ordering::SeqCst), 1);
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn long_sweep_does_not_delay_events() {
    let storage = Arc::new(Puppet::with(attempt()));
    storage.sweeps_for_ever.store(true, Ordering::SeqCst);
    let inbox = inbox(&storage);
    let stop = async {
        while storage.settled.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    inbox.worker(ends).run(stop).await.unwrap();
}

/// Longer than `store_timeout`, which is 5 seconds.
#[tokio::test(start_paused = true)]
async fn slow_sweeps_follow_each_other_beside_events() {
    let storage = Arc::new(Puppet::default());
    storage.slow_sweeps.store(10, Ordering::SeqCst);
    let (began, worker) = (tokio::time::Instant::now(), inbox(&storage).worker(ends).spawn());
    while storage.slow_sweeps.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(100), "{storage:?}");
    }
    assert!(storage.claims.load(Ordering::SeqCst) > 70, "{storage:?}");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_spin_while_storage_is_unavailable() {
    let storage = Arc::new(Puppet::with(attempt()));
    let worker = inbox(&storage).worker(never_ends).shutdown_timeout(Duration::from_secs(100)).spawn();
    reaches(&storage.claims, 2).await;
    storage.is_away.store(true, Ordering::SeqCst);
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn worker_with_long_intervals_is_healthy() {
    let idle = Arc::new(Puppet::default());
    let busy = Arc::new(Puppet::with(attempt()));
    let (idle_inbox, busy_inbox) = (inbox(&idle), inbox(&busy));
    let workers = [idle_inbox.worker(ends).poll_interval(Duration::from_secs(600)).spawn()];
    let full = busy_inbox.worker(never_ends).concurrency(1).lease_ttl(Duration::from_secs(1800)).spawn();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(idle_inbox.health().await.is_ready());
        assert!(busy_inbox.health().await.is_ready());
    }
    idle.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(idle_inbox.health().await.stalled);
    for worker in workers.into_iter().chain([full]) {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn maximum_durations_do_not_overflow() {
    let storage = Arc::new(Puppet::with(attempt()));
    let settings = Inbox::builder("puppet").store_timeout(Duration::MAX).dedup_retention(Duration::MAX);
    let inbox = Inbox::with_storage(Arc::<Puppet>::clone(&storage), &settings);
    let worker = inbox.worker(ends).lease_ttl(Duration::MAX).poll_interval(Duration::MAX);
    let worker = worker.backoff(Duration::MAX, Duration::MAX).shutdown_timeout(Duration::MAX).spawn();
    reaches(&storage.settled, 1).await;
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn handler_that_blocks_its_thread_does_not_stop_shutdown() {
    let storage = Arc::new(Puppet::with(attempt()));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let blocked = Mutex::new(blocked);
    let worker = inbox(&storage)
        .worker(move |_: Delivery| {
            let _ = sender.send(());
            let _ = blocked.lock().unwrap().recv();
            async { Ok(()) }
        })
        .shutdown_timeout(Duration::ZERO)
        .spawn();
    begun.recv().await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!(storage.settled.load(Ordering::SeqCst), 0, "it still runs, so it is not released");
    drop(release);
}

/// Callers whose deliveries one commit stored deliver again together, not the first of them alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn concurrent_deliveries_share_a_commit() {
    let (callers, rounds) = (64, 10);
    let storage = Arc::new(Puppet::default());
    let inbox = inbox(&storage);
    let calls: Vec<_> = (0..callers)
        .map(|caller| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                for round in 0..rounds {
                    assert!(inbox.handle(delivery(caller * rounds + round)).await.is_ok());
                }
            })
        })
        .collect();
    for caller in calls {
        caller.await.unwrap();
    }
    // The first ones come while the tasks are still being made.
    let batches = storage.batches.lock().unwrap().clone();
    assert!(batches.len() < 15, "{batches:?}");
}
