//! Maintains the tables: retention, the size that counts against `max_size_bytes`, the reasons of dead letters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;

use super::settle::delete_bodies;
use super::{OnFull, Shared, TransactionScope, json_array, wal};
use crate::error::InboxError;
use crate::reason::ReasonId;
use crate::storage::{Retention, counted_bytes, milliseconds};

/// The state that a sweep leaves to the next one.
#[derive(Default)]
pub(super) struct Sweeps {
    /// Where the next sweep for bodies starts. Without it, each sweep would scan all completed events.
    bodies_swept_until: Option<i64>,
    /// Number of completed events over `dedup_capacity`, which are still to be deleted.
    over_capacity: u64,
    /// The last portion has deleted rows or left bodies, so another one follows.
    unfinished: bool,
}

impl Shared {
    /// Returns the number of rows deleted, and whether no body is left whose retention is over.
    pub(super) async fn sweep_portion(&self, retention: Retention) -> Result<(u64, bool), InboxError> {
        let mut sweeps = self.sweeps.lock().await;
        // Counting is skipped while sweeps still delete rows.
        if sweeps.over_capacity == 0 && !sweeps.unfinished {
            let capacity = retention.dedup_capacity;
            sweeps.over_capacity =
                self.read(async |connection, _| over_capacity(connection, capacity).await).await?;
            retention.warn_of_capacity(sweeps.over_capacity);
        }
        let (until, over_capacity) = (sweeps.bodies_swept_until.unwrap_or(i64::MIN), sweeps.over_capacity);
        let limit = self.sweep_size.rows();
        let swept = self
            .run_write(OnFull::UseBallast, TransactionScope::AroundJob, &move |connection, now| {
                Box::pin(sweep(connection, now, retention, until, over_capacity, limit))
            })
            .await?;
        self.sweep_size.took(swept.took);
        let rows = swept.bodies + swept.events;
        sweeps.over_capacity = over_capacity.saturating_sub(swept.events);
        sweeps.unfinished = rows > 0 || !swept.all_bodies;
        sweeps.bodies_swept_until = Some(until.max(swept.bodies_until));
        // The ballast is filled in the background, since writing 12 MiB takes time.
        let ballast = self.ballast.clone();
        let _detached = tokio::task::spawn_blocking(move || ballast.fill());
        Ok((rows, swept.all_bodies))
    }

    /// Bytes that count against `max_size_bytes`. Those of each state are read from a partial index.
    pub(super) async fn uncompleted_bytes(self: Arc<Self>) -> Result<u64, InboxError> {
        let size = counted_bytes("min");
        let sql = format!(
            "SELECT coalesce((SELECT sum({size}) FROM events WHERE state <= 1), 0) \
             + coalesce((SELECT sum({size}) FROM events WHERE state = 3), 0)"
        );
        let bytes: i64 = self
            .read(async |connection, _| {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await
            })
            .await?;
        let events = u64::try_from(bytes).unwrap_or(0);
        Ok(events + self.wal.bytes().saturating_sub(wal::RETAINED_BYTES))
    }
}

