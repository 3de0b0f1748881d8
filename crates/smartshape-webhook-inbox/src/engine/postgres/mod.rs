//! A PostgreSQL server, shared by any number of machines. All times are the server's own.

mod connections;
mod fault;
mod notify;
mod open;
mod sql;
mod transactions;
mod url;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smartshape_webhook::DeliveryKey;
use tokio::sync::{Mutex, Notify};

use super::room::Room;
use super::{Claimed, Engine, EngineFuture, Lease, Retention, Settlement, Verdict, Wanted};
use crate::builder::InboxBuilder;
use crate::error::{InboxError, InboxErrorKind};
use crate::record::{Filter, Record, Stats, StoredDelivery, StoredEvent};
use connections::Connections;
use notify::Notifier;
pub(crate) use transactions::Transactions;

/// Batches that are committed at the same time; more would only make each smaller.
const PARALLEL_INSERTS: u32 = 4;
/// A statement's limit is twice the time that a delivery may take to be stored, so that a slow server is
/// answered 503 before connections are given up; never more than this.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);
/// The limit of what an operator asks for, which may concern all events.
const ADMINISTRATION_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How often all queues are looked through, and all that is remembered is counted.
const CALL_EVERY: Duration = Duration::from_secs(60);
/// Bodies that are read in one statement, unless a single one is longer.
const BODIES: u64 = 8 * 1024 * 1024;

pub(crate) struct Postgres {
    writers: Connections,
    others: Arc<Connections>,
    transactions: Arc<Transactions>,
    parallel_inserts: u32,
    notifier: Notifier,
    allow_asynchronous_commit: bool,
    room: Arc<Room>,
    /// When all heads were last looked through. Locked while they are.
    called: Arc<Mutex<Option<Instant>>>,
    /// When no more was remembered than may be.
    remembered: Mutex<Option<Instant>>,
}

impl Postgres {
    /// Connects, and creates or migrates the tables.
    pub(crate) async fn open(url: &str, settings: &InboxBuilder) -> Result<Self, InboxError> {
        // Three remain: for a listener, for what may take minutes, and for all else.
        let parallel_inserts = settings.connections.saturating_sub(3).clamp(1, PARALLEL_INSERTS);
        let (connect, channel) = open::open(url, settings).await?;
        let others = settings.connections.saturating_sub(parallel_inserts + 1).max(1);
        let others = Arc::new(Connections::new(connect.clone(), others));
        Ok(Self {
            notifier: Notifier::new(Arc::clone(&others), connect.clone(), channel),
            transactions: Arc::new(Transactions::new(connect.clone(), Arc::clone(&others))),
            others,
            writers: Connections::new(connect, parallel_inserts),
            parallel_inserts,
            allow_asynchronous_commit: settings.allow_asynchronous_commit,
            room: Arc::new(Room::new(settings.cap)),
            called: Arc::default(),
            remembered: Mutex::default(),
        })
    }

    pub(crate) fn transactions(&self) -> Arc<Transactions> {
        Arc::clone(&self.transactions)
    }

    /// Takes room for a batch, or says that there is none.
    async fn take_room(&self, records: &[Record]) -> Result<(), InboxError> {
        if self.room.is_count_due() {
            let (room, others) = (Arc::clone(&self.room), Arc::clone(&self.others));
            let _detached = tokio::spawn(async move {
                room.count(others.run_within(ADMINISTRATION_LIMIT, sql::unfinished_bytes)).await
            });
        }
        if self.room.take(records) {
            return Ok(());
        }
        self.room.count(self.others.run(sql::unfinished_bytes)).await?;
        if self.room.take(records) { Ok(()) } else { Err(self.room.full(&"on PostgreSQL")) }
    }

    async fn claim(&self, wanted: Wanted) -> Result<Claimed, InboxError> {
        let sql::Taken { mut claimed, lengths } =
            self.others.run(async |on| sql::claim(on, wanted).await).await?;
        // What was taken counts as lost where nobody attempts it, so nothing that fails from here on fails the claim.
        let mut rivals = Vec::new();
        if !claimed.attempts.is_empty() {
            let attempts = &claimed.attempts;
            match self.others.run(async |on| sql::after_claim(on, wanted, attempts).await).await {
                Ok(after) => (rivals, claimed.next_due) = after,
                Err(error) => {
                    tracing::warn!(%error, "what may be attempted could not be looked up; it is given back where order matters");
                    rivals.extend(attempts.iter().filter(|_| wanted.ordered).map(|attempt| attempt.lease));
                }
            }
        }
        claimed.attempts.retain(|attempt| !rivals.contains(&attempt.lease));
        // Each statement has its own limit, so that many long bodies do not take more than one allows.
        let mut first = 0;
        while first < claimed.attempts.len() {
            let mut bytes = 0;
            let part = claimed.attempts[first..].iter().map(|attempt| attempt.lease.seq).take_while(|seq| {
                bytes += lengths.get(seq).copied().unwrap_or(0);
                bytes <= BODIES
            });
            let count = part.count().max(1);
            let part = &mut claimed.attempts[first..first + count];
            let seqs: Vec<i64> = part.iter().map(|attempt| attempt.lease.seq).collect();
            match self.others.run(async |on| sql::bodies(on, &seqs).await).await {
                Ok(mut bodies) => {
                    part.iter_mut().for_each(|attempt| attempt.body = bodies.remove(&attempt.lease.seq));
                }
                Err(error) => {
                    tracing::warn!(%error, "bodies could not be read; their events are given back");
                    rivals.extend(claimed.attempts.drain(first..).map(|attempt| attempt.lease));
                }
            }
            first += count;
        }
        if !rivals.is_empty() {
            let back = |lease| Settlement { lease, verdict: Verdict::GivenBack };
            if let Err(error) = self.settle_all(&rivals.into_iter().map(back).collect::<Vec<_>>()).await {
                tracing::warn!(%error, "events could not be given back; their leases have to end");
            }
        }
        Ok(claimed)
    }

