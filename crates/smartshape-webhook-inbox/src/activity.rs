//! What happened in each minute: counted in memory, and added to the database once a second, so that neither a commit
//! of deliveries nor one of results waits for it. What a process counted in its last second is lost if it is killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::lock::locked;
use crate::storage::Storage;

/// Pause between two writes.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Minutes that are kept in memory while the database fails.
const MAX_PENDING: usize = 60;

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

pub(crate) fn minute_since_epoch(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// Counts what this process does.
#[derive(Debug, Default)]
pub(crate) struct ActivityRecorder {
    pending: Mutex<BTreeMap<i64, ActivityCounts>>,
    recorded: Notify,
}

impl ActivityRecorder {
    /// Writes to `storage` until either is dropped. The task keeps neither: a file is closed with its inbox.
    pub(crate) fn start(storage: &Arc<dyn Storage>) -> Arc<Self> {
        let activity = Arc::new(Self::default());
        let (written, storage) = (Arc::downgrade(&activity), Arc::downgrade(storage));
        let _detached = tokio::spawn(async move {
            while let Some(activity) = written.upgrade() {
                let pending = tokio::time::timeout(FLUSH_INTERVAL, activity.recorded.notified()).await;
                drop(activity);
                if pending.is_err() {
                    continue;
                }
                tokio::time::sleep(FLUSH_INTERVAL).await;
                let (Some(activity), Some(storage)) = (written.upgrade(), storage.upgrade()) else { return };
                activity.flush(&*storage).await;
            }
        });
        activity
    }

    pub(crate) fn record(&self, counts: ActivityCounts) {
        if counts == ActivityCounts::default() {
            return;
        }
        locked(&self.pending).entry(minute_since_epoch(Timestamp::now())).or_default().add(counts);
        self.recorded.notify_one();
    }

    /// Adds what was counted to the database.
    pub(crate) async fn flush(&self, storage: &dyn Storage) {
        let mut pending = std::mem::take(&mut *locked(&self.pending));
        while let Some(first) = pending.first_entry() {
            let recorded = storage.record_activity(*first.key(), *first.get()).await;
            if let Err(error) = recorded {
                tracing::debug!(%error, "the inbox's activity could not be recorded; it is tried again");
                let mut kept = locked(&self.pending);
                for (minute, counts) in pending {
                    kept.entry(minute).or_default().add(counts);
                }
                while kept.len() > MAX_PENDING {
                    kept.pop_first();
                }
                return self.recorded.notify_one();
            }
            first.remove();
        }
        if let Err(error) = storage.delete_old_activity().await {
            tracing::debug!(%error, "old activity of the inbox could not be deleted; it is tried again");
        }
    }
}