/// Records the reason of dead letters that have none, which an older version or a lost lease has left. A bounded
/// number.
async fn record_reasons(connection: &mut SqliteConnection, limit: u32) -> sqlx::Result<()> {
    let without_reason: Vec<(i64, Option<String>)> = sqlx::query_as(
        "SELECT seq, error FROM events WHERE state = 3 AND error_group IS NULL ORDER BY error_group, seq LIMIT ?",
    )
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    for (seq, error) in without_reason {
        sqlx::query("UPDATE events SET error_group = ? WHERE seq = ?")
            .bind(ReasonId::from_error(error.as_deref().unwrap_or_default()).0)
            .bind(seq)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Number of completed events over `capacity`. They are counted only if there are more sequence numbers than that.
async fn over_capacity(connection: &mut SqliteConnection, capacity: u64) -> sqlx::Result<u64> {
    let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
    let sql = "SELECT CASE WHEN (SELECT max(seq) FROM events) - (SELECT min(seq) FROM events) >= ?1 \
         THEN (SELECT count(*) FROM events WHERE state = 2) - ?1 ELSE 0 END";
    let over: i64 = sqlx::query_scalar(sql).bind(capacity).fetch_one(connection).await?;
    Ok(u64::try_from(over).unwrap_or(0))
}

/// Numbers of deleted rows.
struct Swept {
    bodies: u64,
    events: u64,
    /// Bodies of events completed up to this time are deleted.
    bodies_until: i64,
    /// No body is left whose retention is over.
    all_bodies: bool,
    took: Duration,
}

/// Deletes up to `limit` rows of each kind. Bodies of events completed up to `swept_until` were deleted by earlier
/// sweeps. The next `limit` events are looked at, whether they have a body or not, since deliveries wait meanwhile.
/// `over_capacity` of the oldest completed events are deleted early.
async fn sweep(
    connection: &mut SqliteConnection,
    now: i64,
    retention: Retention,
    swept_until: i64,
    over_capacity: u64,
    limit: u32,
) -> sqlx::Result<Swept> {
    let started_at = Instant::now();
    record_reasons(connection, limit).await?;
    let before = |kept: Duration| now.saturating_sub(milliseconds(kept));
    let bodies_before = before(retention.bodies.min(retention.dedup));
    let (found, last): (u32, Option<i64>) = sqlx::query_as(
        "SELECT count(*), max(settled) FROM (SELECT settled FROM events \
         WHERE state = 2 AND settled > ?1 AND settled <= ?2 ORDER BY settled LIMIT ?3)",
    )
    .bind(swept_until)
    .bind(bodies_before)
    .bind(limit)
    .fetch_one(&mut *connection)
    .await?;
    let all_bodies = found < limit;
    let until = last.filter(|_| !all_bodies).unwrap_or(bodies_before);
    let bodies = sqlx::query(
        "DELETE FROM bodies WHERE seq IN (SELECT seq FROM events WHERE state = 2 AND settled > ?1 AND settled <= ?2)",
    )
    .bind(swept_until)
    .bind(until)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    // Further events may be completed in this millisecond.
    let bodies_until = swept_until.max(until.min(now - 1));
    let mut events = sqlx::query(
        "DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e WHERE e.state = 2 AND e.settled <= ?1 \
         AND NOT EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq) LIMIT ?2)",
    )
    .bind(before(retention.dedup))
    .bind(limit)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let over_capacity = over_capacity.saturating_sub(events).min(u64::from(limit));
    if over_capacity > 0 {
        let oldest: Vec<i64> =
            sqlx::query_scalar("SELECT seq FROM events WHERE state = 2 ORDER BY settled LIMIT ?")
                .bind(over_capacity.cast_signed())
                .fetch_all(&mut *connection)
                .await?;
        delete_bodies(connection, &oldest).await?;
        events += sqlx::query("DELETE FROM events WHERE seq IN (SELECT value FROM json_each(?))")
            .bind(json_array(&oldest))
            .execute(connection)
            .await?
            .rows_affected();
    }
    Ok(Swept { bodies, events, bodies_until, all_bodies, took: started_at.elapsed() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;
    use crate::it::fixture::{Folder, retention};
    use crate::storage::sqlite::steps::{file_with_events, steps};

    /// The first sweep of a process knows of none before it.
    #[tokio::test]
    async fn portion_of_first_sweep_reads_few_of_many_completed_events() {
        let folder = Folder::new();
        let mut connection = file_with_events(&folder, 2).await;
        let retention = retention(Duration::from_secs(60), Duration::ZERO);
        let (swept, steps) = steps(&mut connection, async |connection| {
            sweep(connection, 20_000, retention, i64::MIN, 0, 100).await
        })
        .await;
        assert_eq!((swept.bodies, swept.events), (0, 0));
        assert!(steps < 10_000, "{steps}");
    }

    #[tokio::test]
    async fn events_below_capacity_are_not_counted() {
        let folder = Folder::new();
        let mut connection = file_with_events(&folder, 2).await;
        for (capacity, over, most) in [(10_000, 0, 1000), (9_999, 1, u64::MAX)] {
            let (counted, steps) =
                steps(&mut connection, async |connection| over_capacity(connection, capacity).await).await;
            assert!(counted == over && steps < most, "{counted}, {steps}");
        }
    }
}
