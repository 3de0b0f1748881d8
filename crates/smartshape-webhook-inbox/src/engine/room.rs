//! How much of `max_stored_bytes` is left, on any engine.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::error::{InboxError, InboxErrorKind};
use crate::record::Record;

/// About what a row takes beside its body.
pub(crate) const ROW_BYTES: u64 = 400;

/// How often the store is asked anew what is in it.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Bytes of events that are not completed. What was stored since the last count is added to it, and what was
/// completed since is seen by the next one. Only an event that would be rejected waits for a count.
pub(crate) struct Room {
    cap: u64,
    used: AtomicU64,
    /// All that was ever added.
    added: AtomicU64,
    last: Mutex<Option<Count>>,
}

struct Count {
    began: Instant,
    ended: Instant,
}

impl Count {
    fn took(&self) -> Duration {
        self.ended - self.began
    }
}

impl Room {
    pub(crate) fn new(cap: u64) -> Self {
        Self { cap, used: AtomicU64::new(0), added: AtomicU64::new(0), last: Mutex::default() }
    }

    /// Whether it is time for a count that nobody waits for. One that takes long comes less often.
    pub(crate) fn is_count_due(&self) -> bool {
        self.last.try_lock().is_ok_and(|last| {
            last.as_ref().is_none_or(|count| count.ended.elapsed() >= COUNT_EVERY.max(count.took() * 10))
        })
    }

    /// Counts, unless somebody has begun to since this was called, or counting would take more than half of the time.
    pub(crate) async fn count(
        &self,
        unfinished: impl Future<Output = Result<u64, InboxError>>,
    ) -> Result<(), InboxError> {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        let is_fresh = |count: &Count| count.began >= called || count.ended.elapsed() < count.took();
        if last.as_ref().is_some_and(is_fresh) {
            return Ok(());
        }
        let (began, before) = (Instant::now(), self.added.load(Ordering::Relaxed));
        let counted = unfinished.await;
        if let Ok(bytes) = &counted {
            self.used.store(bytes + (self.added.load(Ordering::Relaxed) - before), Ordering::Relaxed);
        }
        // One that failed is not tried again at once either, on a server that has enough to do.
        *last = Some(Count { began, ended: Instant::now() });
        counted.map(drop)
    }

    /// Takes room for a batch. Says whether there was enough.
    pub(crate) fn take(&self, records: &[Record]) -> bool {
        let bytes = records.iter().map(|record| record.body.len() as u64 + ROW_BYTES).sum();
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.cap);
        let fits = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if fits {
            self.added.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    pub(crate) fn full(&self, store: &dyn fmt::Display) -> InboxError {
        let text = format!(
            "inbox {store}: its size cap of {} bytes is reached by events that are not completed: look why they are not, \
             purge them, or raise max_stored_bytes",
            self.cap
        );
        InboxError::new(InboxErrorKind::Full, text)
    }
}
