//! The store's own time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::super::milliseconds;

/// Milliseconds that somebody has had the file open. Begins where the file's last user left off and
/// goes on by the monotonic clock, so that no change of the time of day moves a lease, a retry or
/// the horizon.
#[derive(Debug)]
pub(super) struct StoreClock {
    base: AtomicI64,
    born: Instant,
}

impl StoreClock {
    pub(super) fn starting_at(base: i64) -> Self {
        Self { base: base.into(), born: Instant::now() }
    }

    pub(super) fn now(&self) -> i64 {
        self.base.load(Ordering::Relaxed).saturating_add(milliseconds(self.born.elapsed()))
    }

    pub(super) fn leap(&self, leap: i64) {
        self.base.fetch_add(leap, Ordering::Relaxed);
    }
}

/// A difference of two such times; none is negative.
pub(super) fn span(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}
