//! The storage trait, which SQLite and PostgreSQL implement, and the types that pass between it and the worker.

pub(crate) mod admin;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod rows;
mod size_limit;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod statement;
mod sweep_size;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;
use tokio::sync::Notify;

use crate::error::{InboxError, InboxErrorKind};
use crate::event::NewEvent;
use crate::reason::ReasonId;
pub(crate) use admin::StorageAdmin;
use size_limit::{ATTEMPT_BYTES, ROW_BYTES};

pub(crate) type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, InboxError>> + Send + 'a>>;

/// The right of a process to run workers, until the last clone is dropped.
pub(crate) type WorkerGuard = Arc<dyn Any + Send + Sync>;

/// Stores events.
///
/// Each call is atomic, and durable when it returns; replay and purge work in chunks, each of which is. A future may be
/// dropped at any time: its call has then happened completely or not at all.
///
/// Times are the storage's: of a clock that starts from the wall clock when a file is opened, and follows no changes of
/// it afterwards (SQLite), or of the server, which all processes share (PostgreSQL).
pub(crate) trait Storage: StorageAdmin + fmt::Debug + Send + Sync + 'static {
    /// Stores each event whose key is not stored yet, and returns for each whether it is new. The keys of a batch
    /// differ from each other.
    fn insert(&self, events: Arc<[NewEvent]>) -> StorageFuture<'_, Vec<bool>>;

    /// Starts attempts at due events, the longest due first.
    fn claim(&self, request: ClaimRequest) -> StorageFuture<'_, ClaimResponse>;

    /// Extends leases to `ttl` from now. Returns the leases that are still held.
    fn renew(&self, leases: Vec<Lease>, ttl: Duration) -> StorageFuture<'_, Vec<Lease>>;

    /// Records the results of attempts whose leases are still held.
    fn settle(&self, results: Arc<[AttemptResult]>) -> StorageFuture<'_, Settled>;

    /// Deletes a portion of the rows whose retention is over, and returns their number. Portions that take long become
    /// smaller.
    fn sweep(&self, retention: Retention) -> StorageFuture<'_, u64>;

    /// Fails unless the storage can be written to.
    fn ping(&self) -> StorageFuture<'_, ()>;

    /// Acquires the right to run workers in this process. The guard is held by the worker and by each attempt. A
    /// storage for a single process waits up to `worker_lock_timeout`, then fails with [`InboxErrorKind::Locked`].
    fn lock_worker(&self) -> StorageFuture<'_, WorkerGuard>;

    /// Called when a worker has shut down, while it still holds its guard. The worker waits one second at most, and
    /// does not fail when this fails.
    fn checkpoint(&self) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Called once. From then on `wake` is notified when another process has stored an event, if the storage can
    /// tell. Workers poll as well.
    fn subscribe(&self, wake: Arc<Notify>) {
        let _ = wake;
    }

    /// Called after an event was stored, to notify the processes that subscribe.
    fn notify(&self) {}

    /// Number of [`insert`](Self::insert)s that the storage commits concurrently.
    fn max_concurrent_inserts(&self) -> usize {
        1
    }

    /// The store of [`Inbox::dedup_store`](crate::Inbox::dedup_store).
    #[cfg(feature = "postgres")]
    fn dedup_store(&self, retention: Duration) -> Option<postgres::PostgresDedupStore> {
        let _ = retention;
        None
    }

    /// The transactions of a new [`Inbox::transactional_worker`](crate::Inbox::transactional_worker).
    #[cfg(feature = "postgres")]
    fn transactions(&self) -> Option<postgres::Transactions> {
        None
    }
}

/// Wakes the workers of this process. `notify_waiters` wakes all that wait; `notify_one` leaves a permit for one that
/// is about to.
pub(crate) fn wake_all(wake: &Notify) {
    wake.notify_waiters();
    wake.notify_one();
}

