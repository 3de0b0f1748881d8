//! A PostgreSQL server, shared by any number of machines. All times are the server's own.

mod fault;
mod notify;
mod open;
mod sql;
mod writers;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smartshape_webhook::DeliveryKey;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex, Notify};

use super::{Claimed, Engine, EngineFuture, Lease, Retention, Settlement, Wanted};
use crate::builder::InboxBuilder;
use crate::error::{InboxError, InboxErrorKind};
use crate::record::{Filter, Record, Stats, StoredDelivery, StoredEvent};
use notify::Notifier;
pub(crate) use sql::complete_within;
use writers::Writers;

/// Batches that are committed at the same time; more would only make each smaller.
const PARALLEL_INSERTS: u32 = 4;
/// How long a statement may wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How often the tables' size is looked at.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Postgres {
    pool: PgPool,
    writers: Writers,
    parallel_inserts: u32,
    notifier: Notifier,
    cap: u64,
    measured_at: Mutex<Option<Instant>>,
    used: AtomicU64,
}

impl Postgres {
    /// Connects, and creates or migrates the tables.
    pub(crate) async fn open(url: &str, settings: &InboxBuilder) -> Result<Self, InboxError> {
        // Two remain: for a listener, and for all else.
        let parallel_inserts = settings.connections.saturating_sub(2).clamp(1, PARALLEL_INSERTS);
        let (pool, channel) = open::open(url, settings, settings.connections - parallel_inserts).await?;
        let options = PgConnectOptions::clone(&pool.connect_options());
        Ok(Self {
            notifier: Notifier::new(pool.clone(), channel),
            pool,
            writers: Writers::new(options, parallel_inserts as usize),
            parallel_inserts,
            cap: settings.cap,
            measured_at: Mutex::new(None),
            used: AtomicU64::new(0),
        })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    async fn check_room(&self, bytes: u64) -> Result<(), InboxError> {
        let mut measured_at = self.measured_at.lock().await;
        if measured_at.is_none_or(|time| time.elapsed() >= MEASURE_EVERY) {
            let mut used = sql::used_bytes(&self.pool).await.map_err(fault::of)?;
            if used + bytes > self.cap {
                // Tables keep the space of what was deleted, and fill it again.
                used = sql::live_bytes(&self.pool).await.map_err(fault::of)?;
            }
            self.used.store(used, Ordering::Relaxed);
            *measured_at = Some(Instant::now());
        }
        drop(measured_at);
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.cap {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            let text = format!(
                "the inbox's size cap of {} bytes is reached: purge it, raise the cap, or look why events are not worked off",
                self.cap
            );
            return Err(InboxError::new(InboxErrorKind::Full, text));
        }
        Ok(())
    }
}

impl Engine for Postgres {
    fn insert(&self, records: Arc<[Record]>) -> EngineFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let bytes = records.iter().map(|record| record.body.len() as u64 + sql::ROW_BYTES).sum();
            self.check_room(bytes).await?;
            let mut writer = self.writers.take().await.map_err(fault::of)?;
            let fresh = sql::insert(&mut writer.connection, &records).await.map_err(fault::of)?;
            self.writers.give_back(writer);
            Ok(fresh)
        })
    }

    fn claim(&self, wanted: Wanted) -> EngineFuture<'_, Claimed> {
        Box::pin(async move { sql::claim(&self.pool, wanted).await.map_err(fault::of) })
    }

    fn renew(&self, leases: Vec<Lease>, lease: Duration) -> EngineFuture<'_, Vec<Lease>> {
        Box::pin(async move { sql::renew(&self.pool, &leases, lease).await.map_err(fault::of) })
    }

    fn settle(&self, settlements: Arc<[Settlement]>) -> EngineFuture<'_, Vec<Lease>> {
        Box::pin(async move { sql::settle(&self.pool, &settlements).await.map_err(fault::of) })
    }

    fn list(&self, filter: Filter) -> EngineFuture<'_, Vec<StoredEvent>> {
        Box::pin(async move { sql::list(&self.pool, &filter).await.map_err(fault::of) })
    }

    fn show(&self, key: DeliveryKey) -> EngineFuture<'_, Option<StoredDelivery>> {
        Box::pin(async move { sql::show(&self.pool, key).await.map_err(fault::of) })
    }

    fn replay(&self, filter: Filter) -> EngineFuture<'_, u64> {
        Box::pin(async move { sql::replay(&self.pool, &filter).await.map_err(fault::of) })
    }

    fn purge(&self, filter: Filter) -> EngineFuture<'_, u64> {
        Box::pin(async move { sql::purge(&self.pool, &filter).await.map_err(fault::of) })
    }

    fn stats(&self) -> EngineFuture<'_, Stats> {
        Box::pin(async move { sql::stats(&self.pool).await.map_err(fault::of) })
    }

    fn sweep(&self, keep: Retention) -> EngineFuture<'_, u64> {
        Box::pin(async move { sql::sweep(&self.pool, keep).await.map_err(fault::of) })
    }

    fn ping(&self) -> EngineFuture<'_, ()> {
        Box::pin(async move { sql::ping(&self.pool).await.map_err(fault::of) })
    }

    fn seat(&self) -> EngineFuture<'_, Box<dyn Any + Send>> {
        // Any number of workers share the server.
        Box::pin(async { Ok(Box::new(()) as Box<dyn Any + Send>) })
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
