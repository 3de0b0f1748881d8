//! Storage in a PostgreSQL database, for any number of machines. All times are the server's.
//!
//! Batches are inserted on connections of their own, so that they never wait for a claim or a purge. An event is
//! runnable for ordered workers unless its column `behind` says that an earlier event of its queue is open; the column
//! is cleared when that event ends, and a periodic pass repairs it after a crash between the two.

mod connections;
mod dedup;
mod durability;
mod error;
mod notify;
mod open;
mod servers;
mod sql;
mod transactions;
mod url;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smartshape_webhook::DeliveryKey;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::size_limit::SizeLimit;
use super::sweep_size::SweepSize;
use super::{
    AttemptResult, ClaimRequest, ClaimResponse, Lease, Retention, SCHEMA_OF_OPERATIONS, SCHEMA_OF_REASONS,
    Storage, StorageFuture, check_has, in_chunks,
};
use crate::activity::{ActivityCounts, MinuteCounts};
use crate::error::{InboxError, InboxErrorKind};
use crate::event::{EventFilter, InboxCounts, InboxStats, NewEvent, StoredDelivery, StoredEvent};
use crate::operations::{FailedAttempt, Pause, WorkerInfo, WorkerReport};
use crate::reason::DeadLetterReason;
use crate::storage::{Settled, StorageOptions};
use connections::{Connections, retry_on_conflict};
pub use dedup::PostgresDedupStore;
use notify::Notifier;
pub(crate) use transactions::{HandlerPool, Transactions};

/// Maximum number of concurrent commits of batches. More would only make each batch smaller.
const MAX_CONCURRENT_INSERTS: u32 = 4;
/// Upper bound of the statement timeout, which is twice `store_timeout`: while a server is slow, deliveries are
/// rejected with 503 before connections are closed.
const MAX_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of a step of an operator's operations, which may read all events.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Minimum interval of passes over all queues, and of counts of all completed events.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// Number of completed events that one statement passes over.
const COUNTED_EVENTS: u64 = 50_000;
/// Maximum size of the bodies read by one statement, unless a single one is longer.
const BODY_BATCH_BYTES: u64 = 8 * 1024 * 1024;

pub(crate) struct Postgres {
    /// For batches of new events.
    insert_connections: Connections,
    /// For all other statements.
    connections: Arc<Connections>,
    transactions: Arc<Transactions>,
    max_concurrent_inserts: u32,
    notifier: Notifier,
    allow_asynchronous_commit: bool,
    schema: i64,
    size_limit: Arc<SizeLimit>,
    /// When the last pass over all queues began. Locked during the pass.
    marked_all_at: Arc<Mutex<Option<Instant>>>,
    sweep_size: SweepSize,
    capacity: Mutex<Capacity>,
}

/// What a sweep has found out of `dedup_capacity`.
#[derive(Default)]
struct Capacity {
    /// When the number of completed events was last found to be within it.
    within_at: Option<Instant>,
    /// Completed events before this one are over it, and are deleted.
    oldest_kept: Option<sql::CompletedEvent>,
}

impl Postgres {
    /// Connects, and creates or migrates the tables.
    pub(crate) async fn open(url: &str, options: &StorageOptions) -> Result<Self, InboxError> {
        // Three remain: for the listener, for operations that may take minutes, and for everything else.
        let max_concurrent_inserts =
            options.max_connections.saturating_sub(3).clamp(1, MAX_CONCURRENT_INSERTS);
        let open::OpenDatabase { connect, channel, schema } = open::open(url, options).await?;
        let max_connections = options.max_connections.saturating_sub(max_concurrent_inserts + 1).max(1);
        let connections = Arc::new(Connections::new(connect.clone(), max_connections));
        Ok(Self {
            notifier: Notifier::new(Arc::clone(&connections), connect.clone(), channel),
            transactions: Arc::new(Transactions::new(connect.clone(), Arc::clone(&connections))),
            connections,
            insert_connections: Connections::new(connect, max_concurrent_inserts),
            max_concurrent_inserts,
            allow_asynchronous_commit: options.allow_asynchronous_commit,
            schema,
            size_limit: Arc::new(SizeLimit::new(options.max_size_bytes)),
            marked_all_at: Arc::default(),
            sweep_size: SweepSize::new(),
            capacity: Mutex::default(),
        })
    }

