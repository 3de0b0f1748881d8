//! Schemas of newer and older versions, on both storages.

use std::path::Path;
use std::time::Duration;

use crate::it::fixture::{Fixture, assert_error, on_each_storage, poll_until, succeed};
use crate::{Count, DeadLetterReason, EventFilter, Inbox, InboxErrorKind, PageCursor, ReasonId};

on_each_storage! {
    database:
    newer_schema_is_used_if_compatible
    newer_schema_is_kept_by_concurrent_migration
    second_schema_is_migrated
}

async fn newer_schema_is_used_if_compatible(database: &impl Fixture) {
    database.inbox().await.store([1]).await;
    let sqlite = "ALTER TABLE events ADD COLUMN later TEXT; PRAGMA user_version = 9";
    let postgres = "ALTER TABLE smartshape_inbox_events ADD later text; \
         UPDATE smartshape_inbox_meta SET value = 9 WHERE name = 'schema'";
    database.execute_either(sqlite, postgres).await;
    let inbox = database.inbox().await;
    inbox.store([2]).await;
    inbox.drain().await;
    drop(inbox);
    let sqlite = "UPDATE meta SET value = 9 WHERE name = 'reads_from'";
    let postgres = "UPDATE smartshape_inbox_meta SET value = 9 WHERE name = 'reads_from'";
    database.execute_either(sqlite, postgres).await;
    assert_error(&database.open_error().await, InboxErrorKind::NewerSchema, "");
}

/// A newer program migrates while this one starts, too.
async fn newer_schema_is_kept_by_concurrent_migration<F: Fixture>(database: &F) {
    // Without a change, the file would not keep the mode, and this program would wait before it reads the version.
    let sqlite = "PRAGMA journal_mode = WAL; CREATE TABLE t (c); DROP TABLE t";
    database.execute_either(sqlite, include_str!("../../migrations/postgres-0001.sql")).await;
    let mut newer = database.connect().await;
    let sqlite = concat!(
        "BEGIN IMMEDIATE;",
        include_str!("../../migrations/sqlite-0001.sql"),
        include_str!("../../migrations/sqlite-0002.sql"),
        include_str!("../../migrations/sqlite-0003.sql"),
        include_str!("../../migrations/sqlite-0004.sql"),
        "PRAGMA application_id = 0x53534942; PRAGMA user_version = 9",
    );
    let postgres = "BEGIN; UPDATE smartshape_inbox_meta SET value = 9 WHERE name = 'schema'";
    F::run(&mut newer, database.either(sqlite, postgres)).await;
    let url = database.url();
    let mut opening = tokio::spawn(async move { Inbox::open(&url).await });
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut opening).await.is_err(), "it waits");
    F::run(&mut newer, "COMMIT").await;
    opening.await.unwrap().unwrap();
    let postgres = "SELECT value FROM smartshape_inbox_meta WHERE name = 'schema'";
    assert_eq!(database.number(database.either("PRAGMA user_version", postgres)).await, 9);
}

/// A process of the version before goes on beside a new one, and its dead letters get a reason. The committed file was
/// written by that version: one completed event, two dead letters, three waiting events.
async fn second_schema_is_migrated(database: &impl Fixture) {
    if let Some(file) = database.either(Some("tests/data/inbox-schema-2.db"), None) {
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), database.url()).unwrap();
    }
    let dead_on_postgres = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, error) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 3, now(), n, 'e', 'f', 'u', 0, 1, \
           'no part 5c6aeed079bf3f432d3c929' || n || ' in the catalogue' FROM generate_series(FIRST, FIRST + 1) n";
    let postgres = concat!(
        include_str!("../../migrations/postgres-0001.sql"),
        include_str!("../../migrations/postgres-0002.sql"),
    );
    let postgres = format!("{postgres}; {}", dead_on_postgres.replace("FIRST", "1"));
    database.execute_either("SELECT 1", &postgres).await;
    let reading = Inbox::builder(&database.url()).read_only(true).open().await.unwrap();
    assert_eq!(reading.counts().await.unwrap().dead_letters, Count::Exactly(2));
    let page = reading.page(EventFilter::default(), PageCursor::Newest).await.unwrap();
    assert_eq!(page.events.len(), database.either(6, 2));
    let error = reading.dead_letter_reasons(9).await.unwrap_err();
    assert_error(&error, InboxErrorKind::OlderSchema, "");
    drop(reading);

    let inbox = database.inbox().await;
    let counts = inbox.counts().await.unwrap();
    assert_eq!([counts.waiting, counts.dead_letters], database.either([3, 2], [0, 2]).map(Count::Exactly));
    assert_eq!(counts.stored, database.either(6, 2));
    let sqlite = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored) \
         SELECT version, randomblob(16), 0, due, file_hash, event, file, uuid, received, bytes, stored FROM events WHERE seq = 6; \
         UPDATE events SET state = 3, settled = 1, error = 'no part 5b337c601e24e904da827738 in the catalogue' WHERE seq = 7";
    database.execute_either(sqlite, &dead_on_postgres.replace("FIRST", "3")).await;
    let worker = inbox.worker(succeed).spawn();
    let reason = ReasonId::from_error("no part 5b337c601e24e904da827738 in the catalogue");
    let grouped = (reason, database.either(3, 4));
    let is_grouped = |found: &DeadLetterReason| (found.id, found.dead_letters) == grouped;
    poll_until(async || inbox.dead_letter_reasons(9).await.unwrap().first().is_some_and(is_grouped)).await;
    inbox.wait_until_idle().await;
    worker.shutdown().await.unwrap();
    let reasons = inbox.dead_letter_reasons(9).await.unwrap();
    assert_eq!((reasons.len(), &*reasons[0].text), (1, "no part … in the catalogue"));
}
