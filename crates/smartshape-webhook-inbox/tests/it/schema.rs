//! Schemas of newer versions, on both storages.

use std::time::Duration;

use crate::it::fixture::{Fixture, assert_error, on_each_storage};
use crate::{Inbox, InboxErrorKind};

on_each_storage! {
    database:
    newer_schema_is_used_if_compatible
    newer_schema_is_kept_by_concurrent_migration
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
