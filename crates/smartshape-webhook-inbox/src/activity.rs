//! What happened in each minute, as it is stored.

use std::time::Duration;

use jiff::Timestamp;

/// Counts of one minute, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActivityCounts {
    pub(crate) stored: i64,
    pub(crate) completed: i64,
    pub(crate) retried: i64,
    pub(crate) dead_letters: i64,
    pub(crate) handler_ms: i64,
    pub(crate) max_handler_ms: i64,
    pub(crate) max_waiting: i64,
    pub(crate) max_overdue_ms: i64,
}

impl ActivityCounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.completed += other.completed;
        self.retried += other.retried;
        self.dead_letters += other.dead_letters;
        self.handler_ms = self.handler_ms.saturating_add(other.handler_ms);
        self.max_handler_ms = self.max_handler_ms.max(other.max_handler_ms);
        self.max_waiting = self.max_waiting.max(other.max_waiting);
        self.max_overdue_ms = self.max_overdue_ms.max(other.max_overdue_ms);
    }
}

/// A minute since 1970, and its counts.
pub(crate) type MinuteCounts = (i64, ActivityCounts);

pub(crate) fn minute_since_epoch(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// What happened in a period; made by [`Inbox::activity`](crate::Inbox::activity).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActivitySlot {
    /// When the period begins.
    pub start: Timestamp,
    /// Number of new deliveries.
    pub stored: u64,
    /// Number of events that a handler completed.
    pub completed: u64,
    /// Number of failed attempts that are retried.
    pub retried: u64,
    /// Number of events that became dead letters.
    pub dead_letters: u64,
    /// Time spent in handlers, whatever their outcome.
    pub handler_time: Duration,
    /// The longest run time of a handler.
    pub max_handler_time: Duration,
    /// The highest number of waiting events, sampled every 15 seconds while a worker runs.
    pub max_waiting: u64,
    /// The longest time that an event waited after it was due, sampled as often.
    pub max_overdue: Duration,
}
