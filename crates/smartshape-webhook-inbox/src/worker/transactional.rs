//! Effect and completion in one transaction.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use smartshape_webhook::{Delivery, HandlerError};
use sqlx::{PgPool, PgTransaction};

use super::{Work, Worked};
use crate::engine::Lease;
use crate::engine::postgres::Transactions;

/// The future that a transactional handler returns.
pub type TransactionalOutcome<'a> = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'a>>;

/// A handler that gets a transaction; see [`Inbox::transactional`](crate::Inbox::transactional).
/// Implemented for closures.
pub trait TransactionalHandler: Send + Sync + 'static {
    /// Handles one delivery within `transaction`.
    fn handle<'a>(
        &'a self,
        transaction: &'a mut PgTransaction<'static>,
        delivery: Delivery,
    ) -> TransactionalOutcome<'a>;
}

impl<F> TransactionalHandler for F
where
    F: for<'a> Fn(&'a mut PgTransaction<'static>, Delivery) -> TransactionalOutcome<'a>
        + Send
        + Sync
        + 'static,
{
    fn handle<'a>(
        &'a self,
        transaction: &'a mut PgTransaction<'static>,
        delivery: Delivery,
    ) -> TransactionalOutcome<'a> {
        self(transaction, delivery)
    }
}

/// The work of a worker that [`Inbox::transactional`](crate::Inbox::transactional) makes.
pub struct Transactional<F> {
    transactions: Arc<Transactions>,
    pool: OnceLock<PgPool>,
    keep_body: bool,
    handler: F,
}

impl<F> Transactional<F> {
    pub(crate) fn new(transactions: Arc<Transactions>, keep_body: bool, handler: F) -> Self {
        Self { transactions, pool: OnceLock::new(), keep_body, handler }
    }

    fn pool(&self, concurrency: usize) -> &PgPool {
        self.pool.get_or_init(|| self.transactions.pool(concurrency))
    }
}

impl<F: TransactionalHandler> Transactional<F> {
    async fn attempt_in_transaction(&self, lease: Lease, delivery: Delivery) -> Result<Worked, HandlerError> {
        let mut transaction = self.transactions.begin(self.pool(1)).await?;
        self.handler.handle(&mut transaction, delivery).await?;
        // Fails when the handler has broken the transaction and hidden the error.
        let completed = self.transactions.complete(transaction, lease, self.keep_body).await?;
        Ok(if completed { Worked::Recorded } else { Worked::Undone })
    }
}

impl<F: TransactionalHandler> Work for Transactional<F> {
    fn prepare(&self, concurrency: usize) {
        self.pool(concurrency);
    }

    async fn attempt(&self, lease: Lease, delivery: Delivery) -> Worked {
        // An error at the commit may hide that it has happened. The failure that is then recorded
        // has no effect on an event that is completed already.
        self.attempt_in_transaction(lease, delivery).await.unwrap_or_else(|error| Worked::Handled(Err(error)))
    }
}

impl<F> fmt::Debug for Transactional<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transactional")
    }
}
