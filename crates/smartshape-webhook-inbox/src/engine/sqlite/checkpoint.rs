//! Bringing what the log holds into the file.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use super::transaction::Write;
use super::{JobFuture, Shared, open, sql};

const BUSY_BRIEFLY: Duration = Duration::from_millis(100);

/// Copies the log into the file and empties it, as far as nobody else uses it now. Says whether all of it
/// was copied.
pub(super) struct Checkpoint;

impl Write for Checkpoint {
    type Output = bool;

    fn write<'c>(&'c self, _: &'c Shared, connection: &'c mut SqliteConnection) -> JobFuture<'c, bool> {
        Box::pin(async move {
            // It would wait for readers and writers as long as a write waits.
            wait(connection, BUSY_BRIEFLY).await?;
            let outcome: sql::Outcome<(i64, i64, i64)> =
                sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
            wait(connection, open::BUSY).await?;
            outcome.map(|(_, pages, copied)| pages == copied)
        })
    }
}

async fn wait(connection: &mut SqliteConnection, longest: Duration) -> sql::Outcome<()> {
    let setting = format!("PRAGMA busy_timeout = {}", longest.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(setting)).execute(connection).await.map(drop)
}
