//! The statements of operators: pages, counts, activity, pauses and workers.

use std::collections::HashMap;

use bytes::Bytes;
use smartshape_webhook::DeliveryKey;
use sqlx::QueryBuilder;

use super::connections::{Session, retry_on_conflict};
use super::{ADMIN_TIMEOUT, Postgres, duration_from_secs, replay};
use crate::activity::{ActivityCounts, MinuteCounts};
use crate::error::InboxError;
use crate::event::{StoredDelivery, StoredEvent};
use crate::filter::EventFilter;
use crate::operations::{FailedAttempt, Pause, WorkerInfo};
use crate::reason::DeadLetterReason;
use crate::stats::{InboxCounts, InboxStats};
use crate::storage::admin::{
    ACTIVITY_MINUTES, AdminAction, StorageAdmin, WORKER_FORGOTTEN_AFTER, WORKER_GONE_AFTER, WorkerReport,
    check_has,
};
use crate::storage::rows::{self, CountedRows, timestamp_from_micros};
use crate::storage::{MAX_EXAMINED, StorageFuture};

/// All columns, integers with 64 bits.
const COLUMNS: &str = "SELECT e.seq, e.key, e.state::bigint AS state, e.event, e.file, e.uuid, e.owner, e.secret, e.triggered, \
     e.received, e.bytes, e.attempts::bigint AS attempts, e.lost::bigint AS lost, e.error FROM smartshape_inbox_events e WHERE ";

impl StorageAdmin for Postgres {
    fn check_has(&self, schema: i64) -> Result<(), InboxError> {
        check_has(&"on PostgreSQL", self.schema, schema)
    }

