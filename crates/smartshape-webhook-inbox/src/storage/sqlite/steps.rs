//! Counts what statements do, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::sqlite::SqliteConnection;

use crate::it::fixture::{Fixture as _, Folder};

/// A connection to a new file with 10,000 events of this state.
pub(super) async fn file_with_events(folder: &Folder, state: u8) -> SqliteConnection {
    drop(folder.inbox().await);
    let mut connection = folder.connect().await;
    let fill = format!(
        "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored, settled) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
         SELECT 1, randomblob(16), {state}, i, i, 'e', 'f', 'u', 0, 1, i, i FROM n"
    );
    Folder::run(&mut connection, fill).await;
    connection
}

/// What statements return, and the number of SQLite's instructions that they have run.
pub(super) async fn steps<T>(
    connection: &mut SqliteConnection,
    statements: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
) -> (T, u64) {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        true
    };
    connection.lock_handle().await.unwrap().set_progress_handler(1, count);
    let returned = statements(&mut *connection).await.unwrap();
    connection.lock_handle().await.unwrap().remove_progress_handler();
    (returned, steps.load(Ordering::Relaxed))
}
