//! What a worker does with stored events, on SQLite and on PostgreSQL.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler, HandlerError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::InboxError;
use crate::event::{EventFilter, EventState};
use crate::inbox::Inbox;
use crate::it::fixture::{Fixture, all_settled, attempt_recording_handler, file_delivery, on_each_storage};
use crate::storage::ClaimRequest;
use crate::worker::Worker;

/// What a handler saw: uuid and attempt.
type Seen = (String, u32);

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), InboxError>>,
}

fn run(worker: Worker) -> Running {
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    Running { stop, task }
}

impl Running {
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn store(inbox: &Inbox, numbers: std::ops::Range<u32>, file: &str) {
    for number in numbers {
        assert!(inbox.handle(file_delivery(number, file)).await.is_ok());
    }
}

/// A handler that waits for a permit.
fn gated(gate: &Arc<Semaphore>) -> (impl Handler, mpsc::UnboundedReceiver<Seen>) {
    let gate = Arc::clone(gate);
    attempt_recording_handler(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await?.forget();
            Ok(())
        }
    })
}

fn seen(delivery: &Delivery) -> Seen {
    (delivery.uuid().to_owned(), delivery.attempt())
}

on_each_storage! {
    worker_handles_each_event_once
    worker_counts_attempts_up_to_maximum
    worker_retries_no_earlier_than_backoff
    worker_dead_letters_permanent_error_at_once
    worker_survives_panic
    worker_keeps_to_concurrency
    worker_renews_lease_while_handler_runs
    worker_takes_over_expired_lease
    worker_dead_letters_event_that_kills_process
    shutdown_waits_for_running_handler
    shutdown_releases_unfinished_event
    shutdown_keeps_lease_of_blocked_handler
    worker_keeps_order_of_file
}

/// Stored before and while it runs; a duplicate is not handled again.
async fn worker_handles_each_event_once(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    let (sender, mut handled) = mpsc::unbounded_channel();
    store(&inbox, 0..20, "f").await;
    let worker = run(inbox.worker(move |delivery: Delivery| {
        let sent = sender.send((seen(&delivery), delivery.raw().clone(), delivery.key()));
        async move { sent.map_err(HandlerError::permanent) }
    }));
    store(&inbox, 10..40, "f").await;
    let mut uuids = Vec::new();
    let mut keys: HashSet<_> = (0..40).map(|number| file_delivery(number, "f").key()).collect();
    for _ in 0..40 {
        let ((uuid, attempt), body, key) = handled.recv().await.unwrap();
        assert_eq!(attempt, 1);
        assert!(keys.remove(&key), "another key than it was stored with");
        assert!(std::str::from_utf8(&body).unwrap().contains(&uuid));
        uuids.push(uuid);
    }
    all_settled(&inbox).await;
    assert!(inbox.health().await.is_ready());
    worker.end().await;
    assert!(handled.recv().await.is_none(), "handled more than once");
    uuids.sort_unstable();
    uuids.dedup();
    assert_eq!(uuids.len(), 40);
    assert!(!inbox.health().await.is_ready(), "no worker runs any more");
}

/// With the last error in the dead letter.
async fn worker_counts_attempts_up_to_maximum(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let (handler, mut handled) = attempt_recording_handler(|delivery| async move {
        match delivery.attempt() {
            1 => Err(HandlerError::retry("first")),
            2 => Err(HandlerError::retry_after(Duration::from_millis(1), "second")),
            _ => Err(HandlerError::retry("third")),
        }
    });
    let worker = inbox.worker(handler);
    let worker = run(worker.max_attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(1)));
    for attempt in 1..=3 {
        assert_eq!(handled.recv().await, Some(("uuid-0".to_owned(), attempt)));
    }
    all_settled(&inbox).await;
    worker.end().await;
    assert_eq!(handled.recv().await, None);
    let dead = inbox.list(EventFilter::default().state(EventState::DeadLetter)).await.unwrap().pop().unwrap();
    assert_eq!((dead.attempts, dead.error.as_deref()), (3, Some("third")));
}

/// A server that is busy for long would use up all attempts otherwise.
async fn worker_retries_no_earlier_than_backoff(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let worker = inbox.worker(|_: Delivery| async { Err(HandlerError::retry_after(Duration::ZERO, "busy")) });
    let hour = Duration::from_secs(3600);
    let worker = run(worker.backoff(hour, hour));
    for number in 1..4 {
        all_failed(&inbox).await;
        store(&inbox, number..number + 1, "f").await;
    }
    all_failed(&inbox).await;
    worker.end().await;
    let events = inbox.list(EventFilter::default()).await.unwrap();
    assert!(events.iter().all(|event| event.attempts == 1), "{events:?}");
}

