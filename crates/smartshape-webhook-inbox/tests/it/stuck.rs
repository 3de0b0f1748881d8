//! What must neither stop a worker nor make it spin. Time is tokio's own here, so a worker that spins
//! lets none pass, and its test never ends.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::any::Any;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use smartshape_webhook::{Delivery, DeliveryKey, Handler as _};
use smartshape_webhook_inbox::{
    Attempt, Claimed, Engine, EngineFuture, Filter, Inbox, InboxError, InboxErrorKind, Lease, Record,
    Retention, Settlement, Stats, StoredDelivery, StoredEvent, Wanted,
};

use crate::bench::delivery;

const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Gives one attempt out, and then behaves as it is told.
#[derive(Debug, Default)]
struct Puppet {
    attempt: Mutex<Option<Attempt>>,
    /// How many records each insert had.
    batches: Mutex<Vec<usize>>,
    claims: AtomicUsize,
    renewals: AtomicUsize,
    settled: AtomicUsize,
    sweeps_for_ever: AtomicBool,
    claims_hang: AtomicBool,
    inserts_hang: AtomicBool,
    is_away: AtomicBool,
}

impl Puppet {
    fn with(attempt: Attempt) -> Self {
        Self { attempt: Mutex::new(Some(attempt)), ..Self::default() }
    }

    fn answer<T: Send + 'static>(&self, value: T) -> EngineFuture<'static, T> {
        let away = self.is_away.load(Ordering::SeqCst);
        let error = || InboxError::new(InboxErrorKind::Unavailable, "the store is away");
        Box::pin(async move { if away { Err(error()) } else { Ok(value) } })
    }
}

impl Engine for Puppet {
    fn insert(&self, records: Arc<[Record]>) -> EngineFuture<'_, Vec<bool>> {
        self.batches.lock().unwrap().push(records.len());
        let answer = self.answer(vec![true; records.len()]);
        if self.inserts_hang.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            answer.await
        })
    }

    fn claim(&self, _: Wanted) -> EngineFuture<'_, Claimed> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        let Some(attempt) = self.attempt.lock().unwrap().take() else {
            if self.claims_hang.load(Ordering::SeqCst) {
                return Box::pin(std::future::pending());
            }
            return self.answer(Claimed::default());
        };
        self.answer(Claimed { attempts: vec![attempt], ..Claimed::default() })
    }

    fn renew(&self, leases: Vec<Lease>, _: Duration) -> EngineFuture<'_, Vec<Lease>> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.answer(leases)
    }

    fn settle(&self, settlements: Arc<[Settlement]>) -> EngineFuture<'_, Vec<Lease>> {
        self.settled.fetch_add(settlements.len(), Ordering::SeqCst);
        self.answer(settlements.iter().map(|one| one.lease).collect())
    }

    fn list(&self, _: Filter) -> EngineFuture<'_, Vec<StoredEvent>> {
        self.answer(Vec::new())
    }

    fn show(&self, _: DeliveryKey) -> EngineFuture<'_, Option<StoredDelivery>> {
        self.answer(None)
    }

    fn replay(&self, _: Filter) -> EngineFuture<'_, u64> {
        self.answer(0)
    }

    fn purge(&self, _: Filter) -> EngineFuture<'_, u64> {
        self.answer(0)
    }

    fn stats(&self) -> EngineFuture<'_, Stats> {
        self.answer(Stats::default())
    }

    fn sweep(&self, _: Retention) -> EngineFuture<'_, u64> {
        self.answer(self.sweeps_for_ever.load(Ordering::SeqCst).into())
    }

    fn ping(&self) -> EngineFuture<'_, ()> {
        self.answer(())
    }

    fn seat(&self) -> EngineFuture<'_, Box<dyn Any + Send>> {
        self.answer(Box::new(()))
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

