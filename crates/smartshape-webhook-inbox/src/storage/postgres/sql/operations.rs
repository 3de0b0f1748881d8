//! Records activity, pauses and workers.

use crate::activity::{ActivityCounts, MinuteCounts};
use crate::operations::{Pause, WORKER_GONE_AFTER, WorkerInfo, WorkerReport};
use crate::storage::ACTIVITY_MINUTES;
use crate::storage::postgres::connections::Session;
use crate::storage::rows::{self, WORKER_FORGOTTEN_AFTER, timestamp_from_micros};

pub(crate) async fn record_activity(session: &mut Session, minutes: &[MinuteCounts]) -> sqlx::Result<()> {
    macro_rules! column {
        ($field:ident) => {
            minutes.iter().map(|(_, counts)| counts.$field).collect::<Vec<_>>()
        };
    }
    let sql = session.tables.sql(
        "WITH old AS (DELETE FROM smartshape_inbox_activity \
           WHERE minute < (extract(epoch FROM now()) / 60)::bigint - $10) \
         INSERT INTO smartshape_inbox_activity AS a SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], \
           $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]) AS g (minute) ORDER BY minute \
         ON CONFLICT (minute) DO UPDATE SET stored = a.stored + excluded.stored, \
           completed = a.completed + excluded.completed, retried = a.retried + excluded.retried, \
           dead_letters = a.dead_letters + excluded.dead_letters, handler_ms = a.handler_ms + excluded.handler_ms, \
           max_handler_ms = greatest(a.max_handler_ms, excluded.max_handler_ms), \
           max_waiting = greatest(a.max_waiting, excluded.max_waiting), \
           max_overdue_ms = greatest(a.max_overdue_ms, excluded.max_overdue_ms)",
    );
    sqlx::query(sql)
        .bind(minutes.iter().map(|(minute, _)| *minute).collect::<Vec<_>>())
        .bind(column!(stored))
        .bind(column!(completed))
        .bind(column!(retried))
        .bind(column!(dead_letters))
        .bind(column!(handler_ms))
        .bind(column!(max_handler_ms))
        .bind(column!(max_waiting))
        .bind(column!(max_overdue_ms))
        .bind(ACTIVITY_MINUTES)
        .execute(&mut session.connection)
        .await
        .map(drop)
}

pub(crate) async fn activity(
    session: &mut Session,
    from: i64,
    width: i64,
) -> sqlx::Result<Vec<(i64, ActivityCounts)>> {
    let sql = session.tables.sql(
        "SELECT minute / $2 AS slot, sum(stored)::bigint AS stored, sum(completed)::bigint AS completed, \
           sum(retried)::bigint AS retried, sum(dead_letters)::bigint AS dead_letters, \
           sum(handler_ms)::bigint AS handler_ms, max(max_handler_ms) AS max_handler_ms, \
           max(max_waiting) AS max_waiting, max(max_overdue_ms) AS max_overdue_ms \
         FROM smartshape_inbox_activity WHERE minute >= $1 GROUP BY 1",
    );
    let found = sqlx::query(sql).bind(from).bind(width).fetch_all(&mut session.connection).await?;
    found.iter().map(rows::activity).collect()
}

pub(crate) async fn pause(session: &mut Session, by: &str) -> sqlx::Result<()> {
    let sql = session.tables.sql(
        "INSERT INTO smartshape_inbox_pause (id, since, paused_by) VALUES (1, now(), $1) ON CONFLICT DO NOTHING",
    );
    sqlx::query(sql).bind(by).execute(&mut session.connection).await.map(drop)
}

pub(crate) async fn resume(session: &mut Session) -> sqlx::Result<()> {
    sqlx::query(session.tables.sql("DELETE FROM smartshape_inbox_pause"))
        .execute(&mut session.connection)
        .await
        .map(drop)
}

pub(crate) async fn paused(session: &mut Session) -> sqlx::Result<Option<Pause>> {
    let sql = session
        .tables
        .sql("SELECT (extract(epoch FROM since) * 1000000)::bigint, paused_by FROM smartshape_inbox_pause");
    let found: Option<(i64, String)> = sqlx::query_as(sql).fetch_optional(&mut session.connection).await?;
    found.map(|(since, by)| Ok(Pause { since: timestamp_from_micros(since)?, by })).transpose()
}

pub(crate) async fn report_worker(session: &mut Session, report: &WorkerReport) -> sqlx::Result<()> {
    let sql = session.tables.sql(
        "WITH old AS (DELETE FROM smartshape_inbox_workers WHERE seen < now() - $7 * interval '1 us') \
         INSERT INTO smartshape_inbox_workers AS w (id, host, pid, version, concurrency, running, started, seen) \
         VALUES ($1, $2, $3, $4, $5, $6, now(), now()) ON CONFLICT (id) DO UPDATE SET running = $6, seen = now()",
    );
    sqlx::query(sql)
        .bind(report.id)
        .bind(&report.host)
        .bind(i64::from(std::process::id()))
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(report.concurrency.cast_signed())
        .bind(report.running.cast_signed())
        .bind(WORKER_FORGOTTEN_AFTER)
        .execute(&mut session.connection)
        .await
        .map(drop)
}

pub(crate) async fn remove_worker(session: &mut Session, id: i64) -> sqlx::Result<()> {
    let sql = session.tables.sql("DELETE FROM smartshape_inbox_workers WHERE id = $1");
    sqlx::query(sql).bind(id).execute(&mut session.connection).await.map(drop)
}

pub(crate) async fn workers(session: &mut Session) -> sqlx::Result<Vec<WorkerInfo>> {
    let sql = session.tables.sql(
        "SELECT host, pid, version, concurrency, running, (extract(epoch FROM started) * 1000000)::bigint AS started, \
           (extract(epoch FROM seen) * 1000000)::bigint AS seen FROM smartshape_inbox_workers \
         WHERE seen >= now() - $1 * interval '1 s' ORDER BY smartshape_inbox_workers.started, id LIMIT 1000",
    );
    let alive = i64::try_from(WORKER_GONE_AFTER.as_secs()).unwrap_or(i64::MAX);
    sqlx::query(sql).bind(alive).fetch_all(&mut session.connection).await?.iter().map(rows::worker).collect()
}