/// Waits until each event has failed once.
async fn all_failed(inbox: &Inbox) {
    while inbox.list(EventFilter::default()).await.unwrap().iter().any(|event| event.error.is_none()) {
        tokio::task::yield_now().await;
    }
}

/// Without a second attempt.
async fn worker_dead_letters_permanent_error_at_once(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let worker = run(inbox.worker(|_: Delivery| async { Err(HandlerError::permanent("never")) }));
    all_settled(&inbox).await;
    worker.end().await;
    let dead = inbox.list(EventFilter::default().state(EventState::DeadLetter)).await.unwrap().pop().unwrap();
    assert_eq!((dead.attempts, dead.error.as_deref()), (1, Some("never")));
}

/// It is a failure like others, and the worker goes on.
async fn worker_survives_panic(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..3, "f").await;
    let worker = inbox.worker(|delivery: Delivery| async move {
        assert!(delivery.uuid() != "uuid-1", "poison");
        Ok(())
    });
    let worker = run(worker.max_attempts(2).backoff(Duration::from_millis(1), Duration::from_millis(1)));
    all_settled(&inbox).await;
    worker.end().await;
    let dead = inbox.list(EventFilter::default().state(EventState::DeadLetter)).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts, dead[0].error.as_deref()), (2, Some("the handler panicked: poison")));
}

/// It claims no more than it can run.
async fn worker_keeps_to_concurrency(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..10, "f").await;
    let gate = Arc::new(Semaphore::new(0));
    let (handler, mut handled) = gated(&gate);
    let worker = run(inbox.worker(handler).concurrency(3));
    for _ in 0..3 {
        handled.recv().await.unwrap();
    }
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.running, stats.waiting), (3, 7));
    // Another look of the worker changes nothing.
    store(&inbox, 10..11, "f").await;
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.running, stats.waiting, handled.len()), (3, 8, 0));
    gate.add_permits(100);
    all_settled(&inbox).await;
    worker.end().await;
    assert_eq!(handled.len(), 8);
}

/// So that a long handler is not run twice.
async fn worker_renews_lease_while_handler_runs(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let lease = Duration::from_secs(9);
    let gate = Arc::new(Semaphore::new(0));
    let (handler, mut handled) = gated(&gate);
    let worker = run(inbox.worker(handler).lease_ttl(lease));
    assert_eq!(handled.recv().await, Some(("uuid-0".to_owned(), 1)));
    // Another worker learns when the lease ends.
    let mut left = lease;
    loop {
        let claimed = inbox.storage().claim(ClaimRequest::new(1, lease)).await.unwrap();
        assert!(claimed.attempts.is_empty(), "another attempt began");
        match claimed.next_due {
            Some(due) if due > left => break,
            Some(due) => left = due,
            // The worker is renewing the lease, so the row is locked.
            None => {}
        }
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    all_settled(&inbox).await;
    worker.end().await;
    assert_eq!(handled.recv().await, None);
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 0);
}

/// Once its lease is over.
async fn worker_takes_over_expired_lease(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let (hanging, mut started) = attempt_recording_handler(|_| std::future::pending());
    let first = run(inbox.worker(hanging).concurrency(1).lease_ttl(Duration::from_secs(2)));
    let (_, mut last) = started.recv().await.unwrap();
    let (handler, mut handled) = attempt_recording_handler(|_| async { Ok(()) });
    let second = run(inbox.worker(handler));
    // The first one ends when the second one is seen to run, and so shares its lock of a file.
    store(&inbox, 1..2, "f").await;
    let mut taken = handled.recv().await.unwrap();
    first.task.abort();
    if taken.0 == "uuid-1" {
        taken = handled.recv().await.unwrap();
    }
    // On a slow machine the first one may have lost its lease before, and begun another attempt.
    while let Ok((uuid, attempt)) = started.try_recv() {
        last = if uuid == "uuid-0" { attempt } else { last };
    }
    assert!(taken.0 == "uuid-0" && taken.1 > last, "{taken:?} after attempt {last}");
    all_settled(&inbox).await;
    second.end().await;
}

