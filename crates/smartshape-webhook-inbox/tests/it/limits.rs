//! What an inbox takes before it rejects, on both storages.
use std::time::Duration;

use crate::event::NewEvent;
use crate::storage::{Attempt, AttemptOutcome, AttemptResult, ClaimRequest};
use crate::{EventFilter, Inbox};
use smartshape_webhook::Handler as _;

#[cfg(feature = "sqlite")]
use crate::it::fixture::Folder;
use crate::it::fixture::{delivery, retention};

async fn completed_events_do_not_fill_inbox(url: &str) {
    let inbox = Inbox::builder(url).max_size_bytes(4 * 1024 * 1024).open().await.unwrap();
    let storage = inbox.storage();
    for part in 0..40 {
        let events = (part * 500..(part + 1) * 500).map(|number| NewEvent::of(&delivery(number)));
        storage.insert(events.collect()).await.unwrap();
        let attempts =
            storage.claim(ClaimRequest::new(500, Duration::from_secs(3600))).await.unwrap().attempts;
        let outcome = AttemptOutcome::Completed { keep_body: false };
        let completed = attempts.iter().map(|one| AttemptResult {
            lease: one.lease,
            outcome: outcome.clone(),
            took: Duration::ZERO,
        });
        assert_eq!(storage.settle(completed.collect()).await.unwrap().recorded.len(), 500);
    }
    assert!(inbox.handle(delivery(20_001)).await.is_ok());
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn completed_events_do_not_fill_file() {
    completed_events_do_not_fill_inbox(&Folder::new().inbox()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn completed_events_do_not_fill_server() {
    let Some(server) = crate::it::fixture::Server::new().await else { return };
    completed_events_do_not_fill_inbox(&server.url()).await;
}

/// Two events of which 20 attempts failed with 2,000 characters take more than 80 KB, and new ones some 500 bytes each.
async fn errors_of_failed_attempts_fill_inbox(url: &str) {
    let inbox = Inbox::open(url).await.unwrap();
    for number in 0..2 {
        assert!(inbox.handle(delivery(number)).await.is_ok());
    }
    for _ in 0..20 {
        let request = ClaimRequest::new(2, Duration::from_secs(3600));
        let attempts = inbox.storage().claim(request).await.unwrap().attempts;
        let retry = |attempt: Attempt| AttemptResult {
            lease: attempt.lease,
            outcome: AttemptOutcome::Retry { after: Duration::ZERO, error: "e".repeat(2000) },
            took: Duration::ZERO,
        };
        inbox.storage().settle(attempts.into_iter().map(retry).collect()).await.unwrap();
    }
    drop(inbox);
    let inbox = Inbox::builder(url).max_size_bytes(100_000).open().await.unwrap();
    let mut number = 2;
    while inbox.handle(delivery(number)).await.is_ok() {
        number += 1;
    }
    // Without the errors there would be room for some 180.
    assert!(number < 100, "{number}");
    assert_eq!(inbox.purge(EventFilter::default().limit(2)).await.unwrap(), 2);
    // Counts take half of the time at most.
    while inbox.handle(delivery(number)).await.is_err() {}
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn errors_of_failed_attempts_fill_file() {
    errors_of_failed_attempts_fill_inbox(&Folder::new().inbox()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn errors_of_failed_attempts_fill_server() {
    let Some(server) = crate::it::fixture::Server::new().await else { return };
    errors_of_failed_attempts_fill_inbox(&server.url()).await;
}

/// The retention of a purged dead letter counts from the purge, not from the failed attempt a day before.
async fn dedup_retention_counts_from_purge(url: &str, make_older: impl AsyncFnOnce()) {
    let day = Duration::from_secs(24 * 60 * 60);
    let inbox = Inbox::builder(url).dedup_retention(day / 2).open().await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let storage = inbox.storage();
    let attempt = storage.claim(ClaimRequest::new(1, day)).await.unwrap().attempts.pop().unwrap();
    let outcome = AttemptOutcome::DeadLetter { error: "no".to_owned() };
    storage
        .settle([AttemptResult { lease: attempt.lease, outcome, took: Duration::ZERO }].into())
        .await
        .unwrap();
    make_older().await;
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(storage.sweep(retention(day / 2, day)).await.unwrap(), 0);
    assert_eq!(storage.insert([NewEvent::of(&delivery(1))].into()).await.unwrap(), [false]);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn dedup_retention_of_file_counts_from_purge() {
    use sqlx::Connection as _;
    let folder = Folder::new();
    let path = folder.inbox();
    let older = async || {
        let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
        let sql = "UPDATE events SET settled = settled - 86400000";
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    dedup_retention_counts_from_purge(&path, older).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn dedup_retention_of_server_counts_from_purge() {
    let Some(server) = crate::it::fixture::Server::new().await else { return };
    let sql = "UPDATE smartshape_inbox_events SET settled = settled - interval '1 day'";
    dedup_retention_counts_from_purge(&server.url(), async || server.execute(sql.to_owned()).await).await;
}
