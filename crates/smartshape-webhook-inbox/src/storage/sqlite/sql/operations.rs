//! Records activity, pauses and workers.

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;

use crate::activity::{ActivityCounts, MinuteCounts};
use crate::operations::{Pause, WORKER_GONE_AFTER, WorkerInfo, WorkerReport};
use crate::storage::ACTIVITY_MINUTES;
use crate::storage::rows::{self, WORKER_FORGOTTEN_AFTER, timestamp_from_micros};

pub(crate) async fn record_activity(
    connection: &mut SqliteConnection,
    minutes: &[MinuteCounts],
) -> sqlx::Result<()> {
    let now = Timestamp::now().as_second().div_euclid(60);
    sqlx::query("DELETE FROM activity WHERE minute < ?")
        .bind(now - ACTIVITY_MINUTES)
        .execute(&mut *connection)
        .await?;
    for (minute, n) in minutes {
        sqlx::query(
            "INSERT INTO activity VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (minute) DO UPDATE SET \
             stored = stored + ?2, completed = completed + ?3, retried = retried + ?4, dead_letters = dead_letters + ?5, \
             handler_ms = handler_ms + ?6, max_handler_ms = max(max_handler_ms, ?7), \
             max_waiting = max(max_waiting, ?8), max_overdue_ms = max(max_overdue_ms, ?9)",
        )
        .bind(minute)
        .bind(n.stored)
        .bind(n.completed)
        .bind(n.retried)
        .bind(n.dead_letters)
        .bind(n.handler_ms)
        .bind(n.max_handler_ms)
        .bind(n.max_waiting)
        .bind(n.max_overdue_ms)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(crate) async fn activity(
    connection: &mut SqliteConnection,
    from: i64,
    width: i64,
) -> sqlx::Result<Vec<(i64, ActivityCounts)>> {
    let sql = "SELECT minute / ?2 AS slot, sum(stored) AS stored, sum(completed) AS completed, sum(retried) AS retried, \
         sum(dead_letters) AS dead_letters, sum(handler_ms) AS handler_ms, max(max_handler_ms) AS max_handler_ms, \
         max(max_waiting) AS max_waiting, max(max_overdue_ms) AS max_overdue_ms \
         FROM activity WHERE minute >= ?1 GROUP BY 1";
    sqlx::query(sql).bind(from).bind(width).fetch_all(connection).await?.iter().map(rows::activity).collect()
}

pub(crate) async fn pause(connection: &mut SqliteConnection, by: &str) -> sqlx::Result<()> {
    sqlx::query("INSERT OR IGNORE INTO pause (id, since, paused_by) VALUES (1, ?, ?)")
        .bind(Timestamp::now().as_microsecond())
        .bind(by)
        .execute(connection)
        .await
        .map(drop)
}

pub(crate) async fn resume(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM pause").execute(connection).await.map(drop)
}

pub(crate) async fn paused(connection: &mut SqliteConnection) -> sqlx::Result<Option<Pause>> {
    let found: Option<(i64, String)> =
        sqlx::query_as("SELECT since, paused_by FROM pause").fetch_optional(connection).await?;
    found.map(|(since, by)| Ok(Pause { since: timestamp_from_micros(since)?, by })).transpose()
}

pub(crate) async fn report_worker(
    connection: &mut SqliteConnection,
    report: &WorkerReport,
) -> sqlx::Result<()> {
    let now = Timestamp::now().as_microsecond();
    sqlx::query("DELETE FROM workers WHERE seen < ?")
        .bind(now - WORKER_FORGOTTEN_AFTER)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO workers (id, host, pid, version, concurrency, running, started, seen) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT (id) DO UPDATE SET running = ?6, seen = ?7",
    )
    .bind(report.id)
    .bind(&report.host)
    .bind(i64::from(std::process::id()))
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(report.concurrency.cast_signed())
    .bind(report.running.cast_signed())
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
}

pub(crate) async fn remove_worker(connection: &mut SqliteConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM workers WHERE id = ?").bind(id).execute(connection).await.map(drop)
}

pub(crate) async fn workers(connection: &mut SqliteConnection) -> sqlx::Result<Vec<WorkerInfo>> {
    let alive_from =
        Timestamp::now().as_microsecond() - i64::try_from(WORKER_GONE_AFTER.as_micros()).unwrap_or(i64::MAX);
    let sql = "SELECT host, pid, version, concurrency, running, started, seen FROM workers WHERE seen >= ? \
         ORDER BY started, id LIMIT 1000";
    sqlx::query(sql).bind(alive_from).fetch_all(connection).await?.iter().map(rows::worker).collect()
}
