//! The storage's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::milliseconds;

/// Milliseconds since the file was created. When a process opens the file: the wall clock plus the file's fixed offset,
/// but not before the newest event. From then on: the monotonic clock.
///
/// With the wall clock, retries and retention also count while no process has the file open. With the monotonic clock,
/// later changes of the wall clock affect neither leases nor retries nor retention. With the newest event as the lower
/// bound, a wall clock that was set back delays no new event, and a retry by the time since the newest event at most.
#[derive(Debug)]
pub(super) struct StorageClock {
    base: AtomicI64,
    started: Instant,
}

impl StorageClock {
    pub(super) fn starting_at(base: i64) -> Self {
        Self { base: base.into(), started: Instant::now() }
    }

    pub(super) fn now(&self) -> i64 {
        self.base.load(Ordering::Relaxed).saturating_add(milliseconds(self.started.elapsed()))
    }

    pub(super) fn advance(&self, milliseconds: i64) {
        self.base.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

/// Milliseconds since 1970 by the wall clock.
pub(super) fn wall_clock() -> i64 {
    Timestamp::now().as_millisecond()
}

/// The time between two times of the clock, at least zero.
pub(super) fn span(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}
