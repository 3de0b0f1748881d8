//! Copies the write-ahead log into the file.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use super::open;

const CHECKPOINT_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// Copies the log into the file and truncates it, as far as no other process uses it. Returns whether all of it
/// was copied.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // Otherwise it would wait for readers and writers as long as a write waits.
    set_busy_timeout(connection, CHECKPOINT_BUSY_TIMEOUT).await?;
    let outcome: sqlx::Result<(i64, i64, i64)> =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    set_busy_timeout(connection, open::BUSY_TIMEOUT).await?;
    outcome.map(|(_, pages, copied)| pages == copied)
}

async fn set_busy_timeout(connection: &mut SqliteConnection, timeout: Duration) -> sqlx::Result<()> {
    let setting = format!("PRAGMA busy_timeout = {}", timeout.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(setting)).execute(connection).await.map(drop)
}
