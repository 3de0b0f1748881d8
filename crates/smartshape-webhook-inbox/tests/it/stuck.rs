//! Faults that must neither stop a worker nor make it spin. The clock is paused: while a worker spins no time
//! passes, so its test never ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::Inbox;
use crate::storage::Attempt;
use futures_util::future::join_all;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use smartshape_webhook::{Delivery, Handler as _, HandlerError};
use tokio::sync::{Notify, Semaphore};

use crate::it::fixture::{delivery, succeed};
use crate::it::stub::{Stub, attempt};

const LONG: Duration = Duration::from_secs(24 * 60 * 60);

async fn ends_in_a_second(_: Delivery) -> Result<(), HandlerError> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn never_ends(_: Delivery) -> Result<(), HandlerError> {
    std::future::pending().await
}

async fn wait_for_count(counter: &AtomicUsize, count: usize) {
    let reached = async {
        while counter.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(LONG, reached).await.unwrap();
}

/// Asserts how often attempts have ended so.
fn assert_attempts(recorder: &PrometheusRecorder, counts: &[(&str, u32)]) {
    let page = recorder.handle().render();
    for (outcome, count) in counts {
        let line = format!("smartshape_inbox_attempts_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(page.contains(&line), "{page}");
    }
}

/// Runs a worker for one event at a time until it has ended so many attempts.
async fn run_until_settled(storage: &Arc<Stub>, attempts: usize) {
    let worker = storage.inbox().worker(succeed).concurrency(1).spawn();
    wait_for_count(&storage.settled, attempts).await;
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn unreadable_event_frees_its_concurrency() {
    run_until_settled(&Arc::new(Stub::with(Attempt { body: Ok(None), ..attempt() })), 1).await;
}

/// An error whose `Display` fails, or whose chain of causes never ends, as a handler's error can.
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
        let storage = Arc::new(Stub::with(attempt()));
        let inbox = storage.inbox();
        let worker = inbox.worker(move |_: Delivery| {
            let error = Arc::clone(&error);
            async move { Err(HandlerError::from(error)) }
        });
        let worker = worker.spawn();
        wait_for_count(&storage.settled, 1).await;
        // The worker goes on.
        *storage.attempt.lock().unwrap() = Some(attempt());
        wait_for_count(&storage.settled, 2).await;
        worker.shutdown().await.unwrap();
    }
}

/// The result was recorded before the connection was lost, so nothing is attempted again. The transaction whose
/// response was lost may still have the event locked when the result is recorded again.
#[tokio::test(start_paused = true)]
async fn result_with_lost_response_is_no_lost_lease() {
    for (locked, settles) in [(0, 2), (2, 4)] {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _installed = metrics::set_default_local_recorder(&recorder);
        let storage =
            Stub { loses_response: true.into(), locked_settles: locked.into(), ..Stub::with(attempt()) };
        run_until_settled(&Arc::new(storage), settles).await;
        assert_attempts(&recorder, &[("completed", 1), ("lease_lost", 0)]);
    }
}

#[tokio::test(start_paused = true)]
async fn storage_with_hanging_inserts_is_not_ready() {
    let storage = Arc::new(Stub { insert_gate: Some(Semaphore::new(1)), ..Stub::default() });
    let inbox = storage.inbox();
    let worker = inbox.worker(succeed).spawn();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    assert_eq!(inbox.health().await.storage_error, None);
    assert!(inbox.handle(delivery(2)).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let health = inbox.health().await;
    assert!(!health.is_ready() && health.storage_error.is_some(), "{health:?}");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_claim_hangs() {
    let storage = Arc::new(Stub { claim_gate: Some(Semaphore::new(1)), ..Stub::with(attempt()) });
    let worker = storage.inbox().worker(never_ends).spawn();
    wait_for_count(&storage.renewals, 3).await;
    assert_eq!(storage.claims.load(Ordering::SeqCst), 2, "the second claim is still asked for");
    worker.shutdown().await.unwrap();
}

/// The claim's response took 50 of the lease's 60 seconds, and the next renewal would be in 20.
#[tokio::test(start_paused = true)]
async fn lease_of_slow_claim_is_renewed_at_once() {
    let storage = Arc::new(Stub { claims_take: 50.into(), ..Stub::with(attempt()) });
    let started = Arc::new(Notify::new());
    let starts = Arc::clone(&started);
    let handler = move |_: Delivery| {
        starts.notify_one();
        std::future::pending::<Result<(), HandlerError>>()
    };
    let worker = storage.inbox().worker(handler).spawn();
    started.notified().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(storage.renewals.load(Ordering::SeqCst), 1);
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn long_sweep_does_not_delay_events() {
    let storage = Arc::new(Stub { endless_sweep: true, ..Stub::with(attempt()) });
    let inbox = storage.inbox();
    let stop = async {
        while storage.settled.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    inbox.worker(succeed).run(stop).await.unwrap();
}

/// Counting millions of events takes longer than `store_timeout`.
#[tokio::test(start_paused = true)]
async fn slow_stats_do_not_delay_events() {
    let storage = Arc::new(Stub { endless_stats: true, ..Stub::with(attempt()) });
    let started_at = tokio::time::Instant::now();
    run_until_settled(&storage, 1).await;
    assert!(started_at.elapsed() < Duration::from_secs(5), "{:?}", started_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn worker_starts_when_full_disk_has_space_again() {
    run_until_settled(&Arc::new(Stub { full_at_start: true.into(), ..Stub::with(attempt()) }), 1).await;
}

/// Another transaction releases the event a moment after the last attempt at it.
#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_locked_event() {
    let storage = Arc::new(Stub { locked_settles: 3.into(), ..Stub::with(attempt()) });
    run_until_settled(&storage, 1).await;
    assert_eq!(storage.recorded.lock().unwrap().len(), 1);
}

/// Sweeps that take longer than `store_timeout` (5 s) follow each other, and events do not wait for them.
#[tokio::test(start_paused = true)]
async fn slow_sweeps_follow_each_other_beside_events() {
    let storage = Arc::new(Stub { slow_sweeps: 10.into(), ..Stub::default() });
    let (started_at, worker) = (tokio::time::Instant::now(), storage.inbox().worker(succeed).spawn());
    while storage.slow_sweeps.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(started_at.elapsed() < Duration::from_secs(100), "{storage:?}");
    }
    assert!(storage.claims.load(Ordering::SeqCst) > 70, "{storage:?}");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_spin_while_storage_is_unavailable() {
    let storage = Arc::new(Stub::with(attempt()));
    let worker = storage.inbox().worker(never_ends).shutdown_timeout(Duration::from_secs(100)).spawn();
    wait_for_count(&storage.claims, 2).await;
    storage.unreachable.store(true, Ordering::SeqCst);
    worker.shutdown().await.unwrap();
}

/// The storage is back before `shutdown_timeout` is over.
#[tokio::test(start_paused = true)]
async fn shutdown_records_result_when_storage_is_back() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let storage = Arc::new(Stub::with(attempt()));
    let worker = storage.inbox().worker(ends_in_a_second).spawn();
    wait_for_count(&storage.claims, 1).await;
    storage.unreachable.store(true, Ordering::SeqCst);
    let back = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        storage.unreachable.store(false, Ordering::SeqCst);
    };
    let (ended, ()) = tokio::join!(worker.shutdown(), back);
    ended.unwrap();
    assert_attempts(&recorder, &[("completed", 1)]);
}

#[tokio::test(start_paused = true)]
async fn worker_with_long_intervals_is_healthy() {
    let idle = Arc::new(Stub::default());
    let busy = Arc::new(Stub::with(attempt()));
    let (idle_inbox, busy_inbox) = (idle.inbox(), busy.inbox());
    let workers = [idle_inbox.worker(succeed).poll_interval(Duration::from_secs(600)).spawn()];
    let full = busy_inbox.worker(never_ends).concurrency(1).lease_ttl(Duration::from_secs(1800)).spawn();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(idle_inbox.health().await.is_ready());
        assert!(busy_inbox.health().await.is_ready());
    }
    idle.unreachable.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(idle_inbox.health().await.stalled);
    for worker in workers.into_iter().chain([full]) {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn maximum_durations_do_not_overflow() {
    let storage = Arc::new(Stub::with(attempt()));
    let settings = Inbox::builder("stub").store_timeout(Duration::MAX).dedup_retention(Duration::MAX);
    let inbox = storage.inbox_with(&settings);
    let worker = inbox.worker(succeed).lease_ttl(Duration::MAX).poll_interval(Duration::MAX);
    let worker = worker.backoff(Duration::MAX, Duration::MAX).shutdown_timeout(Duration::MAX).spawn();
    wait_for_count(&storage.settled, 1).await;
    worker.shutdown().await.unwrap();
}

/// Callers whose deliveries one commit stored deliver again together, not the first of them alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn concurrent_deliveries_share_a_commit() {
    let (callers, rounds) = (64, 10);
    let storage = Arc::new(Stub::default());
    let inbox = storage.inbox();
    let calls = (0..callers).map(|caller| {
        let inbox = inbox.clone();
        tokio::spawn(async move { inbox.store(caller * rounds..(caller + 1) * rounds).await })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    // The first ones come while the tasks are still being made.
    assert!(storage.batches.load(Ordering::SeqCst) < 15, "{storage:?}");
}
