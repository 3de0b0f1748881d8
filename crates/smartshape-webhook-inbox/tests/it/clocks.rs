//! Changes of the wall clock between the processes that open a file.

use std::sync::Arc;
use std::time::Duration;

use crate::{EventFilter, Inbox};
use smartshape_webhook::Handler as _;
use sqlx::{Connection as _, SqliteConnection};

use crate::it::fixture::{Folder, attempt_recording_handler, delivery, new_events, settle};
use crate::storage::{AttemptOutcome, ClaimRequest, Storage};

const LEASE: Duration = Duration::from_secs(60);
const HOUR: i64 = 60 * 60 * 1000;

/// The receiver has opened the file before the wall clock was set back, so its clock is ahead of the worker's.
async fn worker_and_receiver(folder: &Folder) -> (Inbox, Inbox) {
    let worker = Inbox::open(&folder.inbox()).await.unwrap();
    set_wall_clock(folder, 5 * HOUR).await;
    let receiver = Inbox::open(&folder.inbox()).await.unwrap();
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
    assert!(working.handle(delivery(1)).await.is_ok());
    assert_eq!(started.recv().await, Some(("uuid-1".to_owned(), 1)));
    assert!(receiving.handle(delivery(2)).await.is_ok());
    let second = tokio::time::timeout(Duration::from_secs(60), started.recv()).await.unwrap();
    assert_eq!(second, Some(("uuid-2".to_owned(), 1)));
    release.send(true).unwrap();
    worker.shutdown().await.unwrap();
    let events = working.list(EventFilter::default()).await.unwrap();
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
        assert!(working.handle(delivery(1)).await.is_ok());
        let storage = working.storage();
        let claim = || storage.claim(ClaimRequest::new(1, LEASE));
        let lease = claim().await.unwrap().attempts[0].lease;
        assert!(receiving.handle(delivery(2)).await.is_ok());
        let (claimed, renewed) = tokio::join!(claim(), storage.renew(vec![lease], LEASE));
        assert_eq!((claimed.unwrap().attempts.len(), renewed.unwrap()), (1, vec![lease]));
        assert!(claim().await.unwrap().attempts.is_empty(), "both leases are held");
    }
}

#[tokio::test]
async fn retry_comes_due_while_nobody_has_file_open() {
    let folder = Folder::new();
    retry_in_an_hour(&folder).await;
    set_wall_clock(&folder, HOUR).await;
    let attempts = open(&folder).await.claim(ClaimRequest::new(1, LEASE)).await.unwrap().attempts;
    assert_eq!(attempts.len(), 1);
}

#[tokio::test]
async fn wall_clock_set_back_while_nobody_has_file_open_delays_no_event() {
    let folder = Folder::new();
    retry_in_an_hour(&folder).await;
    open(&folder).await.insert(new_events(2..3, "file")).await.unwrap();
    set_wall_clock(&folder, -HOUR).await;
    let storage = open(&folder).await;
    let claimed = storage.claim(ClaimRequest::new(2, LEASE)).await.unwrap();
    assert_eq!(claimed.attempts.len(), 1, "the new event is due");
    assert!(
        claimed.next_due.unwrap() <= Duration::from_millis(HOUR.unsigned_abs()),
        "the other one waits no longer"
    );
}

async fn open(folder: &Folder) -> Arc<dyn Storage> {
    Arc::clone(Inbox::open(&folder.inbox()).await.unwrap().storage())
}

/// Fails the attempt at one event.
async fn retry_in_an_hour(folder: &Folder) {
    let storage = open(folder).await;
    storage.insert(new_events(1..2, "file")).await.unwrap();
    let lease = storage.claim(ClaimRequest::new(1, LEASE)).await.unwrap().attempts[0].lease;
    let after = Duration::from_millis(HOUR.unsigned_abs());
    assert!(settle(&*storage, lease, AttemptOutcome::Retry { after, error: String::new() }).await);
    assert!(storage.claim(ClaimRequest::new(1, LEASE)).await.unwrap().attempts.is_empty());
}

/// Changes the wall clock for processes that open the file from now on.
async fn set_wall_clock(folder: &Folder, milliseconds: i64) {
    let mut connection = SqliteConnection::connect(&folder.inbox()).await.unwrap();
    sqlx::query("UPDATE meta SET value = value + ? WHERE name = 'clock_offset'")
        .bind(milliseconds)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