/// Opens the storage that `url` names, a path or a postgres:// URL.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(clippy::unused_async, reason = "no storage is compiled in")
)]
pub(crate) async fn open(url: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>, InboxError> {
    let invalid = |text: &str| Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
    if url.is_empty() {
        return invalid("the inbox's URL is empty: give it a path, or a postgres:// URL");
    }
    let lowercase = url.to_ascii_lowercase();
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|start| lowercase.starts_with(start));
    // What is a PostgreSQL URL but for its `://` may contain a password, so the error does not repeat it.
    let misspelt = ["postgres:", "postgresql:", "postgres//", "postgresql//"];
    if !is_postgres && misspelt.iter().any(|start| lowercase.starts_with(start)) {
        return invalid(
            "an inbox is a path or a postgres:// URL, and this is neither; a path that begins so is written with \
             `./` before it",
        );
    }
    if let Some((scheme, _)) = url.split_once("://") {
        if !is_postgres {
            let text = format!("an inbox is a path or a postgres:// URL, and {scheme:?} is neither");
            return invalid(&text);
        }
        #[cfg(feature = "postgres")]
        return Ok(Arc::new(postgres::Postgres::open(url, options).await?));
        #[cfg(not(feature = "postgres"))]
        return invalid("this program was built without the feature `postgres` of smartshape-webhook-inbox");
    }
    // SQLite treats these as URLs or as a database in memory, and stores nothing at that path.
    if ["file:", "sqlite:", ":memory:"].iter().any(|start| url.starts_with(start)) {
        return invalid(&format!("an inbox is a plain path, not {url:?}"));
    }
    let first = url.split(['=', '/', '.']).next().unwrap_or_default().trim();
    let is_keyword = ["host", "hostaddr", "port", "dbname", "user", "password", "service"].contains(&first);
    if is_keyword && url.contains('=') {
        // The text may contain a password, so the error does not repeat it.
        return invalid(
            "an inbox on PostgreSQL is named by a URL, postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
             not by keywords such as host=…; a path that begins so is written with `./` before it",
        );
    }
    #[cfg(feature = "sqlite")]
    return Ok(Arc::new(sqlite::Sqlite::open(url.into(), options).await?));
    #[cfg(not(feature = "sqlite"))]
    {
        let _ = options;
        invalid("this program was built without the feature `sqlite` of smartshape-webhook-inbox")
    }
}

/// The settings that a storage needs. [`Retention`] is passed to each sweep instead.
#[derive(Clone)]
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "some settings concern one storage only")
)]
pub(crate) struct StorageOptions {
    pub(crate) store_timeout: Duration,
    pub(crate) max_size_bytes: u64,
    pub(crate) max_connections: u32,
    pub(crate) allow_asynchronous_commit: bool,
    pub(crate) allow_untested_server: bool,
    pub(crate) read_only: bool,
    pub(crate) worker_lock_timeout: Duration,
}

/// What a worker requests from [`Storage::claim`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimRequest {
    pub(crate) max_events: u32,
    pub(crate) lease_ttl: Duration,
    /// Claims only the earliest open event of each queue, and none of a queue that has a running event.
    pub(crate) ordered: bool,
    /// An event whose lease was lost is dead-lettered after this many attempts.
    pub(crate) max_attempts: u32,
    /// An event is dead-lettered when this many of its leases were lost.
    pub(crate) max_lost_leases: u32,
}

#[derive(Debug, Default)]
pub(crate) struct ClaimResponse {
    pub(crate) attempts: Vec<Attempt>,
    /// Number of events dead-lettered by this claim, because too many of their leases were lost.
    pub(crate) dead_lettered: u64,
    /// Time until the next event is due, if known. Events that are due but cannot be claimed now are not counted.
    pub(crate) next_due: Option<Duration>,
}

/// The right to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) seq: i64,
    /// Fencing token: each attempt at an event has a higher one, and results with an older one are ignored.
    pub(crate) fence: i64,
}

