//! What a worker does with stored events, on SQLite and on PostgreSQL.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler, HandlerError};
use tokio::sync::{Semaphore, mpsc};

use crate::event::EventState;
use crate::inbox::Inbox;
use crate::it::fixture::{
    LONG, MOMENT, attempt_recording_handler, blocking_handler, file_delivery, on_each_storage, poll_until,
    succeed,
};
use crate::storage::ClaimRequest;

/// What a handler saw: uuid and attempt.
type Seen = (String, u32);

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
    inbox:
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

/// An event is handled once, whether it came before the worker, meanwhile, or twice.
async fn worker_handles_each_event_once(inbox: &Inbox) {
    let (sender, mut handled) = mpsc::unbounded_channel();
    store(inbox, 0..20, "f").await;
    let worker = inbox.worker(move |delivery: Delivery| {
        let sent = sender.send((seen(&delivery), delivery.raw().clone(), delivery.key()));
        async move { sent.map_err(HandlerError::permanent) }
    });
    let worker = worker.spawn();
    store(inbox, 10..40, "f").await;
    let mut uuids = Vec::new();
    let mut keys: HashSet<_> = (0..40).map(|number| file_delivery(number, "f").key()).collect();
    for _ in 0..40 {
        let ((uuid, attempt), body, key) = handled.recv().await.unwrap();
        assert_eq!(attempt, 1);
        assert!(keys.remove(&key), "another key than it was stored with");
        assert!(std::str::from_utf8(&body).unwrap().contains(&uuid));
        uuids.push(uuid);
    }
    inbox.wait_until_idle().await;
    assert!(inbox.health().await.is_ready());
    worker.shutdown().await.unwrap();
    assert!(handled.recv().await.is_none(), "handled more than once");
    uuids.sort_unstable();
    uuids.dedup();
    assert_eq!(uuids.len(), 40);
    assert!(!inbox.health().await.is_ready(), "no worker runs any more");
}

/// The dead letter has the last error.
async fn worker_counts_attempts_up_to_maximum(inbox: &Inbox) {
    inbox.store([0]).await;
    let (handler, mut handled) = attempt_recording_handler(|delivery| async move {
        match delivery.attempt() {
            1 => Err(HandlerError::retry("first")),
            2 => Err(HandlerError::retry_after(Duration::from_millis(1), "second")),
            _ => Err(HandlerError::retry("third")),
        }
    });
    let worker = inbox.worker(handler);
    let worker = worker.max_attempts(3).backoff(MOMENT, MOMENT).spawn();
    for attempt in 1..=3 {
        assert_eq!(handled.recv().await, Some(("uuid-0".to_owned(), attempt)));
    }
    inbox.wait_until_idle().await;
    worker.shutdown().await.unwrap();
    assert_eq!(handled.recv().await, None);
    let dead = inbox.in_state(EventState::DeadLetter).await.pop().unwrap();
    assert_eq!((dead.attempts, dead.error.as_deref()), (3, Some("third")));
}

/// The back-off is the minimum: a server that is busy for long would otherwise use up all attempts.
async fn worker_retries_no_earlier_than_backoff(inbox: &Inbox) {
    let worker = inbox.worker(|_: Delivery| async { Err(HandlerError::retry_after(Duration::ZERO, "busy")) });
    let worker = worker.backoff(LONG, LONG).spawn();
    for number in 0..4 {
        inbox.store([number]).await;
        poll_until(async || inbox.events().await.iter().all(|event| event.error.is_some())).await;
    }
    worker.shutdown().await.unwrap();
    let events = inbox.events().await;
    assert!(events.iter().all(|event| event.attempts == 1), "{events:?}");
}

/// A permanent error gets no second attempt.
async fn worker_dead_letters_permanent_error_at_once(inbox: &Inbox) {
    inbox.store([0]).await;
    inbox.drain_by(inbox.worker(|_: Delivery| async { Err(HandlerError::permanent("never")) })).await;
    let dead = inbox.in_state(EventState::DeadLetter).await.pop().unwrap();
    assert_eq!((dead.attempts, dead.error.as_deref()), (1, Some("never")));
}

/// A panic is a failed attempt; the worker goes on.
async fn worker_survives_panic(inbox: &Inbox) {
    inbox.store(0..3).await;
    let worker = inbox.worker(|delivery: Delivery| async move {
        assert!(delivery.uuid() != "uuid-1", "poison");
        Ok(())
    });
    inbox.drain_by(worker.max_attempts(2).backoff(MOMENT, MOMENT)).await;
    let dead = inbox.in_state(EventState::DeadLetter).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts, dead[0].error.as_deref()), (2, Some("the handler panicked: poison")));
}

/// A worker claims no more events than it can run.
async fn worker_keeps_to_concurrency(inbox: &Inbox) {
    inbox.store(0..10).await;
    let gate = Arc::new(Semaphore::new(0));
    let (handler, mut handled) = gated(&gate);
    let worker = inbox.worker(handler).concurrency(3).spawn();
    for _ in 0..3 {
        handled.recv().await.unwrap();
    }
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.running, stats.waiting), (3, 7));
    // Another look of the worker changes nothing.
    inbox.store([10]).await;
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.running, stats.waiting, handled.len()), (3, 8, 0));
    gate.add_permits(100);
    inbox.wait_until_idle().await;
    worker.shutdown().await.unwrap();
    assert_eq!(handled.len(), 8);
}