    /// Reserves space for a batch; fails when there is not enough.
    async fn reserve_size(&self, events: &[NewEvent]) -> Result<(), InboxError> {
        let count = || {
            let (size_limit, connections) = (Arc::clone(&self.size_limit), Arc::clone(&self.connections));
            tokio::spawn(async move { size_limit.count(uncompleted_bytes(&connections)).await })
        };
        if self.size_limit.is_count_due() {
            let _detached = count();
        }
        if self.size_limit.reserve(events) {
            return Ok(());
        }
        // A count that takes longer goes on: a later batch benefits from it.
        let counted = timeout(MAX_STATEMENT_TIMEOUT, count()).await;
        let ended = counted.map_err(|_| connections::timed_out(MAX_STATEMENT_TIMEOUT))?;
        ended.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))??;
        if self.size_limit.reserve(events) { Ok(()) } else { Err(self.size_limit.error(&"on PostgreSQL")) }
    }

    async fn claim(&self, request: ClaimRequest) -> Result<ClaimResponse, InboxError> {
        let sql::ClaimedRows { mut claimed, lengths } =
            retry_on_conflict(|| self.connections.run(async |session| sql::claim(session, request).await))
                .await?;
        // A claimed event that is not attempted counts as a lost lease, so no failure from here on fails the claim.
        let mut conflicts = Vec::new();
        if !claimed.attempts.is_empty() {
            let attempts = &claimed.attempts;
            match self
                .connections
                .run(async |session| sql::check_claim(session, request, attempts).await)
                .await
            {
                Ok(after) => (conflicts, claimed.next_due) = after,
                Err(error) => {
                    tracing::warn!(%error, "a claim could not be checked; its events are released if they are ordered");
                    conflicts
                        .extend(attempts.iter().filter(|_| request.ordered).map(|attempt| attempt.lease));
                }
            }
        }
        claimed.attempts.retain(|attempt| !conflicts.contains(&attempt.lease));
        // Several statements, so that many long bodies do not exceed the timeout of one.
        let mut first = 0;
        while first < claimed.attempts.len() {
            let mut bytes = 0;
            let part = claimed.attempts[first..].iter().map(|attempt| attempt.lease.seq).take_while(|seq| {
                bytes += lengths.get(seq).copied().unwrap_or(0);
                bytes <= BODY_BATCH_BYTES
            });
            let count = part.count().max(1);
            let part = &mut claimed.attempts[first..first + count];
            let seqs: Vec<i64> = part.iter().map(|attempt| attempt.lease.seq).collect();
            match self.connections.run(async |session| sql::bodies(session, &seqs).await).await {
                Ok(mut bodies) => {
                    part.iter_mut().for_each(|attempt| attempt.body = Ok(bodies.remove(&attempt.lease.seq)));
                }
                Err(error) => {
                    tracing::warn!(%error, "bodies could not be read; the first is read alone, the other events are released");
                    conflicts.extend(claimed.attempts.drain(first + 1..).map(|attempt| attempt.lease));
                    // One whose body can never be read must fail alone, and become a dead letter in the end: released, it
                    // would be claimed with the others again and again.
                    let seqs = [claimed.attempts[first].lease.seq];
                    let read = self.connections.run(async |session| sql::bodies(session, &seqs).await).await;
                    if read.as_ref().is_err_and(error::is_outage) {
                        conflicts.extend(claimed.attempts.pop().map(|attempt| attempt.lease));
                    } else {
                        claimed.attempts[first].body =
                            read.map(|mut bodies| bodies.remove(&seqs[0])).map_err(|error| error.to_string());
                    }
                }
            }
            first += count;
        }
        if !conflicts.is_empty() {
            let released: Vec<_> = conflicts.into_iter().map(AttemptResult::released).collect();
            if let Err(error) = self.settle_all(&released).await {
                tracing::warn!(%error, "events could not be released; their leases have to expire");
            }
        }
        Ok(claimed)
    }

    async fn settle_all(&self, results: &[AttemptResult]) -> Result<Settled, InboxError> {
        let (settled, over) =
            retry_on_conflict(|| self.connections.run(async |session| sql::settle(session, results).await))
                .await?;
        self.mark_runnable(&over).await;
        Ok(settled)
    }

    async fn mark_runnable(&self, queues: &[sql::Queue]) {
        transactions::mark_runnable(&self.connections, queues).await;
    }

    /// In the background and in chunks, since it takes seconds when hundreds of thousands of files have open events, and
    /// once a minute at most, since it repairs what only a crash leaves behind.
    fn mark_all_runnable_later(&self) {
        let Ok(mut marked_all_at) = Arc::clone(&self.marked_all_at).try_lock_owned() else { return };
        if marked_all_at.is_some_and(|at| at.elapsed() < MAINTENANCE_INTERVAL) {
            return;
        }
        let connections = Arc::clone(&self.connections);
        let _detached = tokio::spawn(async move {
            *marked_all_at = Some(Instant::now());
            let mut next = Some(i64::MIN);
            while let Some(first) = next {
                next = connections
                    .run(async |session| sql::mark_all_runnable(session, first).await)
                    .await
                    .inspect_err(|error| {
                        tracing::debug!(%error, "the pass over all queues failed; the next sweep repeats it");
                    })
                    .unwrap_or(None);
            }
        });
    }

    /// Deletes a portion of the oldest completed events over `dedup_capacity`. Finding the first of them passes over all that
    /// are kept, so once none is over it, the next check is a minute later.
    async fn delete_over_capacity(&self, retention: Retention) -> Result<u64, InboxError> {
        let Ok(mut capacity) = self.capacity.try_lock() else { return Ok(0) };
        if retention.dedup_capacity == u64::MAX
            || capacity.within_at.is_some_and(|at| at.elapsed() < MAINTENANCE_INTERVAL)
        {
            return Ok(0);
        }
        if capacity.oldest_kept.is_none() {
            capacity.oldest_kept = self.oldest_kept(retention.dedup_capacity).await?;
        }
        let mut deleted = 0;
        if let Some(before) = capacity.oldest_kept {
            deleted = self
                .delete(async |session, limit| sql::delete_completed(session, before, limit).await)
                .await?;
            retention.warn_of_capacity(deleted);
        }
        if deleted == 0 {
            *capacity = Capacity { within_at: Some(Instant::now()), oldest_kept: None };
        }
        Ok(deleted)
    }

    /// The last of the `capacity` newest completed events; `None` when there are fewer.
    async fn oldest_kept(&self, capacity: u64) -> Result<Option<sql::CompletedEvent>, InboxError> {
        let (mut last, mut left) = (sql::NEWEST, capacity);
        while left > 0 {
            let count = left.min(COUNTED_EVENTS);
            let found =
                self.connections.run(async |session| sql::nth_completed(session, last, count).await).await?;
            let Some(found) = found else { return Ok(None) };
            (last, left) = (found, left - count);
        }
        Ok(Some(last))
    }

    /// Deletes a portion of rows, whose number depends on the time that the last ones took.
    async fn delete(
        &self,
        statements: impl AsyncFnOnce(&mut connections::Session, u32) -> sqlx::Result<u64>,
    ) -> Result<u64, InboxError> {
        let limit = self.sweep_size.rows();
        let run = self.connections.run(async |session| {
            let started_at = Instant::now();
            let deleted = statements(session, limit).await;
            self.sweep_size.took(started_at.elapsed());
            deleted
        });
        // A statement that timed out did not return.
        run.await.inspect_err(|_| self.sweep_size.took(MAX_STATEMENT_TIMEOUT))
    }

    async fn run_admin<T>(
        &self,
        statements: impl AsyncFnOnce(&mut connections::Session) -> sqlx::Result<T>,
    ) -> Result<T, InboxError> {
        self.connections.run_within(ADMIN_TIMEOUT, statements).await
    }
}