/// An attempt that starts.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) lease: Lease,
    pub(crate) key: DeliveryKey,
    /// Counts from 1.
    pub(crate) number: u32,
    pub(crate) received_at: Timestamp,
    pub(crate) secret_name: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// The exact body; `None` when the storage has lost it, an error's text when it cannot be read now.
    pub(crate) body: Result<Option<Bytes>, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct AttemptResult {
    pub(crate) lease: Lease,
    pub(crate) outcome: AttemptOutcome,
    /// Run time of the handler.
    pub(crate) took: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum AttemptOutcome {
    Completed {
        keep_body: bool,
    },
    Retry {
        after: Duration,
        error: String,
    },
    DeadLetter {
        error: String,
    },
    /// A shutdown cancelled the attempt, so it does not count.
    Released,
}

impl AttemptResult {
    /// The result of an attempt that was cancelled, or not made at all.
    pub(crate) fn released(lease: Lease) -> Self {
        Self { lease, outcome: AttemptOutcome::Released, took: Duration::ZERO }
    }

    /// The error of a failed attempt, which is kept.
    fn error(&self) -> Option<&str> {
        match &self.outcome {
            AttemptOutcome::Retry { error, .. } | AttemptOutcome::DeadLetter { error } => Some(error),
            _ => None,
        }
    }

    /// Whether failed attempts at the event may be recorded, which its completion deletes with its body.
    fn forgets_attempts(&self) -> bool {
        self.lease.fence > 1 && matches!(self.outcome, AttemptOutcome::Completed { keep_body: false })
    }

    /// Whether more failed attempts than are kept may be recorded.
    fn exceeds_attempts(&self) -> bool {
        self.lease.fence > KEPT_ATTEMPTS && self.error().is_some()
    }
}

impl AttemptOutcome {
    /// The reason of a dead letter.
    fn reason(&self) -> Option<ReasonId> {
        match self {
            Self::DeadLetter { error } => Some(ReasonId::from_error(error)),
            _ => None,
        }
    }
}

/// How long completed events are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// For how long duplicates of a completed event are recognized.
    pub(crate) dedup: Duration,
    /// For how long the bodies of completed events are kept.
    pub(crate) bodies: Duration,
    /// Maximum number of completed events. Beyond it the oldest are deleted early.
    pub(crate) dedup_capacity: u64,
}

impl Retention {
    /// Warns that completed events are deleted before their retention is over, if any are.
    fn warn_of_capacity(&self, deleted: u64) {
        if deleted > 0 {
            tracing::warn!(
                deleted,
                dedup_capacity = self.dedup_capacity,
                "the inbox has reached dedup_capacity: the oldest completed events are deleted early, and a late \
                 duplicate of one would be handled again; raise dedup_capacity if the disk has room"
            );
        }
    }
}

/// A century, which stands for every longer time: a clock overflows when `Duration::MAX` is added to it.
pub(crate) const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(crate) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.min(FAR_FUTURE).as_millis()).unwrap_or(i64::MAX)
}

/// The leases of results that were recorded. A lease in neither list was lost before, and its result had no effect.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) recorded: Vec<Lease>,
    /// Leases that are held, of events that another transaction has locked. Their results can be recorded later.
    pub(crate) locked: Vec<Lease>,
}

const LEASE_LOST: &str = "the worker ended, or lost its lease, before the attempt had a result";

/// Maximum number of events that one query for a page or a count examines.
pub(crate) const MAX_EXAMINED: u32 = 50_000;

/// Number of failed attempts kept of an event: the latest.
const KEPT_ATTEMPTS: i64 = 20;

/// Bytes of an event that count against `max_size_bytes`: its body, its row, and its failed attempts. Each of these
/// counts as much as the last error, since reading them all would take long.
fn counted_bytes(least: &str) -> String {
    format!(
        "bytes + {ROW_BYTES} + coalesce((1 + {least}(fence, {KEPT_ATTEMPTS})) * (octet_length(error) + {ATTEMPT_BYTES}), 0)"
    )
}

/// Rejects a schema that a newer version has made unreadable for this one.
fn check_schema(storage: &dyn fmt::Display, needed: i64, ours: i64) -> Result<(), InboxError> {
    if needed <= ours {
        return Ok(());
    }
    let text =
        format!("inbox {storage}: a newer version of this program has changed it: update this one too");
    Err(InboxError::new(InboxErrorKind::NewerSchema, text))
}
