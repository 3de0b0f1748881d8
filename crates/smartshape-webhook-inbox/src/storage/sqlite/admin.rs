//! The statements of operators: pages, counts, replays and purges, activity, pauses and workers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;
use sqlx::QueryBuilder;
use sqlx::sqlite::SqliteConnection;

use super::clock::duration_between;
use super::settle::{delete_attempts, delete_bodies};
use super::{OnFull, Sqlite, error, json_array};
use crate::activity::{ActivityCounts, MinuteCounts, minute_since_epoch};
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

impl StorageAdmin for Sqlite {
    fn check_has(&self, schema: i64) -> Result<(), InboxError> {
        check_has(&self.0.path.display(), self.0.schema, schema)
    }

    fn list(&self, filter: EventFilter) -> StorageFuture<'_, Vec<StoredEvent>> {
        Box::pin(self.0.read(async move |connection, _| list(connection, filter).await))
    }

    fn get(&self, key: DeliveryKey) -> StorageFuture<'_, Option<StoredDelivery>> {
        Box::pin(self.0.read(async move |connection, now| {
            let filter = EventFilter::default().key(key);
            let Some(event) = list(connection, filter).await?.pop() else { return Ok(None) };
            let body = bodies(connection, &[event.seq]).await?.remove(&event.seq);
            let due: Option<i64> = sqlx::query_scalar("SELECT due FROM events WHERE seq = ? AND state = 0")
                .bind(event.seq)
                .fetch_optional(connection)
                .await?;
            let next_attempt_at = due.map(|due| rows::from_now(due - now));
            Ok(Some(StoredDelivery { event, body, next_attempt_at }))
        }))
    }

    /// Finds the events on a connection of its own: without an index for the filter that takes seconds, for which neither
    /// deliveries nor other reads must wait.
    fn change(&self, action: AdminAction, chunk: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)> {
        Box::pin(async move {
            let mut finder = self.0.connect().await?;
            let query = QueryBuilder::new("SELECT e.seq FROM events e WHERE ");
            let found = select(&mut finder.connection, query, action, &chunk).await;
            drop(finder);
            let found: Arc<[i64]> = found.map_err(|error| error::from_sqlx(&self.0.path, error))?.into();
            if found.is_empty() {
                return Ok((Vec::new(), 0));
            }
            self.write(OnFull::UseBallast, move |connection, now| {
                Box::pin(change(connection, now, action, chunk.clone(), Arc::clone(&found)))
            })
            .await
        })
    }

    fn stats(&self) -> StorageFuture<'_, InboxStats> {
        let wal = Arc::clone(&self.0.wal);
        Box::pin(self.0.read(async move |connection, now| {
            // One scan of the index, without sorting what may be millions of rows.
            let (waiting, oldest, open, dead_letters): (i64, Option<i64>, i64, i64) = sqlx::query_as(
                "SELECT count(*) FILTER (WHERE state = 0), min(stored) FILTER (WHERE state = 0), count(*), \
                     (SELECT count(*) FROM events WHERE state = 3) FROM events WHERE state <= 1",
            )
            .fetch_one(&mut *connection)
            .await?;
            let disk_bytes = used_bytes(connection).await? + wal.bytes();
            Ok(rows::stats(
                (waiting, open, dead_letters),
                oldest.map(|oldest| duration_between(oldest, now)),
                disk_bytes,
            ))
        }))
    }

    fn counts(&self) -> StorageFuture<'_, InboxCounts> {
        let wal = Arc::clone(&self.0.wal);
        Box::pin(self.0.read(async move |connection, now| {
                let (open, waiting, retrying, due): (i64, i64, i64, Option<i64>) = sqlx::query_as(
                    "SELECT count(*), count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 0 AND due > ?1), \
                     min(due) FILTER (WHERE state = 0) \
                     FROM (SELECT state, due FROM events WHERE state <= 1 ORDER BY due LIMIT ?2)",
                )
                .bind(now)
                .bind(MAX_EXAMINED)
                .fetch_one(&mut *connection)
                .await?;
                let (dead_letters, stored): (i64, i64) = sqlx::query_as(
                    "SELECT (SELECT count(*) FROM (SELECT 1 FROM events WHERE state = 3 LIMIT ?1)), \
                     coalesce((SELECT max(seq) FROM events) - (SELECT min(seq) FROM events) + 1, 0)",
                )
                .bind(MAX_EXAMINED)
                .fetch_one(&mut *connection)
                .await?;
                let disk_bytes = used_bytes(connection).await? + wal.bytes();
                let rows = CountedRows { open, waiting, retrying, dead_letters, stored };
                Ok(rows.into_counts(due.map(|due| duration_between(due, now)), disk_bytes))
            }))
    }

    fn seq_after(&self, filter: EventFilter, skipped: u32) -> StorageFuture<'_, Option<i64>> {
        Box::pin(self.0.read(async move |connection, _| {
            let mut query = QueryBuilder::<sqlx::Sqlite>::new("SELECT e.seq FROM events e WHERE ");
            rows::push_seq_after(&mut query, &filter, skipped);
            query.build_query_scalar().fetch_optional(connection).await
        }))
    }

    fn count_by_event(&self, filter: EventFilter) -> StorageFuture<'_, Vec<(String, u64)>> {
        Box::pin(self.0.read(async move |connection, _| {
            let start = "SELECT e.event, count(*) FROM events e WHERE ";
            let mut query = QueryBuilder::<sqlx::Sqlite>::new(start);
            rows::push_conditions(&mut query, &filter);
            query.push(rows::BY_EVENT);
            let counted = query.build_query_as().fetch_all(connection).await?;
            Ok(rows::by_event(counted))
        }))
    }

    fn reasons(&self, limit: u32) -> StorageFuture<'_, Vec<DeadLetterReason>> {
        Box::pin(self.0.read(async move |connection, _| {
                let counted: Vec<(Option<i64>, i64, i64)> = sqlx::query_as(
                    "SELECT error_group, count(*), max(seq) FROM (SELECT error_group, seq FROM events WHERE state = 3 \
                     ORDER BY error_group, seq LIMIT ?1) GROUP BY error_group ORDER BY 2 DESC, 3 DESC LIMIT ?2",
                )
                .bind(MAX_EXAMINED)
                .bind(limit)
                .fetch_all(&mut *connection)
                .await?;
                let seqs: Vec<i64> = counted.iter().map(|(.., last)| *last).collect();
                let last = sqlx::query("SELECT * FROM events WHERE seq IN (SELECT value FROM json_each(?))")
                    .bind(json_array(&seqs))
                    .fetch_all(connection)
                    .await?;
                Ok(rows::reasons(counted, &last.iter().map(rows::stored).collect::<sqlx::Result<Vec<_>>>()?))
            }))
    }

    fn record_activity(&self, minutes: Vec<MinuteCounts>) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, move |connection, _| Box::pin(record_activity(connection, minutes.clone())))
    }

    fn activity(&self, from: i64, width: i64) -> StorageFuture<'_, Vec<(i64, ActivityCounts)>> {
        Box::pin(self.0.read(async move |connection, _| {
            let sql = "SELECT minute / ?2, sum(stored), sum(completed), sum(retried), sum(dead_letters), \
                     sum(handler_ms), max(max_handler_ms), max(max_waiting), max(max_overdue_ms) \
                     FROM activity WHERE minute >= ?1 GROUP BY 1";
            let found = sqlx::query_as(sql).bind(from).bind(width).fetch_all(connection).await?;
            Ok(found.into_iter().map(rows::activity).collect())
        }))
    }

    fn failed_attempts(&self, key: DeliveryKey) -> StorageFuture<'_, Vec<FailedAttempt>> {
        Box::pin(self.0.read(async move |connection, _| {
            let sql = "SELECT a.number, a.ended, a.took_ms, a.error FROM failed_attempts a \
                     JOIN events e ON e.seq = a.seq WHERE e.key = ? ORDER BY a.fence LIMIT 100";
            let found = sqlx::query_as(sql).bind(key.as_bytes().as_slice());
            found.fetch_all(connection).await?.into_iter().map(rows::failed_attempt).collect()
        }))
    }

    fn pause(&self, by: String) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, move |connection, _| {
            let pause = sqlx::query("INSERT OR IGNORE INTO pause (id, since, paused_by) VALUES (1, ?, ?)")
                .bind(Timestamp::now().as_microsecond())
                .bind(by.clone());
            Box::pin(async move { pause.execute(connection).await.map(drop) })
        })
    }

    fn resume(&self) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, |connection, _| {
            Box::pin(async { sqlx::query("DELETE FROM pause").execute(connection).await.map(drop) })
        })
    }

    fn paused(&self) -> StorageFuture<'_, Option<Pause>> {
        Box::pin(self.0.read(async move |connection, _| {
            let found: Option<(i64, String)> =
                sqlx::query_as("SELECT since, paused_by FROM pause").fetch_optional(connection).await?;
            found.map(|(since, by)| Ok(Pause { since: timestamp_from_micros(since)?, by })).transpose()
        }))
    }

    fn report_worker(&self, report: WorkerReport) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, move |connection, _| Box::pin(report_worker(connection, report.clone())))
    }

    fn remove_worker(&self, id: i64) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, move |connection, _| {
            let remove = sqlx::query("DELETE FROM workers WHERE id = ?").bind(id);
            Box::pin(async { remove.execute(connection).await.map(drop) })
        })
    }

    fn workers(&self) -> StorageFuture<'_, Vec<WorkerInfo>> {
        Box::pin(self.0.read(async move |connection, _| {
                let alive = i64::try_from(WORKER_GONE_AFTER.as_micros()).unwrap_or(i64::MAX);
                let sql = "SELECT host, pid, version, concurrency, running, started, seen FROM workers WHERE seen >= ? \
                     ORDER BY started, id LIMIT 1000";
                let found = sqlx::query_as(sql).bind(Timestamp::now().as_microsecond() - alive);
                found.fetch_all(connection).await?.into_iter().map(rows::worker).collect()
            }))
    }
}

