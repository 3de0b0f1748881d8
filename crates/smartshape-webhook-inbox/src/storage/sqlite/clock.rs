//! The storage's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{OnFull, Shared, TransactionScope};
use crate::error::InboxError;
use crate::storage::milliseconds;

/// When the newest event was stored, or one was last replayed.
pub(super) const NEWEST: &str = "max(coalesce((SELECT stored FROM events ORDER BY seq DESC LIMIT 1), 0), \
     coalesce((SELECT value FROM meta WHERE name = 'replayed'), 0))";

/// Milliseconds since the file was created. When a process opens the file: the wall clock plus the file's fixed offset,
/// but not before the newest event or replay. From then on: the monotonic clock.
///
/// With the wall clock, retries and retention also count while no process has the file open. With the monotonic clock,
/// later changes of the wall clock affect neither leases nor retries nor retention. With the newest event or replay as
/// the lower bound, a wall clock that was set back delays no new event, and a retry by the time since the newest event
/// at most.
#[derive(Debug)]
pub(super) struct StorageClock {
    base: AtomicI64,
    started_at: Instant,
}

impl StorageClock {
    pub(super) fn starting_at(base: i64) -> Self {
        Self { base: base.into(), started_at: Instant::now() }
    }

    pub(super) fn now(&self) -> i64 {
        self.base.load(Ordering::Relaxed).saturating_add(milliseconds(self.started_at.elapsed()))
    }

    pub(super) fn advance(&self, milliseconds: i64) {
        self.base.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Shared {
    /// Advances our clock to the time of the newest event or replay. Without it, the events that another process stores
    /// or replays would not be due yet if the wall clock has been set back since that process has opened the file.
    pub(super) async fn catch_up(&self, newest: i64) -> Result<(), InboxError> {
        if newest <= self.clock.now() {
            return Ok(());
        }
        let clock = Arc::clone(&self.clock);
        // The clock advances under the lock of the connection, and once the leases are stored: a lease that is renewed
        // at the same time is neither extended twice nor expired at once.
        self.run_write(OnFull::UseBallast, TransactionScope::WithinJob, &move |connection, now| {
            let clock = Arc::clone(&clock);
            Box::pin(async move {
                let advance = newest - now;
                if advance > 0 {
                    sqlx::query("UPDATE events SET due = due + ? WHERE state = 1")
                        .bind(advance)
                        .execute(connection)
                        .await?;
                    clock.advance(advance);
                }
                Ok(())
            })
        })
        .await
    }
}

/// The file's time by the wall clock, no earlier than the newest event. In a read-only file of an older version, which
/// counted the time during which it was open, the time that was recorded last.
pub(super) async fn file_time(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let sql = format!(
        "SELECT max({NEWEST}, coalesce((SELECT ? + value FROM meta WHERE name = 'clock_offset'), \
         (SELECT value FROM meta WHERE name = 'clock')))"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(Timestamp::now().as_millisecond())
        .fetch_one(connection)
        .await
}

/// The time between two times of the clock, at least zero.
pub(super) fn duration_between(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}
