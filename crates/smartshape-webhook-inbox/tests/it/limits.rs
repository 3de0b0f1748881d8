//! What an inbox takes before it rejects, and what it deletes, on both storages.

use std::time::Duration;

use crate::event::NewEvent;
use crate::it::fixture::{
    COMPLETED, Fixture, LONG, dead_letter, delivery, long_delivery, new_events, on_each_storage, poll_until,
    result, retention,
};
use crate::storage::AttemptOutcome;
use crate::{EventFilter, EventState, Inbox};
use smartshape_webhook::{Handler as _, HandlerErrorKind};

on_each_storage! {
    database:
    size_limit_rejects_until_events_are_completed
    completed_events_do_not_fill_inbox
    errors_of_failed_attempts_fill_inbox
    dedup_retention_counts_from_purge
    replay_and_purge_commit_in_chunks
}

async fn limited(database: &impl Fixture, max_size_bytes: u64) -> Inbox {
    Inbox::builder(&database.url()).max_size_bytes(max_size_bytes).open().await.unwrap()
}

async fn size_limit_rejects_until_events_are_completed(database: &impl Fixture) {
    let inbox = limited(database, 2 << 20).await;
    let mut stored = 0;
    let rejection = loop {
        match inbox.handle(long_delivery(stored, 100_000)).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000);
    };
    assert!(matches!(rejection.kind(), HandlerErrorKind::RetryAfter(_)), "{rejection}");
    assert!(rejection.to_string().contains("maximum size"), "{rejection}");
    assert_eq!(inbox.stats().await.unwrap().waiting, u64::from(stored));
    inbox.drain().await;
    // PostgreSQL's size is counted now and then.
    poll_until(async || inbox.handle(long_delivery(1000, 100_000)).await.is_ok()).await;
}

async fn completed_events_do_not_fill_inbox(database: &impl Fixture) {
    let inbox = limited(database, 4 << 20).await;
    let storage = inbox.storage();
    for part in 0..40 {
        storage.insert(new_events(part * 500..(part + 1) * 500, "f")).await.unwrap();
        let attempts = storage.attempts(500, LONG).await;
        let completed = attempts.iter().map(|attempt| result(attempt.lease, COMPLETED));
        assert_eq!(storage.settle(completed.collect()).await.unwrap().recorded.len(), 500);
    }
    inbox.store([20_001]).await;
}

/// Two events of which 20 attempts failed with 2,000 characters take more than 80 KB, and new ones some 500 bytes each.
async fn errors_of_failed_attempts_fill_inbox(database: &impl Fixture) {
    let inbox = database.inbox().await;
    inbox.store(0..2).await;
    for _ in 0..20 {
        let attempts = inbox.storage().attempts(2, LONG).await;
        let failed = AttemptOutcome::Retry { after: Duration::ZERO, error: "e".repeat(2000) };
        let results = attempts.iter().map(|attempt| result(attempt.lease, failed.clone()));
        inbox.storage().settle(results.collect()).await.unwrap();
    }
    drop(inbox);
    let inbox = limited(database, 100_000).await;
    let mut number = 2;
    while inbox.handle(delivery(number)).await.is_ok() {
        number += 1;
    }
    // Without the errors there would be room for some 180.
    assert!(number < 100, "{number}");
    assert_eq!(inbox.purge(EventFilter::default().limit(2)).await.unwrap(), 2);
    // Counts take half of the time at most.
    poll_until(async || inbox.handle(delivery(number)).await.is_ok()).await;
}

/// The retention of a purged dead letter counts from the purge, not from the failed attempt a day before.
async fn dedup_retention_counts_from_purge(database: &impl Fixture) {
    let day = Duration::from_secs(24 * 60 * 60);
    let inbox = Inbox::builder(&database.url()).dedup_retention(day / 2).open().await.unwrap();
    inbox.store([1]).await;
    let storage = inbox.storage();
    let attempt = storage.attempt(day).await;
    assert!(storage.end(attempt.lease, dead_letter("no")).await);
    let sqlite = "UPDATE events SET settled = settled - 86400000";
    let postgres = "UPDATE smartshape_inbox_events SET settled = settled - interval '1 day'";
    database.execute_either(sqlite, postgres).await;
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(storage.sweep(retention(day / 2, day)).await.unwrap(), 0);
    assert_eq!(storage.insert([NewEvent::from(&delivery(1))].into()).await.unwrap(), [false]);
}

/// Each chunk of 1000 events is committed, whatever becomes of the next one, and no event is left out. Deliveries are
/// stored in between.
async fn replay_and_purge_commit_in_chunks(database: &impl Fixture) {
    let inbox = database.inbox().await;
    inbox.storage().insert(new_events(0..3500, "f")).await.unwrap();
    let sqlite = "UPDATE events SET state = 3, settled = 0; CREATE TRIGGER reject BEFORE UPDATE ON events \
         WHEN OLD.seq = 2500 BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    let postgres = "UPDATE smartshape_inbox_events SET state = 3, settled = now(); \
         CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$; \
         CREATE TRIGGER reject BEFORE UPDATE ON smartshape_inbox_events FOR EACH ROW WHEN (OLD.seq = 2500) \
         EXECUTE FUNCTION reject()";
    database.execute_either(sqlite, postgres).await;
    let dead = || EventFilter::default().state(EventState::DeadLetter).limit(u32::MAX);
    assert!(inbox.replay(dead()).await.is_err());
    assert_eq!(inbox.stats().await.unwrap().waiting, 2000);
    database.execute_either("DROP TRIGGER reject", "DROP TRIGGER reject ON smartshape_inbox_events").await;
    assert_eq!(inbox.replay(dead().limit(1200)).await.unwrap(), 1200);
    assert_eq!(inbox.replay(dead()).await.unwrap(), 300);
    let (purged, ()) = tokio::join!(inbox.purge(EventFilter::default().limit(u32::MAX)), inbox.store([9999]));
    assert!((3500..=3501).contains(&purged.unwrap()));
}