async fn list(connection: &mut SqliteConnection, filter: EventFilter) -> sqlx::Result<Vec<StoredEvent>> {
    let mut query = QueryBuilder::<sqlx::Sqlite>::new("SELECT * FROM events e WHERE ");
    rows::push_filter(&mut query, &filter);
    query.build().fetch_all(connection).await?.iter().map(rows::stored).collect()
}

pub(super) async fn bodies(
    connection: &mut SqliteConnection,
    seqs: &[i64],
) -> sqlx::Result<HashMap<i64, Bytes>> {
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, body FROM bodies WHERE seq IN (SELECT value FROM json_each(?))")
            .bind(json_array(seqs))
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

async fn used_bytes(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let (pages, free, size): (i64, i64, i64) = sqlx::query_as(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from((pages - free) * size).unwrap_or(0))
}

/// Appends the conditions of the action and the filter. May read all events, so it must not run in a transaction that writes
/// unless the query names the events already.
async fn select(
    connection: &mut SqliteConnection,
    mut query: QueryBuilder<sqlx::Sqlite>,
    action: AdminAction,
    filter: &EventFilter,
) -> sqlx::Result<Vec<i64>> {
    query.push(match action {
        AdminAction::Replay => "e.state >= 2 AND EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq) AND ",
        AdminAction::Purge => {
            "e.state <> 1 AND (e.state <> 2 OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq)) AND "
        }
    });
    rows::push_filter(&mut query, filter);
    query.build_query_scalar().fetch_all(connection).await
}

/// Changes those events of a chunk that still match.
async fn change(
    connection: &mut SqliteConnection,
    now: i64,
    action: AdminAction,
    filter: EventFilter,
    found: Arc<[i64]>,
) -> sqlx::Result<(Vec<i64>, u64)> {
    let mut among =
        QueryBuilder::new("SELECT e.seq FROM events e WHERE e.seq IN (SELECT value FROM json_each(");
    among.push_bind(json_array(&found)).push(")) AND ");
    let seqs = select(&mut *connection, among, action, &filter).await?;
    if action == AdminAction::Replay && !seqs.is_empty() {
        // The worker's process may have a clock that is behind this one's. It catches up with this time.
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('replayed', ?) \
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    let sql = match action {
        AdminAction::Replay => {
            "UPDATE events SET state = 0, attempts = 0, lost = 0, settled = NULL, error_group = NULL, due = ?1 \
             WHERE seq IN (SELECT value FROM json_each(?2))"
        }
        AdminAction::Purge => {
            "UPDATE events SET state = 2, settled = CASE WHEN state = 2 THEN settled ELSE ?1 END, error = NULL, \
             owner = NULL, secret = NULL, traceparent = NULL, \
             event = substr(event, 1, 64), file = substr(file, 1, 64), uuid = substr(uuid, 1, 64) \
             WHERE seq IN (SELECT value FROM json_each(?2))"
        }
    };
    let updated = sqlx::query(sql).bind(now).bind(json_array(&seqs)).execute(&mut *connection).await?;
    let changed = match action {
        AdminAction::Replay => updated.rows_affected(),
        AdminAction::Purge => {
            delete_attempts(&mut *connection, &seqs).await?;
            delete_bodies(connection, &seqs).await?
        }
    };
    Ok((found.to_vec(), changed))
}

async fn record_activity(connection: &mut SqliteConnection, minutes: Vec<MinuteCounts>) -> sqlx::Result<()> {
    let now = minute_since_epoch(Timestamp::now());
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

async fn report_worker(connection: &mut SqliteConnection, report: WorkerReport) -> sqlx::Result<()> {
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
