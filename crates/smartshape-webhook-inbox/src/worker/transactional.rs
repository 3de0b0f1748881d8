//! A handler whose writes and whose event's completion are one transaction.

use std::pin::Pin;
use std::sync::Arc;

use smartshape_webhook::{Delivery, HandlerError};
use sqlx::PgTransaction;

use super::{AttemptEnd, AttemptFuture, EventHandler, Worker, WorkerContext};
use crate::error::{InboxError, InboxErrorKind};
use crate::storage::Lease;
use crate::storage::postgres::Transactions;

/// The future that the handler of [`Inbox::transactional_worker`](crate::Inbox::transactional_worker) returns.
pub type TransactionalFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'a>>;

type TransactionalHandler =
    dyn for<'a> Fn(&'a mut PgTransaction<'static>, Delivery) -> TransactionalFuture<'a> + Send + Sync;

struct Transactional {
    transactions: Transactions,
    keep_body: bool,
    handler: Box<TransactionalHandler>,
}

impl Worker {
    pub(crate) fn transactional(
        context: WorkerContext,
        handler: Box<TransactionalHandler>,
    ) -> Result<Self, InboxError> {
        let Some(transactions) = context.storage.transactions() else {
            let text = "a transactional worker needs an inbox on PostgreSQL: open one by a postgres:// URL";
            return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
        };
        let handler = Transactional { transactions, keep_body: context.keep_body(), handler };
        Ok(Self::with_handler(context, Arc::new(handler)))
    }
}

impl Transactional {
    async fn handle(&self, lease: Lease, delivery: Delivery) -> Result<AttemptEnd, HandlerError> {
        let (mut transaction, server) = self.transactions.begin().await?;
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

impl EventHandler for Transactional {
    fn prepare(&self, concurrency: usize) {
        self.transactions.set_max_handlers(concurrency);
    }

    fn attempt(&self, lease: Lease, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(async move {
            // After an error at the commit, the commit may have happened. The failure that is recorded then
            // has no effect, since the event is completed.
            self.handle(lease, delivery).await.unwrap_or_else(|error| Err(error).into())
        })
    }
}
