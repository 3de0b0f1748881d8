//! Bringing what the log holds into the file.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use super::transaction::Write;
use super::{JobFuture, Shared, open, sql};

const BUSY_BRIEFLY: Duration = Duration::from_millis(100);

/// Copies the log into the file and empties it, as far as nobody else uses it now.
pub(super) struct Checkpoint;

impl Write for Checkpoint {
    type Output = ();

    fn write<'c>(&'c self, _: &'c Shared, connection: &'c mut SqliteConnection) -> JobFuture<'c, ()> {
        Box::pin(async move {
            // It would wait for readers and writers as long as a write waits.
            wait(connection, BUSY_BRIEFLY).await?;
            let outcome = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await;
            wait(connection, open::BUSY).await?;
            outcome.map(drop)
        })
    }
}

async fn wait(connection: &mut SqliteConnection, longest: Duration) -> sql::Outcome<()> {
    let setting = format!("PRAGMA busy_timeout = {}", longest.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(setting)).execute(connection).await.map(drop)
}