/// In portions, each within the statement timeout, so that a connection that falls silent is not kept for long.
async fn uncompleted_bytes(connections: &Connections) -> Result<u64, InboxError> {
    let mut bytes = 0;
    for events in [sql::Uncompleted::Open, sql::Uncompleted::DeadLetters] {
        let mut after = (i64::MIN, i64::MIN);
        while let Some((portion, last)) =
            connections.run(async |session| sql::uncompleted_bytes(session, events, after).await).await?
        {
            bytes += portion;
            after = last;
        }
    }
    Ok(bytes)
}

impl Storage for Postgres {
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>> {
        Box::pin(async move {
            self.reserve_size(&events).await?;
            let asynchronous = self.allow_asynchronous_commit;
            let insert = || {
                self.insert_connections.run(async |session| sql::insert(session, &events, asynchronous).await)
            };
            let inserted = retry_on_conflict(insert).await?;
            self.notifier.mark_runnable_later(inserted.behind);
            Ok(inserted.fresh)
        })
    }

    fn claim(&self, request: ClaimRequest) -> StorageFuture<'_, ClaimResponse> {
        Box::pin(self.claim(request))
    }

    fn renew(&self, leases: Vec<Lease>, lease: Duration) -> StorageFuture<'_, Vec<Lease>> {
        Box::pin(async move {
            retry_on_conflict(|| {
                self.connections.run(async |session| sql::renew(session, &leases, lease).await)
            })
            .await
        })
    }

    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled> {
        Box::pin(async move { self.settle_all(&results).await })
    }

    fn list(&self, filter: EventFilter) -> StorageFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move { self.run_admin(async |session| sql::list(session, &filter).await).await })
    }

    fn get(&self, key: DeliveryKey) -> StorageFuture<'_, Option<StoredDelivery>> {
        Box::pin(async move { self.run_admin(async |session| sql::get(session, key).await).await })
    }

    fn replay(&self, filter: EventFilter) -> StorageFuture<'_, u64> {
        Box::pin(in_chunks(filter, move |chunk| {
            retry_on_conflict(move || {
                let chunk = chunk.clone();
                self.run_admin(async move |session| sql::replay(session, &chunk).await)
            })
        }))
    }

    fn purge(&self, filter: EventFilter) -> StorageFuture<'_, u64> {
        Box::pin(in_chunks(filter, move |chunk| {
            retry_on_conflict(move || {
                let chunk = chunk.clone();
                self.run_admin(async move |session| sql::purge(session, &chunk).await)
            })
        }))
    }

    fn stats(&self) -> StorageFuture<'_, InboxStats> {
        Box::pin(self.run_admin(sql::stats))
    }

    fn counts(&self) -> StorageFuture<'_, InboxCounts> {
        Box::pin(self.connections.run(sql::counts))
    }

    fn nth(&self, filter: EventFilter, skipped: u32) -> StorageFuture<'_, Option<i64>> {
        Box::pin(async move {
            self.connections.run(async |session| sql::nth(session, &filter, skipped).await).await
        })
    }

    fn count_by_event(&self, filter: EventFilter) -> StorageFuture<'_, Vec<(String, u64)>> {
        Box::pin(async move {
            self.connections.run(async |session| sql::count_by_event(session, &filter).await).await
        })
    }

    fn reasons(&self, limit: u32) -> StorageFuture<'_, Vec<DeadLetterReason>> {
        Box::pin(async move {
            check_has(&"on PostgreSQL", self.schema, SCHEMA_OF_REASONS)?;
            self.connections.run(async |session| sql::reasons(session, limit).await).await
        })
    }

    fn record_activity(&self, minutes: Vec<MinuteCounts>) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            self.connections.run(async |session| sql::record_activity(session, &minutes).await).await
        })
    }

    fn activity(&self, from: i64, width: i64) -> StorageFuture<'_, Vec<(i64, ActivityCounts)>> {
        Box::pin(async move {
            check_has(&"on PostgreSQL", self.schema, SCHEMA_OF_OPERATIONS)?;
            self.connections.run(async |session| sql::activity(session, from, width).await).await
        })
    }

    fn failed_attempts(&self, key: DeliveryKey) -> StorageFuture<'_, Vec<FailedAttempt>> {
        Box::pin(async move {
            check_has(&"on PostgreSQL", self.schema, SCHEMA_OF_OPERATIONS)?;
            self.connections.run(async |session| sql::failed_attempts(session, key).await).await
        })
    }

    fn pause(&self, by: String) -> StorageFuture<'_, ()> {
        Box::pin(async move { self.connections.run(async |session| sql::pause(session, &by).await).await })
    }

    fn resume(&self) -> StorageFuture<'_, ()> {
        Box::pin(async move { self.connections.run(async |session| sql::resume(session).await).await })
    }

    fn paused(&self) -> StorageFuture<'_, Option<Pause>> {
        Box::pin(async move {
            check_has(&"on PostgreSQL", self.schema, SCHEMA_OF_OPERATIONS)?;
            self.connections.run(async |session| sql::paused(session).await).await
        })
    }

    fn report_worker(&self, report: WorkerReport) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            self.connections.run(async |session| sql::report_worker(session, &report).await).await
        })
    }

    fn remove_worker(&self, id: i64) -> StorageFuture<'_, ()> {
        Box::pin(
            async move { self.connections.run(async |session| sql::remove_worker(session, id).await).await },
        )
    }

    fn workers(&self) -> StorageFuture<'_, Vec<WorkerInfo>> {
        Box::pin(async move {
            check_has(&"on PostgreSQL", self.schema, SCHEMA_OF_OPERATIONS)?;
            self.connections.run(async |session| sql::workers(session).await).await
        })
    }

    fn sweep(&self, retention: Retention) -> StorageFuture<'_, u64> {
        Box::pin(async move {
            self.mark_all_runnable_later();
            let swept = self.delete(async |session, limit| {
                sql::group_errors(session, limit).await?;
                sql::sweep(session, retention, limit).await
            });
            let swept = swept.await?;
            Ok(swept + self.delete_over_capacity(retention).await?)
        })
    }

    fn ping(&self) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            let rejected = self.connections.run(sql::ping).await?;
            rejected.map_or(Ok(()), |reason| Err(InboxError::new(InboxErrorKind::ReadOnly, reason)))
        })
    }

    fn lock_worker(&self) -> StorageFuture<'_, Box<dyn Any + Send>> {
        // Any number of workers share the database.
        Box::pin(async {
            self.mark_all_runnable_later();
            Ok(Box::new(()) as Box<dyn Any + Send>)
        })
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
        let asynchronous = self.allow_asynchronous_commit;
        Some(PostgresDedupStore::new(Arc::clone(&self.connections), retention, asynchronous))
    }

    fn transactions(&self) -> Option<Arc<Transactions>> {
        Some(Arc::clone(&self.transactions))
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}
