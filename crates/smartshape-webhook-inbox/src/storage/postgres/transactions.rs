//! Transactions for handlers, in which the event's completion is recorded too.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool, PgTransaction};
use tokio::time::{sleep, timeout};

use super::connections::{CONNECT_TIMEOUT, Connections, Connector, PING_TIMEOUT, prepare_for_handlers};
pub(crate) use super::servers::Primary;
use super::{queues, settle};
use crate::lock::locked;
use crate::storage::Lease;

/// Interval at which a running handler's server is compared with the primary that the inbox has found.
const CHECK_PRIMARY_EVERY: Duration = Duration::from_secs(1);

/// Begins and commits them.
pub(crate) struct Transactions {
    connect: Connector,
    connections: Arc<Connections>,
}

impl Transactions {
    pub(super) fn new(connect: Connector, connections: Arc<Connections>) -> Self {
        Self { connect, connections }
    }

    pub(crate) fn pool(&self, handlers: usize) -> HandlerPool {
        let handlers = u32::try_from(handlers).unwrap_or(u32::MAX);
        let primary = self.connect.servers.primary();
        HandlerPool { handlers, to: Mutex::new((primary, self.pool_to(primary, handlers))) }
    }

    fn pool_to(&self, primary: Primary, handlers: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(handlers)
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(|connection, _| Box::pin(prepare_for_handlers(connection)))
            // sqlx itself pings without a timeout, during which the connection counts as used.
            .after_release(|connection, _| {
                Box::pin(async {
                    timeout(PING_TIMEOUT, connection.ping()).await.unwrap_or(Err(timed_out())).map(|()| true)
                })
            })
            .connect_lazy_with(self.connect.servers.options(primary))
    }

    pub(crate) async fn begin(&self, pool: &HandlerPool) -> sqlx::Result<(PgTransaction<'static>, Primary)> {
        let primary = self.connect.servers.primary();
        let pool = {
            let mut to = locked(&pool.to);
            if to.0 != primary {
                *to = (primary, self.pool_to(primary, pool.handlers));
            }
            to.1.clone()
        };
        // Renewals update the event's row while the handler runs. Stricter isolation levels reject the completion then.
        let transaction = self.within(pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
        Ok((transaction, primary))
    }

    /// Returns once another server has taken over from this one.
    pub(crate) async fn superseded(&self, server: Primary) -> sqlx::Error {
        while !self.connect.servers.is_former(server) {
            sleep(CHECK_PRIMARY_EVERY).await;
        }
        taken_over()
    }

    /// Records the completion and commits. Rolls back and returns false when the lease was lost. Fails if another server has
    /// taken over.
    pub(crate) async fn complete(
        &self,
        mut transaction: PgTransaction<'static>,
        server: Primary,
        lease: Lease,
        keep_body: bool,
    ) -> sqlx::Result<bool> {
        let Connector { servers, tables, statement_timeout, .. } = &self.connect;
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
        timeout(self.connect.statement_timeout, response).await.unwrap_or(Err(timed_out()))
    }
}

/// Connections for handlers, since each holds one for as long as it runs. After a failover they are to the new primary,
/// which the claim of the handler's event has found.
pub(crate) struct HandlerPool {
    handlers: u32,
    to: Mutex<(Primary, PgPool)>,
}

fn taken_over() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("another server has taken over from the one of the transaction"))
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not respond in time"))
}
