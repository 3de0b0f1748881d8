//! A handler whose writes and whose event's completion are one transaction.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use smartshape_webhook::{Delivery, HandlerError};
use sqlx::PgTransaction;

use super::{AttemptEnd, AttemptFuture, EventHandler, Worker, WorkerContext};
use crate::error::{InboxError, InboxErrorKind};
use crate::storage::Lease;
use crate::storage::postgres::{HandlerPool, Transactions};

/// The future that the handler of [`Inbox::transactional_worker`](crate::Inbox::transactional_worker) returns.
pub type TransactionalFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'a>>;

struct Transactional<F> {
    transactions: Arc<Transactions>,
    /// Each running handler holds a connection, so the pool has as many as the worker's concurrency.
    pool: OnceLock<HandlerPool>,
    keep_body: bool,
    handler: F,
}

impl Worker {
    pub(crate) fn transactional<F>(context: WorkerContext, handler: F) -> Result<Self, InboxError>
    where
        F: for<'a> Fn(&'a mut PgTransaction<'static>, Delivery) -> TransactionalFuture<'a>
            + Send
            + Sync
            + 'static,
    {
        let Some(transactions) = context.storage.transactions() else {
            let text = "a transactional worker needs an inbox on PostgreSQL: open one by a postgres:// URL";
            return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
        };
        let keep_body = context.keep_body();
        let handler = Transactional { transactions, pool: OnceLock::new(), keep_body, handler };
        Ok(Self::with_handler(context, Arc::new(handler)))
    }
}

impl<F> Transactional<F>
where
    F: for<'a> Fn(&'a mut PgTransaction<'static>, Delivery) -> TransactionalFuture<'a>
        + Send
        + Sync
        + 'static,
{
    fn pool(&self, concurrency: usize) -> &HandlerPool {
        self.pool.get_or_init(|| self.transactions.pool(concurrency))
    }

    async fn handle(&self, lease: Lease, delivery: Delivery) -> Result<AttemptEnd, HandlerError> {
        let (mut transaction, server) = self.transactions.begin(self.pool(1)).await?;
        tokio::select! {
            handled = (self.handler)(&mut transaction, delivery) => handled?,
            // A statement to a server that was cut off would never return.
            error = self.transactions.superseded(server) => return Err(error.into()),
        }
        // Fails when the handler ignored an error that aborted the transaction.
        let completed = self.transactions.complete(transaction, server, lease, self.keep_body).await?;
        Ok(if completed { AttemptEnd::AlreadyCompleted } else { AttemptEnd::LeaseLost })
    }
}

impl<F> EventHandler for Transactional<F>
where
    F: for<'a> Fn(&'a mut PgTransaction<'static>, Delivery) -> TransactionalFuture<'a>
        + Send
        + Sync
        + 'static,
{
    fn prepare(&self, concurrency: usize) {
        self.pool(concurrency);
    }

    fn attempt(&self, lease: Lease, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(async move {
            // After an error at the commit, the commit may have happened. The failure that is recorded then
            // has no effect, since the event is completed.
            self.handle(lease, delivery).await.unwrap_or_else(|error| Err(error).into())
        })
    }
}

impl<F> fmt::Debug for Transactional<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transactional")
    }
}
