//! The storage's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::super::milliseconds;

/// Milliseconds during which some process has had the file open. Starts from the time recorded in the file, and
/// continues with the monotonic clock, so that changes of the wall clock affect neither leases nor retries nor
/// retention.
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

/// The time between two times of the clock, at least zero.
pub(super) fn span(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}
