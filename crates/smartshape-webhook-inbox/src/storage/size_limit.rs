//! Enforces `max_size_bytes`, for both storages.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::error::{InboxError, InboxErrorKind};
use crate::event::NewEvent;

/// Approximate size of a row without its body and its error.
pub(crate) const ROW_BYTES: u64 = 400;
/// Approximate size of a failed attempt without its error.
pub(crate) const ATTEMPT_BYTES: u64 = 60;

/// Minimum interval of counts in the background.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of events that are not completed. Between two counts in the database, bytes of new events are added, and
/// completions are not noticed. Only an event that would be rejected waits for a count.
pub(crate) struct SizeLimit {
    max_bytes: u64,
    used: AtomicU64,
    /// Total of all bytes ever added.
    added: AtomicU64,
    last: Mutex<Option<Count>>,
}

struct Count {
    started_at: Instant,
    ended_at: Instant,
}

impl Count {
    fn took(&self) -> Duration {
        self.ended_at - self.started_at
    }
}

impl SizeLimit {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, used: AtomicU64::new(0), added: AtomicU64::new(0), last: Mutex::default() }
    }

    /// Reserves space for a batch; fails when there is not enough. `uncompleted` counts the bytes of events that are
    /// not completed, in a task of its own: a later batch benefits from a count for which the caller does not wait.
    pub(crate) async fn reserve<F>(
        self: &Arc<Self>,
        events: &[NewEvent],
        storage: &(dyn fmt::Display + Sync),
        uncompleted: impl Fn() -> F,
    ) -> Result<(), InboxError>
    where
        F: Future<Output = Result<u64, InboxError>> + Send + 'static,
    {
        let count = || {
            let (limit, uncompleted) = (Arc::clone(self), uncompleted());
            tokio::spawn(async move { limit.count(uncompleted).await })
        };
        if self.is_count_due() {
            let _detached = count();
        }
        if self.try_reserve(events) {
            return Ok(());
        }
        count().await.map_err(|error| InboxError::new(InboxErrorKind::Unavailable, error))??;
        if self.try_reserve(events) {
            return Ok(());
        }
        let text = format!(
            "inbox {storage}: events that are not completed have reached its maximum size of {} bytes: look why they are \
             not completed, purge them, or raise max_size_bytes",
            self.max_bytes
        );
        Err(InboxError::new(InboxErrorKind::Full, text))
    }

    /// Whether it is time for a count in the background. Counts that take long are less frequent.
    fn is_count_due(&self) -> bool {
        self.last.try_lock().is_ok_and(|last| {
            last.as_ref()
                .is_none_or(|count| count.ended_at.elapsed() >= COUNT_INTERVAL.max(count.took() * 10))
        })
    }

    /// Counts, unless another count began after this was called, or counts would take more than half of the time.
    async fn count(
        &self,
        uncompleted: impl Future<Output = Result<u64, InboxError>>,
    ) -> Result<(), InboxError> {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        let is_fresh = |count: &Count| count.started_at >= called || count.ended_at.elapsed() < count.took();
        if last.as_ref().is_some_and(is_fresh) {
            return Ok(());
        }
        let (started_at, before) = (Instant::now(), self.added.load(Ordering::Relaxed));
        let counted = uncompleted.await;
        if let Ok(bytes) = &counted {
            self.used.store(bytes + (self.added.load(Ordering::Relaxed) - before), Ordering::Relaxed);
        }
        // A failed count is not retried at once either: the server may be overloaded.
        *last = Some(Count { started_at, ended_at: Instant::now() });
        counted.map(drop)
    }

    fn try_reserve(&self, events: &[NewEvent]) -> bool {
        let bytes = events.iter().map(|event| event.body.len() as u64 + ROW_BYTES).sum();
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.max_bytes);
        let fits = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if fits {
            self.added.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }
}
