//! Maintains the tables: retention, the size that counts against `max_size_bytes`, the reasons of dead letters.

use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;

use super::json_array;
use super::settle::delete_bodies;
use crate::reason::ReasonId;
use crate::storage::{Retention, counted_bytes, milliseconds};

/// Records the reason of dead letters that have none, which an older version or a lost lease has left. A bounded number.
pub(crate) async fn group_errors(connection: &mut SqliteConnection, limit: u32) -> sqlx::Result<()> {
    let ungrouped: Vec<(i64, Option<String>)> = sqlx::query_as(
        "SELECT seq, error FROM events WHERE state = 3 AND error_group IS NULL ORDER BY error_group, seq LIMIT ?",
    )
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    for (seq, error) in ungrouped {
        sqlx::query("UPDATE events SET error_group = ? WHERE seq = ?")
            .bind(ReasonId::from_error(error.as_deref().unwrap_or_default()).0)
            .bind(seq)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn used_bytes(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let (pages, free, size): (i64, i64, i64) = sqlx::query_as(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from((pages - free) * size).unwrap_or(0))
}

/// Bytes of events that are not completed. Each part is read from a partial index.
pub(crate) async fn uncompleted_bytes(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let size = counted_bytes("min");
    let sql = format!(
        "SELECT coalesce((SELECT sum({size}) FROM events WHERE state <= 1), 0) \
         + coalesce((SELECT sum({size}) FROM events WHERE state = 3), 0)"
    );
    let bytes: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Number of completed events.
pub(crate) async fn completed(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE state = 2").fetch_one(connection).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Numbers of deleted rows.
pub(crate) struct Swept {
    pub(crate) bodies: u64,
    pub(crate) events: u64,
    /// Bodies of events completed up to this time are deleted.
    pub(crate) bodies_until: i64,
    pub(crate) took: Duration,
}

/// Deletes up to `limit` rows of each kind. Bodies of events completed up to `swept_until` were deleted by earlier sweeps.
/// `over_capacity` of the oldest completed events are deleted early.
pub(crate) async fn sweep(
    connection: &mut SqliteConnection,
    now: i64,
    retention: Retention,
    swept_until: i64,
    over_capacity: u64,
    limit: u32,
) -> sqlx::Result<Swept> {
    let started_at = Instant::now();
    group_errors(connection, limit).await?;
    let before = |kept: Duration| now.saturating_sub(milliseconds(kept));
    let bodies_before = before(retention.bodies.min(retention.dedup));
    let bodies = sqlx::query(
        "DELETE FROM bodies WHERE seq IN (SELECT e.seq FROM events e JOIN bodies b ON b.seq = e.seq \
         WHERE e.state = 2 AND e.settled > ?1 AND e.settled <= ?2 LIMIT ?3)",
    )
    .bind(swept_until)
    .bind(bodies_before)
    .bind(limit)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let all_swept = bodies < u64::from(limit);
    // Further events may be completed in this millisecond.
    let bodies_until = if all_swept { swept_until.max(bodies_before.min(now - 1)) } else { swept_until };
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
    Ok(Swept { bodies, events, bodies_until, took: started_at.elapsed() })
}
