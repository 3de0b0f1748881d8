//! Whether the workers of this process still reach the database, for the health check.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A worker is stalled when it is this late. A healthy one reaches the database far more often.
const STALLED_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// Has a clone for each worker.
    workers: Arc<()>,
    started_at: Instant,
    /// When the next beat is expected, in milliseconds after `started_at`.
    next_beat: AtomicU64,
}

impl Heartbeat {
    pub(crate) fn new() -> Self {
        Self { workers: Arc::new(()), started_at: Instant::now(), next_beat: AtomicU64::new(0) }
    }

    /// Counts a worker until the returned guard is dropped.
    pub(super) fn start(&self) -> Arc<()> {
        self.idle_until(Instant::now());
        Arc::clone(&self.workers)
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
        Arc::strong_count(&self.workers) - 1
    }

    pub(crate) fn is_stalled(&self) -> bool {
        let now = self.milliseconds(Instant::now());
        let late = now.saturating_sub(self.next_beat.load(Ordering::Relaxed));
        Duration::from_millis(late) > STALLED_AFTER
    }

    fn milliseconds(&self, time: Instant) -> u64 {
        u64::try_from(time.duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX)
    }
}
