//! The store's own time.

use std::time::{Duration, Instant};

use super::super::milliseconds;

/// Milliseconds that somebody has had the file open. Begins where the file's last user left off and
/// goes on by the monotonic clock, so that no change of the time of day moves a lease, a retry or
/// the horizon.
#[derive(Debug)]
pub(super) struct StoreClock {
    base: i64,
    born: Instant,
}

impl StoreClock {
    pub(super) fn starting_at(base: i64) -> Self {
        Self { base, born: Instant::now() }
    }

    pub(super) fn now(&self) -> i64 {
        self.base.saturating_add(milliseconds(self.born.elapsed()))
    }
}

/// A difference of two such times; none is negative.
pub(super) fn span(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}
