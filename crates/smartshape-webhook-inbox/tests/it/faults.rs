//! Faults that no store can be made to have at will.
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::activity::{Minute, Numbers};
use crate::event::NewEvent;
use crate::operations::{FailedAttempt, Pause, WorkerInfo, WorkerReport};
use crate::reason::DeadLetterReason;
use crate::storage::{
    Attempt, AttemptOutcome, AttemptResult, ClaimRequest, ClaimResponse, Lease, Retention, Settled, Storage,
    StorageFuture,
};
use crate::{
    EventFilter, Inbox, InboxCounts, InboxError, InboxErrorKind, InboxStats, StoredDelivery, StoredEvent,
};
use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    Delivery, DeliveryKey, Handler as _, HandlerErrorKind, Received, Receiver, RequestHead, Secret,
};
use tokio::sync::Semaphore;

use crate::it::fixture::delivery;

const SECRET: &str = "the secret of these tests";

/// A store that keeps nothing. Inserts wait for a permit, then fail or not.
#[derive(Debug)]
struct Faulty {
    turn: Semaphore,
    fail: AtomicBool,
    /// Claims report a due event and return no attempt.
    withhold: AtomicBool,
    claims: AtomicUsize,
    /// Claims that find something, but only with a permit.
    late: Option<Semaphore>,
    released: AtomicUsize,
    inserted: AtomicUsize,
    batches: AtomicUsize,
    pings: AtomicUsize,
}

impl Faulty {
    fn new(turns: usize, fail: bool) -> Arc<Self> {
        Arc::new(Self::build(turns, fail))
    }

    fn build(turns: usize, fail: bool) -> Self {
        let (inserted, batches) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (withhold, claims) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (late, released) = (None, AtomicUsize::new(0));
        let turn = Semaphore::new(turns);
        Self {
            turn,
            fail: fail.into(),
            withhold,
            claims,
            late,
            released,
            inserted,
            batches,
            pings: AtomicUsize::new(0),
        }
    }
}

fn away<T>() -> StorageFuture<'static, T> {
    Box::pin(async { Err(InboxError::new(InboxErrorKind::Unavailable, "the store is away")) })
}

impl Storage for Faulty {
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>> {
        Box::pin(async move {
            self.turn.acquire().await.unwrap().forget();
            self.batches.fetch_add(1, Ordering::SeqCst);
            if self.fail.load(Ordering::SeqCst) {
                return away().await;
            }
            self.inserted.fetch_add(events.len(), Ordering::SeqCst);
            Ok(vec![true; events.len()])
        })
    }

    fn claim(&self, _: ClaimRequest) -> StorageFuture<'_, ClaimResponse> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        if let Some(late) = &self.late {
            return Box::pin(async {
                late.acquire().await.unwrap().forget();
                let delivery = delivery(1);
                let attempt = Attempt {
                    lease: Lease { seq: 1, fence: 1 },
                    key: delivery.key(),
                    number: 1,
                    received_at: delivery.received_at(),
                    secret_name: None,
                    traceparent: None,
                    body: Some(delivery.raw().clone()),
                };
                Ok(ClaimResponse { attempts: vec![attempt], ..ClaimResponse::default() })
            });
        }
        if !self.withhold.load(Ordering::SeqCst) {
            return away();
        }
        Box::pin(async { Ok(ClaimResponse { next_due: Some(Duration::ZERO), ..ClaimResponse::default() }) })
    }

    fn renew(&self, _: Vec<Lease>, _: Duration) -> StorageFuture<'_, Vec<Lease>> {
        away()
    }

    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled> {
        let released = results.iter().filter(|one| matches!(one.outcome, AttemptOutcome::Released)).count();
        self.released.fetch_add(released, Ordering::SeqCst);
        let recorded = results.iter().map(|one| one.lease).collect();
        Box::pin(async { Ok(Settled { recorded, locked: Vec::new() }) })
    }

    fn list(&self, _: EventFilter) -> StorageFuture<'_, Vec<StoredEvent>> {
        away()
    }

    fn get(&self, _: DeliveryKey) -> StorageFuture<'_, Option<StoredDelivery>> {
        away()
    }

    fn replay(&self, _: EventFilter) -> StorageFuture<'_, u64> {
        away()
    }

    fn purge(&self, _: EventFilter) -> StorageFuture<'_, u64> {
        away()
    }

    fn stats(&self) -> StorageFuture<'_, InboxStats> {
        away()
    }

    fn counts(&self) -> StorageFuture<'_, InboxCounts> {
        away()
    }

    fn nth(&self, _: EventFilter, _: u32) -> StorageFuture<'_, Option<i64>> {
        away()
    }

    fn count_by_event(&self, _: EventFilter) -> StorageFuture<'_, Vec<(String, u64)>> {
        away()
    }

    fn reasons(&self, _: u32) -> StorageFuture<'_, Vec<DeadLetterReason>> {
        away()
    }

    fn record_activity(&self, _: Vec<Minute>) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn activity(&self, _: i64, _: i64) -> StorageFuture<'_, Vec<(i64, Numbers)>> {
        away()
    }

    fn failed_attempts(&self, _: DeliveryKey) -> StorageFuture<'_, Vec<FailedAttempt>> {
        away()
    }

    fn pause(&self, _: String) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn resume(&self) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn paused(&self) -> StorageFuture<'_, Option<Pause>> {
        away()
    }

    fn report_worker(&self, _: WorkerReport) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn remove_worker(&self, _: i64) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn workers(&self) -> StorageFuture<'_, Vec<WorkerInfo>> {
        away()
    }

    fn sweep(&self, _: Retention) -> StorageFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn ping(&self) -> StorageFuture<'_, ()> {
        self.pings.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            tokio::task::yield_now().await;
            away().await
        })
    }

    fn lock_worker(&self) -> StorageFuture<'_, Box<dyn Any + Send>> {
        if self.withhold.load(Ordering::SeqCst) || self.late.is_some() {
            Box::pin(async { Ok(Box::new(()) as Box<dyn Any + Send>) })
        } else {
            away()
        }
    }
}

