//! Changes of the wall clock between the processes that open a file.

use std::time::Duration;

use crate::it::fixture::{Fixture as _, Folder, attempt_recording_handler, dead_letter, new_events};
use crate::storage::{AttemptOutcome, ClaimRequest};
use crate::{EventFilter, Inbox};

const LEASE: Duration = Duration::from_secs(60);
const HOUR: i64 = 60 * 60 * 1000;

/// The receiver has opened the file before the wall clock was set back, so its clock is ahead of the worker's.
async fn worker_and_receiver(folder: &Folder) -> (Inbox, Inbox) {
    let worker = folder.inbox().await;
    set_wall_clock(folder, 5 * HOUR).await;
    let receiver = folder.inbox().await;
    set_wall_clock(folder, -5 * HOUR).await;
    (worker, receiver)
}

#[tokio::test]
async fn worker_with_slower_clock_does_not_delay_events() {
    let folder = Folder::new();
    let (working, receiving) = worker_and_receiver(&folder).await;
    let (release, held) = tokio::sync::watch::channel(false);
    let (handler, mut started) = attempt_recording_handler(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await?;
            Ok(())
        }
    });
    let worker = working.worker(handler).spawn();
    // One event runs while the worker's clock falls behind.
    working.store([1]).await;
    assert_eq!(started.recv().await, Some(("uuid-1".to_owned(), 1)));
    receiving.store([2]).await;
    let second = tokio::time::timeout(Duration::from_secs(60), started.recv()).await.unwrap();
    assert_eq!(second, Some(("uuid-2".to_owned(), 1)));
    release.send(true).unwrap();
    worker.shutdown().await.unwrap();
    let events = working.events().await;
    let lost: Vec<u32> = events.iter().map(|event| event.lost_leases).collect();
    assert_eq!(lost, [0, 0], "a leap of the clock ends no lease");
    assert!(started.try_recv().is_err(), "nothing is attempted twice");
}

/// Two workers of a process, of which one advances the clock while the other one renews its lease.
#[tokio::test]
async fn lease_renewed_while_clock_advances_is_kept() {
    for _ in 0..10 {
        let folder = Folder::new();
        let (working, receiving) = worker_and_receiver(&folder).await;
        working.store([1]).await;
        let storage = working.storage();
        let lease = storage.attempt(LEASE).await.lease;
        receiving.store([2]).await;
        let (claimed, renewed) = tokio::join!(storage.attempts(1, LEASE), storage.renew(vec![lease], LEASE));
        assert_eq!((claimed.len(), renewed.unwrap()), (1, vec![lease]));
        assert!(storage.attempts(1, LEASE).await.is_empty(), "both leases are held");
    }
}

/// The operator's process has opened the file after the wall clock was set forward.
#[tokio::test]
async fn event_replayed_by_process_with_faster_clock_is_due_at_once() {
    let folder = Folder::new();
    let (working, operating) = worker_and_receiver(&folder).await;
    working.store([1]).await;
    let storage = working.storage();
    assert!(storage.end(storage.attempt(LEASE).await.lease, dead_letter("")).await);
    assert_eq!(operating.replay(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(storage.attempts(1, LEASE).await.len(), 1);
}

#[tokio::test]
async fn event_replayed_in_a_quiet_inbox_is_not_overdue() {
    let folder = Folder::new();
    let storage = folder.storage().await;
    storage.insert(new_events(1..2, "file")).await.unwrap();
    assert!(storage.end(storage.attempt(LEASE).await.lease, dead_letter("")).await);
    drop(storage);
    set_wall_clock(&folder, HOUR).await;
    let inbox = folder.inbox().await;
    assert_eq!(inbox.replay(EventFilter::default()).await.unwrap(), 1);
    let overdue = inbox.counts().await.unwrap().overdue.unwrap();
    assert!(overdue < Duration::from_secs(60 * 60), "{overdue:?}");
}

#[tokio::test]
async fn retry_comes_due_while_nobody_has_file_open() {
    let folder = Folder::new();
    retry_in_an_hour(&folder).await;
    set_wall_clock(&folder, HOUR).await;
    let attempts = folder.storage().await.attempts(1, LEASE).await;
    assert_eq!(attempts.len(), 1);
}

#[tokio::test]
async fn wall_clock_set_back_while_nobody_has_file_open_delays_no_event() {
    let folder = Folder::new();
    retry_in_an_hour(&folder).await;
    folder.storage().await.insert(new_events(2..3, "file")).await.unwrap();
    set_wall_clock(&folder, -HOUR).await;
    let storage = folder.storage().await;
    let claimed = storage.claim(ClaimRequest::new(2, LEASE)).await.unwrap();
    assert_eq!(claimed.attempts.len(), 1, "the new event is due");
    assert!(
        claimed.next_due.unwrap() <= Duration::from_millis(HOUR.unsigned_abs()),
        "the other one waits no longer"
    );
}

/// Fails the attempt at one event.
async fn retry_in_an_hour(folder: &Folder) {
    let storage = folder.storage().await;
    storage.insert(new_events(1..2, "file")).await.unwrap();
    let lease = storage.attempt(LEASE).await.lease;
    let after = Duration::from_millis(HOUR.unsigned_abs());
    assert!(storage.end(lease, AttemptOutcome::Retry { after, error: String::new() }).await);
    assert!(storage.attempts(1, LEASE).await.is_empty());
}

/// Changes the wall clock for processes that open the file from now on.
async fn set_wall_clock(folder: &Folder, milliseconds: i64) {
    let set = format!("UPDATE meta SET value = value + {milliseconds} WHERE name = 'clock_offset'");
    folder.execute(set).await;
}
