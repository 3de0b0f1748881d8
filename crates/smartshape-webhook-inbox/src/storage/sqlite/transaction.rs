//! Write transactions.

use sqlx::sqlite::SqliteConnection;

use super::{JobFuture, Shared};

/// A write transaction, from BEGIN to COMMIT.
pub(super) trait WriteJob: Sync {
    type Output;

    fn write<'c>(
        &'c self,
        shared: &'c Shared,
        connection: &'c mut SqliteConnection,
    ) -> JobFuture<'c, Self::Output>;
}

/// A transaction that runs a closure.
pub(super) struct Transaction<'j, J>(pub(super) &'j J);

impl<T: Send, J> WriteJob for Transaction<'_, J>
where
    J: for<'c> Fn(&'c mut SqliteConnection, i64) -> JobFuture<'c, T> + Sync,
{
    type Output = T;

    fn write<'c>(&'c self, shared: &'c Shared, connection: &'c mut SqliteConnection) -> JobFuture<'c, T> {
        Box::pin(async move {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            let value = self.0(&mut *connection, shared.clock.now()).await?;
            sqlx::query("COMMIT").execute(&mut *connection).await?;
            Ok(value)
        })
    }
}
