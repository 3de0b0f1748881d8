//! Whether the workers of this process still reach the database, for the health check.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A worker is stalled when it is this late. A healthy one reaches the database far more often.
const STALLED_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Heartbeat {
    workers: AtomicUsize,
    started: Instant,
    /// When the next beat is expected, in milliseconds after `started`.
    next_beat: AtomicU64,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self { workers: AtomicUsize::new(0), started: Instant::now(), next_beat: AtomicU64::new(0) }
    }

    /// Counts a worker until the returned guard is dropped.
    pub(super) fn start(&self) -> impl Drop + use<'_> {
        struct Guard<'a>(&'a AtomicUsize);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.workers.fetch_add(1, Ordering::Relaxed);
        self.idle_until(Instant::now());
        Guard(&self.workers)
    }

    /// A worker has reached the database, and sleeps until `time`.
    pub(super) fn idle_until(&self, time: Instant) {
        self.next_beat.store(self.milliseconds(time), Ordering::Relaxed);
    }

    /// A worker wakes, maybe earlier than it announced, and has to reach the database now.
    pub(super) fn busy(&self) {
        self.next_beat.fetch_min(self.milliseconds(Instant::now()), Ordering::Relaxed);
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stalled(&self) -> bool {
        let now = self.milliseconds(Instant::now());
        let late = now.saturating_sub(self.next_beat.load(Ordering::Relaxed));
        Duration::from_millis(late) > STALLED_AFTER
    }

    fn milliseconds(&self, time: Instant) -> u64 {
        u64::try_from(time.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
