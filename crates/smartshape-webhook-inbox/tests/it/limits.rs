//! What an inbox takes before it rejects, on both storages.
use std::time::Duration;

use crate::event::NewEvent;
use crate::storage::{Attempt, AttemptOutcome, AttemptResult, ClaimRequest};
use crate::{EventFilter, Inbox};
use smartshape_webhook::Handler as _;

use crate::it::fixture::{COMPLETED, Fixture, dead_letter, delivery, on_each_storage, retention, settle};

on_each_storage! {
    completed_events_do_not_fill_inbox
    errors_of_failed_attempts_fill_inbox
    dedup_retention_counts_from_purge
}

async fn completed_events_do_not_fill_inbox(fixture: &impl Fixture) {
    let inbox = Inbox::builder(&fixture.url()).max_size_bytes(4 * 1024 * 1024).open().await.unwrap();
    let storage = inbox.storage();
    for part in 0..40 {
        let events = (part * 500..(part + 1) * 500).map(|number| NewEvent::from(&delivery(number)));
        storage.insert(events.collect()).await.unwrap();
        let attempts =
            storage.claim(ClaimRequest::new(500, Duration::from_secs(3600))).await.unwrap().attempts;
        let completed = attempts.iter().map(|one| AttemptResult {
            lease: one.lease,
            outcome: COMPLETED,
            took: Duration::ZERO,
        });
        assert_eq!(storage.settle(completed.collect()).await.unwrap().recorded.len(), 500);
    }
    assert!(inbox.handle(delivery(20_001)).await.is_ok());
}

/// Two events of which 20 attempts failed with 2,000 characters take more than 80 KB, and new ones some 500 bytes each.
async fn errors_of_failed_attempts_fill_inbox(fixture: &impl Fixture) {
    let inbox = Inbox::open(&fixture.url()).await.unwrap();
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
    let inbox = Inbox::builder(&fixture.url()).max_size_bytes(100_000).open().await.unwrap();
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

/// The retention of a purged dead letter counts from the purge, not from the failed attempt a day before.
async fn dedup_retention_counts_from_purge(fixture: &impl Fixture) {
    let day = Duration::from_secs(24 * 60 * 60);
    let inbox = Inbox::builder(&fixture.url()).dedup_retention(day / 2).open().await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let storage = inbox.storage();
    let attempt = storage.claim(ClaimRequest::new(1, day)).await.unwrap().attempts.pop().unwrap();
    assert!(settle(&**storage, attempt.lease, dead_letter("no")).await);
    let sqlite = "UPDATE events SET settled = settled - 86400000";
    let postgres = "UPDATE smartshape_inbox_events SET settled = settled - interval '1 day'";
    fixture.execute(sqlite, postgres).await;
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(storage.sweep(retention(day / 2, day)).await.unwrap(), 0);
    assert_eq!(storage.insert([NewEvent::from(&delivery(1))].into()).await.unwrap(), [false]);
}