/// Each process ends during the attempt; after a few of them the event is a dead letter.
async fn worker_dead_letters_event_that_kills_process(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let mut attempts = Vec::new();
    loop {
        let (hanging, mut started) = attempt_recording_handler(|_| std::future::pending());
        let worker = run(inbox.worker(hanging).lease_ttl(Duration::from_millis(200)).max_lost_leases(3));
        let is_over = tokio::select! {
            attempt = started.recv() => {
                attempts.extend(attempt.map(|(_, attempt)| attempt));
                worker.task.abort();
                let _ = worker.task.await;
                false
            }
            () = all_settled(&inbox) => {
                worker.end().await;
                true
            }
        };
        while let Some((_, attempt)) = started.recv().await {
            attempts.push(attempt);
        }
        if is_over {
            break;
        }
    }
    attempts.sort_unstable();
    // A lease that expires before the handler is called is lost too.
    let at_most =
        attempts.iter().collect::<HashSet<_>>().len() == attempts.len() && attempts.last() <= Some(&3);
    assert!(at_most, "called for the attempts {attempts:?}");
    let dead = inbox.list(EventFilter::default().state(EventState::DeadLetter)).await.unwrap().pop().unwrap();
    assert_eq!((dead.attempts, dead.lost_leases), (3, 3));
}

/// What runs is done, what waits stays.
async fn shutdown_waits_for_running_handler(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..3, "f").await;
    let gate = Arc::new(Semaphore::new(0));
    let (handler, mut started) = gated(&gate);
    let worker = run(inbox.worker(handler).concurrency(1));
    started.recv().await.unwrap();
    worker.stop.send(()).unwrap();
    gate.add_permits(100);
    worker.task.await.unwrap().unwrap();
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running), (2, 0));
}

/// What does not end in time is another worker's at once, and was no attempt.
async fn shutdown_releases_unfinished_event(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let (hanging, mut started) = attempt_recording_handler(|_| std::future::pending());
    let worker = run(inbox.worker(hanging).shutdown_timeout(Duration::ZERO));
    started.recv().await.unwrap();
    worker.end().await;
    let event = inbox.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((event.state, event.attempts, event.lost_leases), (EventState::Waiting, 0, 0));
}

/// It cannot be cancelled, so nobody else may have its event before its lease is over.
async fn shutdown_keeps_lease_of_blocked_handler(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    store(&inbox, 0..1, "f").await;
    let (sender, mut started) = mpsc::unbounded_channel();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let worker = inbox.worker(move |_: Delivery| {
        let (sent, blocked) = (sender.send(()), Arc::clone(&blocked));
        async move {
            sent?;
            // Blocks until the sender is dropped, at the latest at the end of the test.
            let _ = blocked.lock().unwrap().recv();
            Ok(())
        }
    });
    let worker = run(worker.shutdown_timeout(Duration::ZERO));
    started.recv().await.unwrap();
    worker.end().await;
    let event = inbox.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((event.state, event.attempts), (EventState::Running, 1));
    drop(unblock);
}

/// One at a time and in order, while other files go on.
async fn worker_keeps_order_of_file(fixture: &impl Fixture) {
    let inbox = fixture.inbox().await;
    for number in 0..30 {
        store(&inbox, number..number + 1, ["a", "b", "c"][number as usize % 3]).await;
    }
    let (sender, mut handled) = mpsc::unbounded_channel();
    let worker = inbox.worker(move |delivery: Delivery| {
        let sent = sender.send((delivery.file().to_string(), seen(&delivery)));
        async move {
            sent?;
            tokio::task::yield_now().await;
            if delivery.uuid() == "uuid-4" && delivery.attempt() == 1 {
                return Err(HandlerError::retry("once"));
            }
            Ok(())
        }
    });
    let worker = run(worker.ordered_by_file().backoff(Duration::from_millis(20), Duration::from_millis(20)));
    all_settled(&inbox).await;
    worker.end().await;
    let mut by_file = std::collections::HashMap::<String, Vec<Seen>>::new();
    while let Some((file, seen)) = handled.recv().await {
        by_file.entry(file).or_default().push(seen);
    }
    for (index, file) in ["a", "b", "c"].into_iter().enumerate() {
        let mut expected: Vec<Seen> = (0..10).map(|step| (format!("uuid-{}", index + 3 * step), 1)).collect();
        if file == "b" {
            expected.insert(2, ("uuid-4".to_owned(), 2));
        }
        assert_eq!(by_file[file], expected, "{file}");
    }
}
