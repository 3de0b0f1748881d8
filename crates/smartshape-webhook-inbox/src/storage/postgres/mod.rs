//! Storage in a PostgreSQL database, for any number of machines. All times are the server's.
//!
//! Batches are inserted on connections of their own, so that they never wait for a claim or a purge. An event is
//! runnable for ordered workers unless its column `behind` says that an earlier event of its queue is open; the column
//! is cleared when that event ends, and a periodic pass repairs it after a crash between the two.
//!
//! Statements run on a [`Session`](connections::Session), whose search path has only PostgreSQL's own schemas. The one
//! exception is [`settle::complete_within`]: it runs in a transactional handler's transaction, so it qualifies all
//! names.
//!
//! Statements that choose the rows they change skip those that another transaction has locked; only a replay waits for
//! them. So a client that is gone while it holds a row stops nobody. A later statement finds what this one has skipped.

mod admin;
mod claim;
mod connections;
mod dedup;
mod durability;
mod error;
mod insert;
mod maintenance;
mod notify;
mod open;
mod queues;
mod replay;
mod servers;
mod settle;
mod transactions;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::size_limit::SizeLimit;
use super::sweep_size::SweepSize;
use super::{
    AttemptResult, ClaimRequest, ClaimResponse, Lease, Retention, Settled, Storage, StorageFuture,
    StorageOptions, WorkerGuard,
};
use crate::error::{InboxError, InboxErrorKind};
use crate::event::NewEvent;
use connections::{Connections, retry_on_conflict};
pub use dedup::PostgresDedupStore;
use maintenance::{BodySweep, CapacitySweep};
use notify::Notifier;
pub(crate) use transactions::Transactions;

/// Maximum number of concurrent commits of batches. More would only make each batch smaller.
const MAX_CONCURRENT_INSERTS: u32 = 4;
/// Upper bound of the statement timeout, which is twice `store_timeout`: while a server is slow, deliveries are
/// rejected with 503 before connections are closed.
const MAX_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of a step of an operator's operations, which may read all events.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Minimum interval of passes over all queues, and of counts of all completed events.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct Postgres {
    /// For batches of new events.
    insert_connections: Connections,
    /// For all other statements.
    connections: Arc<Connections>,
    max_concurrent_inserts: u32,
    notifier: Notifier,
    allow_asynchronous_commit: bool,
    schema: i64,
    size_limit: Arc<SizeLimit>,
    /// When the last pass over all queues began. Locked during the pass.
    marked_all_at: Arc<Mutex<Option<Instant>>>,
    sweep_size: SweepSize,
    capacity_sweep: Mutex<CapacitySweep>,
    body_sweep: Mutex<BodySweep>,
}

impl Postgres {
    /// Connects, and creates or migrates the tables.
    pub(crate) async fn open(url: &str, options: &StorageOptions) -> Result<Self, InboxError> {
        // Three remain: for the listener, for operations that may take minutes, and for everything else.
        let max_concurrent_inserts =
            options.max_connections.saturating_sub(3).clamp(1, MAX_CONCURRENT_INSERTS);
        let (connect, channel, schema) = open::open(url, options).await?;
        let max_connections = options.max_connections.saturating_sub(max_concurrent_inserts + 1).max(1);
        let connections = Arc::new(Connections::new(connect.clone(), max_connections));
        Ok(Self {
            notifier: Notifier::new(Arc::clone(&connections), channel),
            connections,
            insert_connections: Connections::new(connect, max_concurrent_inserts),
            max_concurrent_inserts,
            allow_asynchronous_commit: options.allow_asynchronous_commit,
            schema,
            size_limit: Arc::new(SizeLimit::new(options.max_size_bytes)),
            marked_all_at: Arc::default(),
            sweep_size: SweepSize::new(),
            capacity_sweep: Mutex::default(),
            body_sweep: Mutex::default(),
        })
    }
}

impl Storage for Postgres {
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let uncompleted = || maintenance::uncompleted_bytes(Arc::clone(&self.connections));
            let reserved = self.size_limit.reserve(&events, &"on PostgreSQL", uncompleted);
            let limit = MAX_STATEMENT_TIMEOUT;
            timeout(limit, reserved).await.unwrap_or_else(|_| Err(connections::timed_out(limit)))?;
            let asynchronous = self.allow_asynchronous_commit;
            let insert = || {
                self.insert_connections
                    .run(async |session| insert::insert(session, &events, asynchronous).await)
            };
            let (fresh, blocked) = retry_on_conflict(insert).await?;
            self.notifier.mark_runnable_later(blocked);
            Ok(fresh)
        })
    }

    fn claim(&self, request: ClaimRequest) -> StorageFuture<'_, ClaimResponse> {
        Box::pin(self.claim(request))
    }

    fn renew(&self, leases: Vec<Lease>, ttl: Duration) -> StorageFuture<'_, Vec<Lease>> {
        Box::pin(async move {
            retry_on_conflict(|| {
                self.connections.run(async |session| claim::renew(session, &leases, ttl).await)
            })
            .await
        })
    }

    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled> {
        Box::pin(async move { self.settle_all(&results).await })
    }

    fn sweep(&self, retention: Retention) -> StorageFuture<'_, u64> {
        Box::pin(self.sweep(retention))
    }

    fn ping(&self) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            let rejected = self.connections.run(maintenance::ping).await?;
            rejected.map_or(Ok(()), |reason| Err(InboxError::new(InboxErrorKind::ReadOnly, reason)))
        })
    }

    fn lock_worker(&self) -> StorageFuture<'_, WorkerGuard> {
        // Any number of workers share the database.
        Box::pin(async { Ok(Arc::new(()) as WorkerGuard) })
    }

    fn subscribe(&self, wake: Arc<Notify>) {
        self.notifier.listen(wake);
    }

    fn notify(&self) {
        self.notifier.notify();
    }

    fn max_concurrent_inserts(&self) -> usize {
        self.max_concurrent_inserts as usize
    }

    fn dedup_store(&self, retention: Duration) -> Option<PostgresDedupStore> {
        let (connections, allow_asynchronous_commit) =
            (Arc::clone(&self.connections), self.allow_asynchronous_commit);
        Some(PostgresDedupStore { connections, retention, allow_asynchronous_commit })
    }

    fn transactions(&self) -> Option<Transactions> {
        Some(Transactions::new(Arc::clone(&self.connections)))
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}
