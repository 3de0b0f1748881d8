//! Effect and completion in one transaction.

use std::fmt;
use std::pin::Pin;
use std::sync::OnceLock;

use smartshape_webhook::{Delivery, HandlerError};
use sqlx::{PgPool, PgTransaction};

use super::{Work, Worked};
use crate::engine::{Lease, postgres};

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
    inbox: PgPool,
    /// Handlers hold a connection each for as long as they run, so they have a pool of their own.
    own: OnceLock<PgPool>,
    keep_body: bool,
    handler: F,
}

impl<F> Transactional<F> {
    pub(crate) fn new(inbox: PgPool, keep_body: bool, handler: F) -> Self {
        Self { inbox, own: OnceLock::new(), keep_body, handler }
    }
}

impl<F: TransactionalHandler> Transactional<F> {
    async fn attempt_in_transaction(&self, lease: Lease, delivery: Delivery) -> Result<Worked, HandlerError> {
        let mut transaction = self.own.get().unwrap_or(&self.inbox).begin().await?;
        self.handler.handle(&mut transaction, delivery).await?;
        // Fails when the handler has broken the transaction and hidden the error.
        if postgres::complete_within(&mut transaction, lease, self.keep_body).await? {
            transaction.commit().await?;
            return Ok(Worked::Recorded);
        }
        transaction.rollback().await?;
        Ok(Worked::Undone)
    }
}

impl<F: TransactionalHandler> Work for Transactional<F> {
    fn prepare(&self, concurrency: usize) {
        self.own.get_or_init(|| {
            self.inbox
                .options()
                .clone()
                .max_connections(u32::try_from(concurrency).unwrap_or(u32::MAX))
                .connect_lazy_with((*self.inbox.connect_options()).clone())
        });
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
