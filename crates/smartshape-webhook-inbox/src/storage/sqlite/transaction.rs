//! Write transactions.

use std::sync::atomic::Ordering;

use sqlx::sqlite::SqliteConnection;

use super::{JobFuture, Shared, sql};

/// Writes record the clock in the file at this interval.
const CLOCK_INTERVAL_MS: i64 = 500;

/// A write transaction, from BEGIN to COMMIT.
pub(super) trait Write: Sync {
    type Output;

    fn write<'c>(
        &'c self,
        shared: &'c Shared,
        connection: &'c mut SqliteConnection,
    ) -> JobFuture<'c, Self::Output>;
}

/// A transaction that runs a closure.
pub(super) struct Transaction<'j, J>(pub(super) &'j J);

impl<T: Send, J> Write for Transaction<'_, J>
where
    J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Sync,
{
    type Output = T;

    fn write<'c>(&'c self, shared: &'c Shared, connection: &'c mut SqliteConnection) -> JobFuture<'c, T> {
        Box::pin(async move {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            let now = shared.clock.now();
            let value = self.0(&mut *connection, now).await?;
            let records_clock = shared.is_clock_due(now);
            if records_clock {
                sql::record_clock(&mut *connection, now).await?;
            }
            sqlx::query("COMMIT").execute(&mut *connection).await?;
            if records_clock {
                shared.clock_recorded.fetch_max(now, Ordering::Relaxed);
            }
            Ok(value)
        })
    }
}

impl Shared {
    pub(super) fn is_clock_due(&self, now: i64) -> bool {
        now - self.clock_recorded.load(Ordering::Relaxed) >= CLOCK_INTERVAL_MS
    }
}