fn inbox(storage: Arc<Faulty>, limit: Duration) -> Inbox {
    Inbox::with_storage(storage, &Inbox::builder("faulty").store_timeout(limit))
}

#[tokio::test]
async fn batch_failure_rejects_each_delivery() {
    let storage = Faulty::new(1, true);
    let inbox = inbox(Arc::clone(&storage), Duration::from_secs(3600));
    // The first one takes the turn; the others form a group behind it.
    let waiting: Vec<_> = (0..50)
        .map(|number| {
            let inbox = inbox.clone();
            tokio::spawn(async move { inbox.handle(delivery(number)).await })
        })
        .collect();
    while storage.batches.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    storage.turn.add_permits(1000);
    for one in waiting {
        let error = one.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), HandlerErrorKind::RetryAfter(_)), "{error}");
        assert!(error.to_string().contains("the store is away"));
    }
    assert!(storage.batches.load(Ordering::SeqCst) < 50, "deliveries that wait share a commit");
    storage.fail.store(false, Ordering::SeqCst);
    assert!(inbox.handle(delivery(1)).await.is_ok());
    assert_eq!(storage.inserted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn concurrent_duplicates_share_one_event() {
    let storage = Faulty::new(1, false);
    let inbox = inbox(Arc::clone(&storage), Duration::from_secs(3600));
    let ask = |number| {
        let inbox = inbox.clone();
        tokio::spawn(async move { inbox.handle(delivery(number)).await })
    };
    let first = ask(0);
    assert!(first.await.unwrap().is_ok());
    // Nothing is inserted before there are permits, so these form groups.
    let waiting: Vec<_> = (0..60).map(|number| ask(1 + number % 3)).collect();
    tokio::task::yield_now().await;
    storage.turn.add_permits(1000);
    for one in waiting {
        assert!(one.await.unwrap().is_ok());
    }
    assert!(storage.inserted.load(Ordering::SeqCst) < 20, "{:?}", storage.inserted);
}

#[tokio::test]
async fn hanging_storage_rejects_within_timeout() {
    let storage = Faulty::new(0, false);
    let inbox = inbox(Arc::clone(&storage), Duration::from_millis(20));
    let error = inbox.handle(delivery(1)).await.unwrap_err();
    assert!(matches!(error.kind(), HandlerErrorKind::RetryAfter(_)), "{error}");
    assert!(error.to_string().contains("did not respond within 20 ms"), "{error}");
}

/// Otherwise rejected bodies would pile up outside the receiver's memory limit, and a storage that recovers would be
/// kept busy with them.
#[tokio::test]
async fn queued_body_counts_against_memory_limit_until_dropped() {
    let receiver = Receiver::builder()
        .secret(Secret::new(SECRET).unwrap())
        .verify_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let (first, large) = (received(&receiver, 0, 10).await, received(&receiver, 1, 300_000).await);
    let others = [received(&receiver, 2, 10).await, received(&receiver, 3, 10).await];
    let all = receiver.stats().reserved_bytes;

    let storage = Faulty::new(0, false);
    let inbox = inbox(Arc::clone(&storage), Duration::from_secs(3600));
    // In paused time the hour passes as soon as everything waits.
    tokio::time::pause();
    // The store is at the first one, and the large one, which has a commit of its own, is the next.
    let (first, large) = tokio::join!(inbox.handle(first), inbox.handle(large));
    assert!(first.is_err() && large.is_err());
    for other in others {
        assert!(inbox.handle(other).await.is_err());
    }
    tokio::time::resume();
    assert!(all > 300_000);
    assert_eq!(receiver.stats().reserved_bytes, all, "all of it is still there");

    let one_leaves = async {
        let left = tokio::time::timeout(Duration::ZERO, inbox.handle(delivery(1001))).await;
        assert!(left.is_err());
        storage.turn.add_permits(1000);
    };
    let (stored, ()) = tokio::join!(inbox.handle(delivery(1000)), one_leaves);
    assert!(stored.is_ok());
    assert_eq!(receiver.stats().reserved_bytes, 0);
    let inserted = storage.inserted.load(Ordering::SeqCst);
    assert_eq!(inserted, 2, "the one that was being inserted, and the one whose caller still waits");
}

/// A delivery that came through `receiver`.
async fn received(receiver: &Receiver, number: u32, length: usize) -> Delivery {
    let filler = "z".repeat(length);
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":"{filler}","owner":"o","runTimestamp":1,"uuid":"uuid-{number}"}}"#
    );
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    match receiver.receive(&head, body).await.unwrap() {
        Received::New(claimed) => claimed.delivery().clone(),
        Received::Duplicate => panic!("it came before"),
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_pings_storage_once_a_second() {
    let storage = Faulty::new(0, true);
    let inbox = inbox(Arc::clone(&storage), Duration::from_secs(1));
    for looks in 1..=3 {
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::ZERO, inbox.is_ready()).await.is_err(), "it has left");
        }
        let asked: Vec<_> = (0..100)
            .map(|_| {
                let inbox = inbox.clone();
                tokio::spawn(async move { inbox.is_ready().await })
            })
            .collect();
        for one in asked {
            assert!(!one.await.unwrap());
        }
        assert_eq!(storage.pings.load(Ordering::SeqCst), looks);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn worker_outlives_unavailable_storage() {
    let inbox = inbox(Faulty::new(0, true), Duration::from_secs(1));
    let worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    assert!(!inbox.health().await.is_ready());
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn worker_rejects_invalid_settings() {
    let inbox = inbox(Faulty::new(0, true), Duration::from_secs(1));
    let make = || inbox.worker(|_: Delivery| async { Ok(()) });
    for (name, worker) in [
        ("concurrency", make().concurrency(0)),
        ("lease_ttl", make().lease_ttl(Duration::ZERO)),
        ("max_attempts", make().max_attempts(0)),
        ("max_lost_leases", make().max_lost_leases(0)),
    ] {
        let error = worker.spawn().shutdown().await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::InvalidSettings);
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// A worker does not spin on a due event that it can never claim, such as one of a newer version.
#[tokio::test(start_paused = true)]
async fn worker_polls_for_due_event_that_it_cannot_claim() {
    let storage = Faulty::new(0, true);
    storage.withhold.store(true, Ordering::SeqCst);
    let inbox = inbox(Arc::clone(&storage), Duration::from_secs(1));
    let worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    // In paused time this is over as soon as everything waits.
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(storage.claims.load(Ordering::SeqCst), 11, "once at the start, then every second");
    worker.shutdown().await.unwrap();
}

/// A claim that returns after its lease has expired, or after the worker has shut down, counts no lost lease.
#[tokio::test(start_paused = true)]
async fn late_claim_is_released() {
    let storage = Arc::new(Faulty { late: Some(Semaphore::new(0)), ..Faulty::build(0, true) });
    let inbox = inbox(Arc::clone(&storage), Duration::from_secs(1));
    let worker = inbox.worker(|_: Delivery| async { panic!("no attempt is made") }).spawn();
    let released = async |times| {
        while storage.released.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // In paused time this is over as soon as everything waits.
    tokio::time::sleep(Duration::from_secs(61)).await;
    storage.late.as_ref().unwrap().add_permits(1);
    released(1).await;
    worker.shutdown().await.unwrap();
    storage.late.as_ref().unwrap().add_permits(1);
    released(2).await;
}
