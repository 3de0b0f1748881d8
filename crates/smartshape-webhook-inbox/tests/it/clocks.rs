//! Processes whose clocks of the same file differ, since one has had it open unseen.
use std::time::Duration;

use crate::{EventFilter, Inbox};
use smartshape_webhook::Handler as _;
use sqlx::{Connection as _, SqliteConnection};

use crate::it::fixture::{Folder, attempt_recording_handler, delivery};
use crate::storage::ClaimRequest;

/// A receiver that got no delivery for hours has recorded no time, so its clock is ahead of that of a worker that
/// starts now.
async fn worker_and_receiver(path: &str) -> (Inbox, Inbox) {
    let worker = Inbox::open(path).await.unwrap();
    let mut connection = SqliteConnection::connect(path).await.unwrap();
    let hours = "UPDATE meta SET value = value + 20000000 WHERE name = 'clock'";
    sqlx::raw_sql(hours).execute(&mut connection).await.unwrap();
    let receiver = Inbox::open(path).await.unwrap();
    let back = "UPDATE meta SET value = value - 20000000 WHERE name = 'clock'";
    sqlx::raw_sql(back).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    (worker, receiver)
}

#[tokio::test]
async fn worker_with_slower_clock_does_not_delay_events() {
    let folder = Folder::new();
    let (working, receiving) = worker_and_receiver(&folder.inbox()).await;
    let (release, held) = tokio::sync::watch::channel(false);
    let (handler, mut begun) = attempt_recording_handler(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await?;
            Ok(())
        }
    });
    let worker = working.worker(handler).spawn();
    // One event runs while the worker's clock falls behind.
    assert!(working.handle(delivery(1)).await.is_ok());
    assert_eq!(begun.recv().await, Some(("uuid-1".to_owned(), 1)));
    assert!(receiving.handle(delivery(2)).await.is_ok());
    let second = tokio::time::timeout(Duration::from_secs(60), begun.recv()).await.unwrap();
    assert_eq!(second, Some(("uuid-2".to_owned(), 1)));
    release.send(true).unwrap();
    worker.shutdown().await.unwrap();
    let events = working.list(EventFilter::default()).await.unwrap();
    let lost: Vec<u32> = events.iter().map(|event| event.lost_leases).collect();
    assert_eq!(lost, [0, 0], "a leap of the clock ends no lease");
    assert!(begun.try_recv().is_err(), "nothing is attempted twice");
}

/// Two workers of a process, of which one advances the clock while the other one renews its lease.
#[tokio::test]
async fn lease_renewed_while_clock_advances_is_kept() {
    const LEASE: Duration = Duration::from_secs(60);
    for _ in 0..10 {
        let folder = Folder::new();
        let (working, receiving) = worker_and_receiver(&folder.inbox()).await;
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

/// The clock is recorded even under constant writes. Otherwise the clock of a file whose events are only processed
/// would start at the same time after each restart.
#[tokio::test]
async fn clock_is_recorded_under_load() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    let mut connection = SqliteConnection::connect(&folder.inbox()).await.unwrap();
    let begun = std::time::Instant::now();
    loop {
        assert!(inbox.health().await.storage_error.is_none());
        let clock = "SELECT value FROM meta WHERE name = 'clock'";
        let clock: i64 = sqlx::query_scalar(clock).fetch_one(&mut connection).await.unwrap();
        if clock > 0 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the clock stands still");
    }
}
