//! What a store must be able to do.

#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod room;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rows;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;
use tokio::sync::Notify;

use crate::error::InboxError;
use crate::record::{Filter, Record, Stats, StoredDelivery, StoredEvent};

/// The future that an [`Engine`] returns.
pub type EngineFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, InboxError>> + Send + 'a>>;

/// A place where events are kept. SQLite and PostgreSQL come with this crate; another one passes
/// the tests of the feature `suite`.
///
/// Each call is atomic, and durable when it returns. A future that is dropped may or may not have
/// had its effect, and never half of it. All times are the engine's own, by a clock that no change
/// of the time of day disturbs, or by the one clock that all users of the store share.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Keeps each record whose key is not kept yet. Tells for each whether it is new. The keys
    /// differ from each other.
    fn insert(&self, records: Arc<[Record]>) -> EngineFuture<'_, Vec<bool>>;

    /// Records an attempt at events that are due, those first that are due for longest.
    fn claim(&self, wanted: Wanted) -> EngineFuture<'_, Claimed>;

    /// Lets leases last for `lease` from now. Returns those that are still held.
    fn renew(&self, leases: Vec<Lease>, lease: Duration) -> EngineFuture<'_, Vec<Lease>>;

    /// Ends attempts. Returns the leases that were still held: only those had an effect.
    fn settle(&self, settlements: Arc<[Settlement]>) -> EngineFuture<'_, Vec<Lease>>;

    /// The events that `filter` means, in the order of arrival.
    fn list(&self, filter: Filter) -> EngineFuture<'_, Vec<StoredEvent>>;

    /// One event with its body.
    fn show(&self, key: DeliveryKey) -> EngineFuture<'_, Option<StoredDelivery>>;

    /// Lets dead events, and completed ones whose body is there, wait anew, as though they had
    /// just arrived. Returns how many.
    fn replay(&self, filter: Filter) -> EngineFuture<'_, u64>;

    /// Completes events that are not at work, and deletes their bodies. Returns how many bodies
    /// were deleted. Works on a full disk.
    fn purge(&self, filter: Filter) -> EngineFuture<'_, u64>;

    /// How full it is.
    fn stats(&self) -> EngineFuture<'_, Stats>;

    /// Deletes what has been kept long enough, a bounded amount at a time. Returns how many rows.
    fn sweep(&self, keep: Retention) -> EngineFuture<'_, u64>;

    /// Whether it can be reached and written to.
    fn ping(&self) -> EngineFuture<'_, ()>;

    /// Called before a worker starts; the returned value is dropped when it has ended. An engine
    /// for one worker process waits here until the other one has ended, or says
    /// [`Locked`](crate::InboxErrorKind::Locked).
    fn seat(&self) -> EngineFuture<'_, Box<dyn Any + Send>>;

    /// Called when a worker has ended in order, before its seat is given up: for what is to be put in
    /// order then. Its failure is no failure of the worker, which waits for it for a second at most.
    fn tidy(&self) -> EngineFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Called once: from now on, notify `wake` when another process has stored something, if that
    /// can be known. Workers also look by themselves from time to time.
    fn watch(&self, wake: Arc<Notify>) {
        let _ = wake;
    }

    /// Called after something was stored, for other processes that watch.
    fn announce(&self) {}

    /// How many [`insert`](Self::insert)s at once are of use.
    fn parallel_inserts(&self) -> usize {
        1
    }
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Wanted {
    /// At most this many events.
    pub events: u32,
    /// How long the leases last.
    pub lease: Duration,
    /// Whether only the earliest open event of each file may be taken, and none of a file that
    /// another one is at work for.
    pub ordered: bool,
    /// An event whose last lease was lost is given up after this many attempts.
    pub max_attempts: u32,
    /// An event is given up when this many leases were lost.
    pub max_lost_leases: u32,
}

/// What a worker gets.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The attempts that begin.
    pub attempts: Vec<Attempt>,
    /// Events that were given up, because their workers ended too often.
    pub buried: u64,
    /// When the next event is due, if that is known; events that are due and cannot be taken now are
    /// left out. More may arrive before.
    pub next_due: Option<Duration>,
}

/// The right to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The event's sequence number.
    pub seq: i64,
    /// Counts the attempts at the event, in the store: of an older lease nothing is accepted.
    pub fence: i64,
}

/// An attempt that begins.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The right to it.
    pub lease: Lease,
    /// The event's key.
    pub key: DeliveryKey,
    /// Its number, from 1.
    pub number: u32,
    /// When the delivery was received.
    pub received_at: Timestamp,
    /// The name of the secret that the token matched.
    pub secret_name: Option<String>,
    /// The W3C trace context that came with the request.
    pub traceparent: Option<String>,
    /// The exact body; `None` when the store has lost it.
    pub body: Option<Bytes>,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The right to the attempt.
    pub lease: Lease,
    /// What becomes of the event.
    pub verdict: Verdict,
}

/// What becomes of an event after an attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It was handled. The body is deleted, unless it is to be kept.
    Completed {
        /// Whether the body stays.
        keep_body: bool,
    },
    /// It is tried again after this time.
    Retry {
        /// Not before this time has passed.
        after: Duration,
        /// Why the attempt failed; at most 2000 characters, without NUL.
        error: String,
    },
    /// It is given up.
    Dead {
        /// Why; as for a retry.
        error: String,
    },
    /// The attempt does not count: a shutdown ended it.
    GivenBack,
}

/// How long what is completed is kept.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Retention {
    /// Tombstones, by which duplicates are known.
    pub tombstones: Duration,
    /// Bodies of completed events.
    pub bodies: Duration,
    /// How many completed events are remembered at most, whatever the time; the oldest are forgotten first.
    pub capacity: u64,
}

impl Retention {
    /// Tombstones for one time, bodies for another, and any number of them.
    #[must_use]
    pub fn new(tombstones: Duration, bodies: Duration) -> Self {
        Self { tombstones, bodies, capacity: u64::MAX }
    }

    /// Says that completed events are forgotten before their time, if any are.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn warn_of_capacity(&self, forgotten: u64) {
        if forgotten > 0 {
            tracing::warn!(
                forgotten,
                capacity = self.capacity,
                "the inbox remembers as many completed events as it may: the oldest are forgotten early, and a late \
                 duplicate of such a one would be handled again; raise dedup_capacity if the disk has room"
            );
        }
    }
}

impl Wanted {
    /// This many events, without order; given up after 10 attempts or 3 lost leases.
    #[must_use]
    pub fn new(events: u32, lease: Duration) -> Self {
        Self { events, lease, ordered: false, max_attempts: 10, max_lost_leases: 3 }
    }
}

/// As good as for ever. Longer times would overflow clocks.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How many rows a sweep deletes at a time.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const SWEEP_ROWS: i64 = 1000;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.min(LONGEST).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
const LEASE_LOST: &str = "the worker ended, or lost its lease, before the attempt had a result";

/// Whether a store of a newer schema can still be used by this version.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn check_schema(store: &dyn fmt::Display, needed: i64, ours: i64) -> Result<(), InboxError> {
    if needed <= ours {
        return Ok(());
    }
    let text = format!("inbox {store}: a newer version of this program has changed it: update this one too");
    Err(InboxError::new(crate::InboxErrorKind::Newer, text))
}