    async fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<Lease>, InboxError> {
        let (held, over) = self.others.run(async |on| sql::settle(on, settlements).await).await?;
        self.call(&over).await;
        Ok(held)
    }

    async fn call(&self, queues: &[sql::Queue]) {
        transactions::call(&self.others, queues).await;
    }

    /// Takes seconds where hundreds of thousands of files have open events, and nobody waits for it. Once a minute at
    /// most: what it makes up for is rare.
    fn call_all_later(&self) {
        let Ok(mut called) = Arc::clone(&self.called).try_lock_owned() else { return };
        if called.is_some_and(|called| called.elapsed() < CALL_EVERY) {
            return;
        }
        let others = Arc::clone(&self.others);
        let _detached = tokio::spawn(async move {
            *called = Some(Instant::now());
            if let Err(error) = others.run_within(ADMINISTRATION_LIMIT, sql::call_all).await {
                tracing::debug!(%error, "events behind others were not looked through; the next sweep does it");
            }
        });
    }

    /// Forgets what is beyond the capacity. Finding out reads all that is remembered, so that a few more, as each
    /// round of a busy worker brings, wait for the next minute.
    async fn forget(&self, keep: Retention) -> Result<u64, InboxError> {
        let Ok(mut enough) = self.remembered.try_lock() else { return Ok(0) };
        if keep.capacity == u64::MAX || enough.is_some_and(|since| since.elapsed() < CALL_EVERY) {
            return Ok(0);
        }
        let forgotten = self.others.run(async |on| sql::forget(on, keep.capacity).await).await?;
        keep.warn_of_capacity(forgotten);
        *enough = (forgotten < sql::FORGOTTEN_AT_ONCE).then(Instant::now);
        Ok(forgotten)
    }

    async fn administer<T>(
        &self,
        statements: impl AsyncFnOnce(&mut connections::Session) -> sql::Outcome<T>,
    ) -> Result<T, InboxError> {
        self.others.run_within(ADMINISTRATION_LIMIT, statements).await
    }
}

impl Engine for Postgres {
    fn insert(&self, records: Arc<[Record]>) -> EngineFuture<'_, Vec<bool>> {
        Box::pin(async move {
            self.take_room(&records).await?;
            let asynchronous = self.allow_asynchronous_commit;
            let inserted = self.writers.run(async |on| sql::insert(on, &records, asynchronous).await).await?;
            self.notifier.call_later(inserted.behind);
            Ok(inserted.fresh)
        })
    }

    fn claim(&self, wanted: Wanted) -> EngineFuture<'_, Claimed> {
        Box::pin(self.claim(wanted))
    }

    fn renew(&self, leases: Vec<Lease>, lease: Duration) -> EngineFuture<'_, Vec<Lease>> {
        Box::pin(async move { self.others.run(async |on| sql::renew(on, &leases, lease).await).await })
    }

    fn settle(&self, settlements: Arc<[Settlement]>) -> EngineFuture<'_, Vec<Lease>> {
        Box::pin(async move { self.settle_all(&settlements).await })
    }

    fn list(&self, filter: Filter) -> EngineFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move { self.administer(async |on| sql::list(on, &filter).await).await })
    }

    fn show(&self, key: DeliveryKey) -> EngineFuture<'_, Option<StoredDelivery>> {
        Box::pin(async move { self.administer(async |on| sql::show(on, key).await).await })
    }

    fn replay(&self, filter: Filter) -> EngineFuture<'_, u64> {
        Box::pin(async move { self.administer(async |on| sql::replay(on, &filter).await).await })
    }

    fn purge(&self, filter: Filter) -> EngineFuture<'_, u64> {
        Box::pin(async move { self.administer(async |on| sql::purge(on, &filter).await).await })
    }

    fn stats(&self) -> EngineFuture<'_, Stats> {
        Box::pin(self.administer(sql::stats))
    }

    fn sweep(&self, keep: Retention) -> EngineFuture<'_, u64> {
        Box::pin(async move {
            self.call_all_later();
            let swept = self.others.run(async |on| sql::sweep(on, keep).await).await?;
            Ok(swept + self.forget(keep).await?)
        })
    }

    fn ping(&self) -> EngineFuture<'_, ()> {
        Box::pin(async move {
            let rejected = self.others.run(sql::ping).await?;
            rejected.map_or(Ok(()), |reason| Err(InboxError::new(InboxErrorKind::ReadOnly, reason)))
        })
    }

    fn seat(&self) -> EngineFuture<'_, Box<dyn Any + Send>> {
        // Any number of workers share the server.
        Box::pin(async {
            self.call_all_later();
            Ok(Box::new(()) as Box<dyn Any + Send>)
        })
    }

    fn watch(&self, wake: Arc<Notify>) {
        self.notifier.listen(wake);
    }

    fn announce(&self) {
        self.notifier.announce();
    }

    fn parallel_inserts(&self) -> usize {
        self.parallel_inserts as usize
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}