    fn list(&self, filter: EventFilter) -> StorageFuture<'_, Vec<StoredEvent>> {
        Box::pin(
            self.connections.run_within(ADMIN_TIMEOUT, async move |session| list(session, &filter).await),
        )
    }

    fn get(&self, key: DeliveryKey) -> StorageFuture<'_, Option<StoredDelivery>> {
        Box::pin(self.connections.run_within(ADMIN_TIMEOUT, async move |session| {
            let filter = EventFilter::default().key(key);
            let Some(event) = list(session, &filter).await?.pop() else { return Ok(None) };
            let body = bodies(session, &[event.seq]).await?.remove(&event.seq);
            let wait = session.tables.sql(
                "SELECT (extract(epoch FROM due - clock_timestamp()) * 1000)::bigint FROM smartshape_inbox_events \
                 WHERE seq = $1 AND state = 0",
            );
            let wait: Option<i64> =
                sqlx::query_scalar(wait).bind(event.seq).fetch_optional(&mut session.connection).await?;
            Ok(Some(StoredDelivery { event, body, next_attempt_at: wait.map(rows::from_now) }))
        }))
    }

    fn change(&self, action: AdminAction, chunk: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)> {
        Box::pin(retry_on_conflict(move || {
            let chunk = chunk.clone();
            self.connections.run_within(ADMIN_TIMEOUT, async move |session| match action {
                AdminAction::Replay => replay::replay(session, &chunk).await,
                AdminAction::Purge => replay::purge(session, &chunk).await,
            })
        }))
    }

    fn stats(&self) -> StorageFuture<'_, InboxStats> {
        Box::pin(self.connections.run_within(ADMIN_TIMEOUT, async |session| {
            let sql = session.tables.sql(
                "SELECT count(*) FILTER (WHERE state = 0), count(*), \
                   extract(epoch FROM clock_timestamp() - min(stored) FILTER (WHERE state = 0))::float8, \
                   (SELECT count(*) FROM smartshape_inbox_events WHERE state = 3) \
                 FROM smartshape_inbox_events WHERE state <= 1",
            );
            let (waiting, open, oldest, dead_letters): (i64, i64, Option<f64>, i64) =
                sqlx::query_as(sql).fetch_one(&mut session.connection).await?;
            let disk_bytes = used_bytes(session).await?;
            Ok(rows::stats((waiting, open, dead_letters), oldest.map(duration_from_secs), disk_bytes))
        }))
    }

    fn counts(&self) -> StorageFuture<'_, InboxCounts> {
        Box::pin(self.connections.run(async |session| {
            let disk_bytes = used_bytes(session).await?;
            let sql = session.tables.sql(
                "SELECT count(*), count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 0 AND due > now()), \
                   extract(epoch FROM clock_timestamp() - min(due) FILTER (WHERE state = 0))::float8 \
                 FROM (SELECT state, due FROM smartshape_inbox_events WHERE state <= 1 ORDER BY due LIMIT $1) o",
            );
            let (open, waiting, retrying, due): (i64, i64, i64, Option<f64>) =
                sqlx::query_as(sql).bind(i64::from(MAX_EXAMINED)).fetch_one(&mut session.connection).await?;
            // The server's estimate, or for a table that was never vacuumed the range of the numbers, which has gaps.
            let sql = session.tables.sql(
                "SELECT (SELECT count(*) FROM (SELECT 1 FROM smartshape_inbox_events WHERE state = 3 LIMIT $1) d), \
                   coalesce((SELECT nullif(greatest(c.reltuples, 0), 0)::bigint FROM pg_class c \
                       WHERE c.oid = 'smartshape_inbox_events'::regclass), \
                     (SELECT max(seq) - min(seq) + 1 FROM smartshape_inbox_events), 0)",
            );
            let (dead_letters, stored): (i64, i64) =
                sqlx::query_as(sql).bind(i64::from(MAX_EXAMINED)).fetch_one(&mut session.connection).await?;
            let rows = CountedRows { open, waiting, retrying, dead_letters, stored };
            Ok(rows.into_counts(due.map(duration_from_secs), disk_bytes))
        }))
    }

    fn seq_after(&self, filter: EventFilter, skipped: u32) -> StorageFuture<'_, Option<i64>> {
        Box::pin(self.connections.run(async move |session| {
            let start = session.tables.sql("SELECT e.seq FROM smartshape_inbox_events e WHERE ").0;
            let mut query = QueryBuilder::new(start);
            rows::push_seq_after(&mut query, &filter, skipped);
            query.build_query_scalar().fetch_optional(&mut session.connection).await
        }))
    }

    fn count_by_event(&self, filter: EventFilter) -> StorageFuture<'_, Vec<(String, u64)>> {
        Box::pin(self.connections.run(async move |session| {
            let start =
                session.tables.sql("SELECT e.event, count(*) FROM smartshape_inbox_events e WHERE ").0;
            let mut query = QueryBuilder::new(start);
            rows::push_conditions(&mut query, &filter);
            query.push(rows::BY_EVENT);
            let counted = query.build_query_as().fetch_all(&mut session.connection).await?;
            Ok(rows::by_event(counted))
        }))
    }

    fn reasons(&self, limit: u32) -> StorageFuture<'_, Vec<DeadLetterReason>> {
        Box::pin(self.connections.run(async move |session| {
            let sql = session.tables.sql(
                "SELECT error_group, count(*), max(seq) FROM (SELECT error_group, seq FROM smartshape_inbox_events \
                 WHERE state = 3 ORDER BY error_group, seq LIMIT $1) d GROUP BY error_group ORDER BY 2 DESC, 3 DESC LIMIT $2",
            );
            let counted: Vec<(Option<i64>, i64, i64)> = sqlx::query_as(sql)
                .bind(i64::from(MAX_EXAMINED))
                .bind(i64::from(limit))
                .fetch_all(&mut session.connection)
                .await?;
            let seqs: Vec<i64> = counted.iter().map(|(.., last)| *last).collect();
            let sql = session.tables.sql(&format!("{COLUMNS} e.seq = ANY ($1)"));
            let last = sqlx::query(sql).bind(seqs).fetch_all(&mut session.connection).await?;
            Ok(rows::reasons(counted, &last.iter().map(rows::stored).collect::<sqlx::Result<Vec<_>>>()?))
        }))
    }

    fn record_activity(&self, minutes: Vec<MinuteCounts>) -> StorageFuture<'_, ()> {
        Box::pin(self.connections.run(async move |session| {
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
        }))
    }

    fn activity(&self, from: i64, width: i64) -> StorageFuture<'_, Vec<(i64, ActivityCounts)>> {
        Box::pin(self.connections.run(async move |session| {
            let sql = session.tables.sql(
                "SELECT minute / $2, sum(stored)::bigint, sum(completed)::bigint, sum(retried)::bigint, \
                   sum(dead_letters)::bigint, sum(handler_ms)::bigint, max(max_handler_ms), max(max_waiting), \
                   max(max_overdue_ms) FROM smartshape_inbox_activity WHERE minute >= $1 GROUP BY 1",
            );
            let found = sqlx::query_as(sql).bind(from).bind(width).fetch_all(&mut session.connection).await?;
            Ok(found.into_iter().map(rows::activity).collect())
        }))
    }

    fn failed_attempts(&self, key: DeliveryKey) -> StorageFuture<'_, Vec<FailedAttempt>> {
        Box::pin(self.connections.run(async move |session| {
            let sql = session.tables.sql(
                "SELECT a.number::bigint, (extract(epoch FROM a.ended) * 1000000)::bigint, a.took_ms, a.error \
                 FROM smartshape_inbox_failed_attempts a JOIN smartshape_inbox_events e ON e.seq = a.seq \
                 WHERE e.key = $1 ORDER BY a.fence LIMIT 100",
            );
            let found = sqlx::query_as(sql).bind(key.as_bytes().as_slice());
            found.fetch_all(&mut session.connection).await?.into_iter().map(rows::failed_attempt).collect()
        }))
    }

    fn pause(&self, by: String) -> StorageFuture<'_, ()> {
        Box::pin(self.connections.run(async move |session| {
            let sql = session.tables.sql(
                "INSERT INTO smartshape_inbox_pause (id, since, paused_by) VALUES (1, now(), $1) ON CONFLICT DO NOTHING",
            );
            sqlx::query(sql).bind(by).execute(&mut session.connection).await.map(drop)
        }))
    }

    fn resume(&self) -> StorageFuture<'_, ()> {
        Box::pin(self.connections.run(async |session| {
            let sql = session.tables.sql("DELETE FROM smartshape_inbox_pause");
            sqlx::query(sql).execute(&mut session.connection).await.map(drop)
        }))
    }

    fn paused(&self) -> StorageFuture<'_, Option<Pause>> {
        Box::pin(self.connections.run(async |session| {
            let sql = session.tables.sql(
                "SELECT (extract(epoch FROM since) * 1000000)::bigint, paused_by FROM smartshape_inbox_pause",
            );
            let found: Option<(i64, String)> =
                sqlx::query_as(sql).fetch_optional(&mut session.connection).await?;
            found.map(|(since, by)| Ok(Pause { since: timestamp_from_micros(since)?, by })).transpose()
        }))
    }

    fn report_worker(&self, report: WorkerReport) -> StorageFuture<'_, ()> {
        Box::pin(self.connections.run(async move |session| {
            let sql = session.tables.sql(
                "WITH old AS (DELETE FROM smartshape_inbox_workers WHERE seen < now() - $7 * interval '1 us') \
                 INSERT INTO smartshape_inbox_workers AS w (id, host, pid, version, concurrency, running, started, seen) \
                 VALUES ($1, $2, $3, $4, $5, $6, now(), now()) ON CONFLICT (id) DO UPDATE SET running = $6, seen = now()",
            );
            sqlx::query(sql)
                .bind(report.id)
                .bind(report.host)
                .bind(i64::from(std::process::id()))
                .bind(env!("CARGO_PKG_VERSION"))
                .bind(report.concurrency.cast_signed())
                .bind(report.running.cast_signed())
                .bind(WORKER_FORGOTTEN_AFTER)
                .execute(&mut session.connection)
                .await
                .map(drop)
        }))
    }

    fn remove_worker(&self, id: i64) -> StorageFuture<'_, ()> {
        Box::pin(self.connections.run(async move |session| {
            let sql = session.tables.sql("DELETE FROM smartshape_inbox_workers WHERE id = $1");
            sqlx::query(sql).bind(id).execute(&mut session.connection).await.map(drop)
        }))
    }

    fn workers(&self) -> StorageFuture<'_, Vec<WorkerInfo>> {
        Box::pin(self.connections.run(async |session| {
            let sql = session.tables.sql(
                "SELECT host, pid, version, concurrency, running, (extract(epoch FROM started) * 1000000)::bigint, \
                   (extract(epoch FROM seen) * 1000000)::bigint FROM smartshape_inbox_workers \
                 WHERE seen >= now() - $1 * interval '1 s' ORDER BY started, id LIMIT 1000",
            );
            let alive = i64::try_from(WORKER_GONE_AFTER.as_secs()).unwrap_or(i64::MAX);
            let found = sqlx::query_as(sql).bind(alive).fetch_all(&mut session.connection).await?;
            found.into_iter().map(rows::worker).collect()
        }))
    }
}

