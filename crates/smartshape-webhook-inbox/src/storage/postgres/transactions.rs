//! Transactions for handlers, in which the event's completion is recorded too.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool, PgTransaction};
use tokio::time::{sleep, timeout};

use super::connections::{CONNECT_TIMEOUT, Connections, Connector, KEEPALIVE, PING_TIMEOUT};
pub(crate) use super::servers::Primary;
use super::{queues, settle};
use crate::lock::locked;
use crate::storage::Lease;

/// Interval at which a running handler's server is compared with the primary that the inbox has found.
const CHECK_PRIMARY_EVERY: Duration = Duration::from_secs(1);

/// Begins and commits the transactions of one worker.
pub(crate) struct Transactions {
    connections: Arc<Connections>,
    /// Each running handler holds a connection.
    max_handlers: AtomicU32,
    /// The handlers' connections. After a failover they are to the new primary, which the claim of an event has found.
    pool: Mutex<Option<(Primary, PgPool)>>,
}

impl Transactions {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self { connections, max_handlers: AtomicU32::new(1), pool: Mutex::default() }
    }

    /// Called before the first handler runs.
    pub(crate) fn set_max_handlers(&self, handlers: usize) {
        self.max_handlers.store(u32::try_from(handlers).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn connect_to(&self, primary: Primary) -> PgPool {
        PgPoolOptions::new()
            .max_connections(self.max_handlers.load(Ordering::Relaxed))
            .acquire_timeout(CONNECT_TIMEOUT)
            // Apart from this, a handler's connection keeps the settings of its user.
            .after_connect(|connection, _| {
                Box::pin(async { sqlx::raw_sql(KEEPALIVE).execute(connection).await.map(drop) })
            })
            // sqlx itself pings without a timeout, during which the connection counts as used.
            .after_release(|connection, _| {
                Box::pin(async {
                    timeout(PING_TIMEOUT, connection.ping()).await.unwrap_or(Err(timed_out())).map(|()| true)
                })
            })
            .connect_lazy_with(self.connections.connect.servers.options(primary))
    }

    pub(crate) async fn begin(&self) -> sqlx::Result<(PgTransaction<'static>, Primary)> {
        let primary = self.connections.connect.servers.primary();
        let pool = {
            let mut pool = locked(&self.pool);
            let (_, pool) = match pool.take().filter(|(server, _)| *server == primary) {
                Some(current) => pool.insert(current),
                None => pool.insert((primary, self.connect_to(primary))),
            };
            pool.clone()
        };
        // Renewals update the event's row while the handler runs. Stricter isolation levels reject the completion then.
        let transaction = self.within(pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
        Ok((transaction, primary))
    }

    /// Returns once another server has taken over from this one.
    pub(crate) async fn superseded(&self, server: Primary) -> sqlx::Error {
        while !self.connections.connect.servers.is_former(server) {
            sleep(CHECK_PRIMARY_EVERY).await;
        }
        taken_over()
    }

    /// Records the completion and commits. Rolls back and returns false when the lease was lost. Fails if another
    /// server has taken over.
    pub(crate) async fn complete(
        &self,
        mut transaction: PgTransaction<'static>,
        server: Primary,
        lease: Lease,
        keep_body: bool,
    ) -> sqlx::Result<bool> {
        let Connector { servers, tables, statement_timeout, .. } = &self.connections.connect;
        if servers.is_former(server) {
            return Err(taken_over());
        }
        let completed =
            settle::complete_within(&mut transaction, tables, lease, keep_body, *statement_timeout);
        let Some(queue) = self.within(completed).await? else {
            self.within(transaction.rollback()).await?;
            return Ok(false);
        };
        self.within(transaction.commit()).await?;
        queues::mark_runnable_after_commit(&self.connections, &[queue]).await;
        Ok(true)
    }

    async fn within<T>(&self, response: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        timeout(self.connections.connect.statement_timeout, response).await.unwrap_or(Err(timed_out()))
    }
}

fn taken_over() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("another server has taken over from the one of the transaction"))
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not respond in time"))
}