/// A handler that outlasts its lease is not run twice.
async fn worker_renews_lease_while_handler_runs(inbox: &Inbox) {
    inbox.store([0]).await;
    let lease = Duration::from_secs(9);
    let gate = Arc::new(Semaphore::new(0));
    let (handler, mut handled) = gated(&gate);
    let worker = inbox.worker(handler).lease_ttl(lease).spawn();
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
    inbox.wait_until_idle().await;
    worker.shutdown().await.unwrap();
    assert_eq!(handled.recv().await, None);
    assert_eq!(inbox.stats().await.unwrap().dead_letters, 0);
}

/// Another worker attempts the event once the lease has expired.
async fn worker_takes_over_expired_lease(inbox: &Inbox) {
    inbox.store([0]).await;
    let (hanging, mut started) = attempt_recording_handler(|_| std::future::pending());
    let first = inbox.worker(hanging).concurrency(1).lease_ttl(Duration::from_secs(2));
    let first = tokio::spawn(first.run(std::future::pending()));
    let (_, mut last) = started.recv().await.unwrap();
    let (handler, mut handled) = attempt_recording_handler(succeed);
    let second = inbox.worker(handler).spawn();
    // The first one ends when the second one is seen to run, and so shares its lock of a file.
    inbox.store([1]).await;
    let mut taken = handled.recv().await.unwrap();
    first.abort();
    if taken.0 == "uuid-1" {
        taken = handled.recv().await.unwrap();
    }
    // On a slow machine the first one may have lost its lease before, and begun another attempt.
    while let Ok((uuid, attempt)) = started.try_recv() {
        last = if uuid == "uuid-0" { attempt } else { last };
    }
    assert!(taken.0 == "uuid-0" && taken.1 > last, "{taken:?} after attempt {last}");
    inbox.wait_until_idle().await;
    second.shutdown().await.unwrap();
}

/// An event at whose attempts the process ends becomes a dead letter.
async fn worker_dead_letters_event_that_kills_process(inbox: &Inbox) {
    inbox.store([0]).await;
    let mut attempts = Vec::new();
    loop {
        let (hanging, mut started) = attempt_recording_handler(|_| std::future::pending());
        let worker = inbox.worker(hanging).lease_ttl(Duration::from_millis(200)).max_lost_leases(3);
        let is_over = tokio::select! {
            ended = worker.run(std::future::pending()) => unreachable!("{ended:?}"),
            attempt = started.recv() => {
                attempts.extend(attempt.map(|(_, attempt)| attempt));
                false
            }
            () = inbox.wait_until_idle() => true,
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
    let dead = inbox.in_state(EventState::DeadLetter).await.pop().unwrap();
    assert_eq!((dead.attempts, dead.lost_leases), (3, 3));
    assert!(dead.error.unwrap().contains("lost its lease"));
}

/// A shutdown lets running handlers finish and starts none.
async fn shutdown_waits_for_running_handler(inbox: &Inbox) {
    inbox.store(0..3).await;
    let gate = Arc::new(Semaphore::new(0));
    let (handler, mut started) = gated(&gate);
    let worker = inbox.worker(handler).concurrency(1).spawn();
    started.recv().await.unwrap();
    let (ended, ()) = tokio::join!(worker.shutdown(), async { gate.add_permits(100) });
    ended.unwrap();
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running), (2, 0));
}

/// A shutdown releases an event whose handler does not end in time, without counting the attempt.
async fn shutdown_releases_unfinished_event(inbox: &Inbox) {
    inbox.store([0]).await;
    let (hanging, mut started) = attempt_recording_handler(|_| std::future::pending());
    let worker = inbox.worker(hanging).shutdown_timeout(Duration::ZERO).spawn();
    started.recv().await.unwrap();
    worker.shutdown().await.unwrap();
    let event = inbox.events().await.pop().unwrap();
    assert_eq!((event.state, event.attempts, event.lost_leases), (EventState::Waiting, 0, 0));
}

/// A handler that blocks its thread cannot be cancelled, so its event keeps its lease.
async fn shutdown_keeps_lease_of_blocked_handler(inbox: &Inbox) {
    inbox.store([0]).await;
    let (handler, mut started, unblock) = blocking_handler();
    let worker = inbox.worker(handler).shutdown_timeout(Duration::ZERO).spawn();
    started.recv().await.unwrap();
    worker.shutdown().await.unwrap();
    let event = inbox.events().await.pop().unwrap();
    assert_eq!((event.state, event.attempts), (EventState::Running, 1));
    drop(unblock);
}

/// Events of a file run one at a time and in order, while other files go on.
async fn worker_keeps_order_of_file(inbox: &Inbox) {
    for number in 0..30 {
        store(inbox, number..number + 1, ["a", "b", "c"][number as usize % 3]).await;
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
    let pause = Duration::from_millis(20);
    inbox.drain_by(worker.ordered_by_file().backoff(pause, pause)).await;
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