fn inbox(engine: &Arc<Puppet>) -> Inbox {
    Inbox::with_engine(Arc::<Puppet>::clone(engine), &Inbox::builder("puppet"))
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
async fn an_event_that_cannot_be_read_does_not_keep_the_last_place() {
    let engine = Arc::new(Puppet::with(Attempt { body: None, ..attempt() }));
    let worker = inbox(&engine).worker(ends).concurrency(1).spawn();
    reaches(&engine.settled, 1).await;
    worker.finish().await.unwrap();
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
async fn an_error_that_cannot_be_shown_is_a_failed_attempt() {
    // One whose text fails, which makes `to_string` panic, and one that is its own cause.
    let own_cause = Arc::new(Unshown(std::sync::OnceLock::new()));
    own_cause.0.set(Arc::clone(&own_cause)).unwrap();
    for error in [Arc::new(Unshown(std::sync::OnceLock::new())), own_cause] {
        let engine = Arc::new(Puppet::with(attempt()));
        let inbox = inbox(&engine);
        let worker = inbox.worker(move |_: Delivery| {
            let error = Arc::clone(&error);
            async move { Err(smartshape_webhook::HandlerError::from(error)) }
        });
        let worker = worker.spawn();
        reaches(&engine.settled, 1).await;
        // It goes on.
        *engine.attempt.lock().unwrap() = Some(attempt());
        reaches(&engine.settled, 2).await;
        worker.finish().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_events_is_not_ready_though_it_answers() {
    let engine = Arc::new(Puppet::default());
    let inbox = inbox(&engine);
    let worker = inbox.worker(ends).spawn();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    assert_eq!(inbox.health().await.store, None);
    engine.inserts_hang.store(true, Ordering::SeqCst);
    assert!(inbox.handle(delivery(2)).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let health = inbox.health().await;
    assert!(!health.is_ready() && health.store.is_some(), "{health:?}");
    worker.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_a_claim_hangs() {
    let engine = Arc::new(Puppet::with(attempt()));
    engine.claims_hang.store(true, Ordering::SeqCst);
    let worker = inbox(&engine).worker(never_ends).spawn();
    reaches(&engine.renewals, 3).await;
    assert_eq!(engine.claims.load(Ordering::SeqCst), 2, "the second claim is still asked for");
    worker.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_long_sweep_does_not_keep_events_waiting() {
    let engine = Arc::new(Puppet::with(attempt()));
    engine.sweeps_for_ever.store(true, Ordering::SeqCst);
    let inbox = inbox(&engine);
    let stop = async {
        while engine.settled.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    inbox.worker(ends).run(stop).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_calmly_for_a_store_that_is_away() {
    let engine = Arc::new(Puppet::with(attempt()));
    let worker = inbox(&engine).worker(never_ends).shutdown_grace(Duration::from_secs(100)).spawn();
    reaches(&engine.claims, 2).await;
    engine.is_away.store(true, Ordering::SeqCst);
    worker.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_long_intervals_is_healthy() {
    let idle = Arc::new(Puppet::default());
    let busy = Arc::new(Puppet::with(attempt()));
    let (idle_inbox, busy_inbox) = (inbox(&idle), inbox(&busy));
    let workers = [idle_inbox.worker(ends).poll_interval(Duration::from_secs(600)).spawn()];
    let full = busy_inbox.worker(never_ends).concurrency(1).lease(Duration::from_secs(1800)).spawn();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(idle_inbox.health().await.is_ready());
        assert!(busy_inbox.health().await.is_ready());
    }
    idle.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(idle_inbox.health().await.stalled);
    for worker in workers.into_iter().chain([full]) {
        worker.finish().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn times_without_end_are_as_good_as_never() {
    let engine = Arc::new(Puppet::with(attempt()));
    let settings = Inbox::builder("puppet").store_limit(Duration::MAX).keep_tombstones(Duration::MAX);
    let inbox = Inbox::with_engine(Arc::<Puppet>::clone(&engine), &settings);
    let worker = inbox.worker(ends).lease(Duration::MAX).poll_interval(Duration::MAX);
    let worker = worker.backoff(Duration::MAX, Duration::MAX).shutdown_grace(Duration::MAX).spawn();
    reaches(&engine.settled, 1).await;
    worker.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_does_not_stop_a_shutdown() {
    let engine = Arc::new(Puppet::with(attempt()));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let blocked = Mutex::new(blocked);
    let worker = inbox(&engine)
        .worker(move |_: Delivery| {
            let _ = sender.send(());
            let _ = blocked.lock().unwrap().recv();
            async { Ok(()) }
        })
        .shutdown_grace(Duration::ZERO)
        .spawn();
    begun.recv().await.unwrap();
    worker.finish().await.unwrap();
    assert_eq!(engine.settled.load(Ordering::SeqCst), 0, "it is still at work, so not given back");
    drop(release);
}

/// Who was answered and asks again does so together with the others, not as the first one alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn those_who_ask_together_share_a_commit() {
    let (askers, rounds) = (64, 10);
    let engine = Arc::new(Puppet::default());
    let inbox = inbox(&engine);
    let asking: Vec<_> = (0..askers)
        .map(|asker| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                for round in 0..rounds {
                    assert!(inbox.handle(delivery(asker * rounds + round)).await.is_ok());
                }
            })
        })
        .collect();
    for asker in asking {
        asker.await.unwrap();
    }
    // The first ones come while the tasks are still being made.
    let batches = engine.batches.lock().unwrap().clone();
    assert!(batches.len() < 15, "{batches:?}");
}
