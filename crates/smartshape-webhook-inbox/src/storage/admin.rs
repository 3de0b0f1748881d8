//! What operators see and do: the part of the storage that no delivery waits for.

use std::fmt;
use std::time::Duration;

use smartshape_webhook::DeliveryKey;

use super::{Storage, StorageFuture};
use crate::activity::{ActivityCounts, MinuteCounts};
use crate::error::{InboxError, InboxErrorKind};
use crate::event::{StoredDelivery, StoredEvent};
use crate::filter::EventFilter;
use crate::operations::{FailedAttempt, Pause, WorkerInfo};
use crate::reason::DeadLetterReason;
use crate::stats::{InboxCounts, InboxStats};

/// The schema from which on dead letters have a reason.
pub(crate) const SCHEMA_OF_REASONS: i64 = 3;
/// The schema from which on activity, failed attempts, workers and pauses are recorded.
pub(crate) const SCHEMA_OF_OPERATIONS: i64 = 4;
/// For how many minutes activity is kept: 14 days.
pub(super) const ACTIVITY_MINUTES: i64 = 14 * 24 * 60;
/// A worker that has not reported for longer is not alive. Workers report every 15 seconds.
pub(super) const WORKER_GONE_AFTER: Duration = Duration::from_secs(60);
/// A worker that has not reported for so many microseconds is forgotten.
pub(super) const WORKER_FORGOTTEN_AFTER: i64 = 24 * 60 * 60 * 1_000_000;
/// Number of events that a replay or a purge changes in one transaction.
const CHUNK: u32 = 1000;

/// The statements of operators. Replays and purges work in chunks, so that deliveries can be stored in between.
pub(crate) trait StorageAdmin {
    /// Fails when the tables are of an older version than `schema`, which only an inbox that was opened read-only has.
    fn check_has(&self, schema: i64) -> Result<(), InboxError> {
        let _ = schema;
        Ok(())
    }

    /// The events that match `filter`, in its order.
    fn list(&self, filter: EventFilter) -> StorageFuture<'_, Vec<StoredEvent>>;

    /// One event with its body.
    fn get(&self, key: DeliveryKey) -> StorageFuture<'_, Option<StoredDelivery>>;

    /// Changes the first events that match the filter, in one transaction. Returns the sequence numbers of the events that it
    /// found, and how many it changed.
    fn change(&self, action: AdminAction, chunk: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)>;

    fn stats(&self) -> StorageFuture<'_, InboxStats>;

    /// Like [`stats`](Self::stats), but counts up to [`MAX_EXAMINED`](super::MAX_EXAMINED) rows of each state.
    fn counts(&self) -> StorageFuture<'_, InboxCounts>;

    /// Sequence number of the event after `skipped` others within the filter's bounds, state and reason, in the filter's
    /// order. Its other conditions do not count.
    fn seq_after(&self, filter: EventFilter, skipped: u32) -> StorageFuture<'_, Option<i64>>;

    /// Number of events that match, by name, the most frequent first; at most 100 names. Reads all that match.
    fn count_by_event(&self, filter: EventFilter) -> StorageFuture<'_, Vec<(String, u64)>>;

    /// The most frequent reasons of dead letters, of which at most [`MAX_EXAMINED`](super::MAX_EXAMINED) are
    /// examined.
    fn reasons(&self, limit: u32) -> StorageFuture<'_, Vec<DeadLetterReason>>;

    /// Adds to the activity of each minute, and deletes minutes older than [`ACTIVITY_MINUTES`].
    fn record_activity(&self, minutes: Vec<MinuteCounts>) -> StorageFuture<'_, ()>;

    /// The activity from the minute `from` on, in slots of `width` minutes, each with its number: `minute / width`.
    fn activity(&self, from: i64, width: i64) -> StorageFuture<'_, Vec<(i64, ActivityCounts)>>;

    /// The failed attempts at an event, the earliest first.
    fn failed_attempts(&self, key: DeliveryKey) -> StorageFuture<'_, Vec<FailedAttempt>>;

    /// Pauses the workers of all processes: from then on no claim returns an event.
    fn pause(&self, by: String) -> StorageFuture<'_, ()>;

    fn resume(&self) -> StorageFuture<'_, ()>;

    fn paused(&self) -> StorageFuture<'_, Option<Pause>>;

    /// Records that a worker is alive, and forgets those that have not reported for long.
    fn report_worker(&self, report: WorkerReport) -> StorageFuture<'_, ()>;

    fn remove_worker(&self, id: i64) -> StorageFuture<'_, ()>;

    /// The workers that are alive, the earliest started first.
    fn workers(&self) -> StorageFuture<'_, Vec<WorkerInfo>>;
}

/// An operator's action on the events that match a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminAction {
    /// Makes dead letters, and completed events whose body is stored, wait again as if they had just arrived.
    Replay,
    /// Completes events that are not running, and deletes their bodies. Works on a full disk.
    Purge,
}

impl dyn Storage + '_ {
    /// Returns the number of events that wait again.
    pub(crate) async fn replay(&self, filter: EventFilter) -> Result<u64, InboxError> {
        self.change_all(AdminAction::Replay, filter).await
    }

    /// Returns the number of bodies deleted.
    pub(crate) async fn purge(&self, filter: EventFilter) -> Result<u64, InboxError> {
        self.change_all(AdminAction::Purge, filter).await
    }

    /// When a chunk fails, the chunks before it stay changed.
    async fn change_all(&self, action: AdminAction, mut filter: EventFilter) -> Result<u64, InboxError> {
        let (mut changed, mut left) = (0, filter.limit);
        loop {
            let limit = left.min(CHUNK);
            let (found, done) = self.change(action, filter.clone().limit(limit)).await?;
            changed += done;
            left -= limit;
            match found.last() {
                Some(last) if left > 0 && found.len() == limit as usize => filter.after = *last,
                _ => return Ok(changed),
            }
        }
    }
}

/// Fails when the schema that was `found` lacks what the one that is `needed` brought.
pub(super) fn check_has(storage: &dyn fmt::Display, found: i64, needed: i64) -> Result<(), InboxError> {
    if found >= needed {
        return Ok(());
    }
    let text = format!(
        "inbox {storage}: it was opened read-only and has the tables of an older version: open it once for writing"
    );
    Err(InboxError::new(InboxErrorKind::OlderSchema, text))
}

/// What a worker reports of itself.
#[derive(Clone, Debug)]
pub(crate) struct WorkerReport {
    pub(crate) id: i64,
    pub(crate) host: String,
    pub(crate) concurrency: u64,
    pub(crate) running: u64,
}
