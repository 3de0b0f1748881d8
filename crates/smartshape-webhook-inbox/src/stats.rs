//! Numbers of stored events, and the inbox's size.

use std::time::Duration;

/// Number of events by state, and the inbox's size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxStats {
    /// Number of events that wait for an attempt.
    pub waiting: u64,
    /// Number of events that a worker is handling.
    pub running: u64,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Age of the oldest waiting event, since it was stored.
    pub oldest_waiting: Option<Duration>,
    /// Bytes that the inbox takes on the disk.
    pub disk_bytes: u64,
}

/// Number of events that match, by the name of the event, the most frequent first. See
/// [`Inbox::count_by_event`](crate::Inbox::count_by_event).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountByEvent {
    /// At most 100 names.
    pub names: Vec<(String, u64)>,
    /// Number of events of these names: [`Count::AtLeast`] when more events match than were examined.
    pub total: Count,
}

/// A number of events that was counted up to a limit, so that counting takes milliseconds however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// All were counted.
    Exactly(u64),
    /// Counting stopped at this number.
    AtLeast(u64),
}

impl Count {
    /// The number that was counted.
    #[must_use]
    pub fn get(self) -> u64 {
        match self {
            Self::Exactly(count) | Self::AtLeast(count) => count,
        }
    }
}

impl Default for Count {
    fn default() -> Self {
        Self::Exactly(0)
    }
}

/// The number, or `≥` and the number.
impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(count) => write!(f, "{count}"),
            Self::AtLeast(count) => write!(f, "≥ {count}"),
        }
    }
}

/// Number of events by state, counted within a limit. Unlike [`InboxStats`] it takes milliseconds however many events
/// wait or are dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxCounts {
    /// Number of events that wait for an attempt, including [`retrying`](Self::retrying).
    pub waiting: Count,
    /// Number of waiting events that are not due yet, because an attempt has failed.
    pub retrying: Count,
    /// Number of events that a worker is handling.
    pub running: Count,
    /// Number of dead letters.
    pub dead_letters: Count,
    /// Estimated number of all stored events.
    pub stored: u64,
    /// How long the longest due event has waited since it was due; `None` when no event is due. A replayed event is due
    /// from its replay on.
    pub overdue: Option<Duration>,
    /// Bytes that the inbox takes on the disk.
    pub disk_bytes: u64,
}