async fn list(session: &mut Session, filter: &EventFilter) -> sqlx::Result<Vec<StoredEvent>> {
    let mut query = filtered(session, COLUMNS, filter);
    query.build().fetch_all(&mut session.connection).await?.iter().map(rows::stored).collect()
}

/// The statement with the filter's conditions, order and limit at its end.
pub(super) fn filtered(
    session: &Session,
    statement: &str,
    filter: &EventFilter,
) -> QueryBuilder<sqlx::Postgres> {
    let mut query = QueryBuilder::new(session.tables.sql(statement).0);
    rows::push_filter(&mut query, filter);
    query
}

pub(super) async fn bodies(session: &mut Session, seqs: &[i64]) -> sqlx::Result<HashMap<i64, Bytes>> {
    let sql = session.tables.sql("SELECT seq, body FROM smartshape_inbox_bodies WHERE seq = ANY ($1)");
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).bind(seqs).fetch_all(&mut session.connection).await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

async fn used_bytes(session: &mut Session) -> sqlx::Result<u64> {
    let sql = session.tables.sql(
        "SELECT pg_total_relation_size('smartshape_inbox_events') + pg_total_relation_size('smartshape_inbox_bodies')",
    );
    let bytes: i64 = sqlx::query_scalar(sql).fetch_one(&mut session.connection).await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
