//! Transactions of handlers, in which an event's completion is recorded too.

use std::sync::Arc;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool, PgTransaction};
use tokio::time::timeout;

use super::connections::{CONNECT, Connect, Connections, PING, prepare_for_handlers};
use super::sql::{self, Outcome, Queue};
use crate::engine::Lease;

/// Makes and ends them.
pub(crate) struct Transactions {
    connect: Connect,
    others: Arc<Connections>,
}

impl Transactions {
    pub(super) fn new(connect: Connect, others: Arc<Connections>) -> Self {
        Self { connect, others }
    }

    /// Handlers hold a connection each for as long as they run, so they have a pool of their own.
    pub(crate) fn pool(&self, handlers: usize) -> PgPool {
        PgPoolOptions::new()
            .max_connections(u32::try_from(handlers).unwrap_or(u32::MAX))
            .acquire_timeout(CONNECT)
            .after_connect(|connection, _| Box::pin(prepare_for_handlers(connection)))
            // sqlx itself waits for this without a limit, and the connection counts meanwhile.
            .after_release(|connection, _| {
                Box::pin(async {
                    timeout(PING, connection.ping()).await.unwrap_or(Err(silent())).map(|()| true)
                })
            })
            .connect_lazy_with(self.connect.options.clone())
    }

    pub(crate) async fn begin(&self, pool: &PgPool) -> Outcome<PgTransaction<'static>> {
        // Renewing changes the event's row while the handler runs, which every stricter level rejects.
        self.within(pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED")).await
    }

    /// Records the completion and commits, or rolls back when the lease was lost: false.
    pub(crate) async fn complete(
        &self,
        mut transaction: PgTransaction<'static>,
        lease: Lease,
        keep_body: bool,
    ) -> Outcome<bool> {
        let Connect { tables, limit, .. } = &self.connect;
        let completed = sql::complete_within(&mut transaction, tables, lease, keep_body, *limit);
        let Some(queue) = self.within(completed).await? else {
            self.within(transaction.rollback()).await?;
            return Ok(false);
        };
        self.within(transaction.commit()).await?;
        call(&self.others, &[queue]).await;
        Ok(true)
    }

    async fn within<T>(&self, answer: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        timeout(self.connect.limit, answer).await.unwrap_or(Err(silent()))
    }
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time"))
}

/// What fails here is made up for by the next sweep.
pub(super) async fn call(others: &Connections, queues: &[Queue]) {
    if queues.is_empty() {
        return;
    }
    if let Err(error) = others.run(async |on| sql::call(on, queues).await).await {
        tracing::debug!(%error, "the next events of some files were not called; the next sweep does it");
    }
}
