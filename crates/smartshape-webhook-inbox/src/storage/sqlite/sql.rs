//! The SQL statements. Each runs in the caller's transaction, at the storage's time `now`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::{
    ACTIVITY_MINUTES, Attempt, AttemptOutcome, AttemptResult, Chunk, ClaimRequest, ClaimResponse,
    KEPT_ATTEMPTS, LEASE_LOST, Lease, Retention, Settled, counted_bytes, milliseconds,
};
use super::clock::span;
use crate::activity::{Minute, Numbers};
use crate::event::{
    EVENT_VERSION, EventFilter, InboxCounts, InboxStats, MAX_EXAMINED, StoredDelivery, StoredEvent,
};
use crate::operations::{FailedAttempt, Pause, WORKER_GONE_AFTER, WorkerInfo, WorkerReport};
use crate::reason::{DeadLetterReason, ReasonId};
use crate::storage::rows::{self, WORKER_FORGOTTEN_AFTER, key_of, time_of};

pub(super) type Outcome<T> = Result<T, sqlx::Error>;

/// The latest time recorded in the file.
pub(super) async fn latest(connection: &mut SqliteConnection) -> Outcome<i64> {
    let sql = "SELECT max(value, coalesce((SELECT stored FROM events ORDER BY seq DESC LIMIT 1), 0)) \
         FROM meta WHERE name = 'clock'";
    sqlx::query_scalar(sql).fetch_one(connection).await
}

/// When the next event is due, unless workers are paused, and the latest time recorded in the file.
pub(super) async fn peek(connection: &mut SqliteConnection, ordered: bool) -> Outcome<(Option<i64>, i64)> {
    let sql = format!(
        "SELECT (SELECT min(due) FROM events WHERE {} AND {NOT_PAUSED}), \
         max(value, coalesce((SELECT stored FROM events ORDER BY seq DESC LIMIT 1), 0)) FROM meta WHERE name = 'clock'",
        candidates(ordered)
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await
}

const NOT_PAUSED: &str = "NOT EXISTS (SELECT 1 FROM pause)";

/// Each condition has a partial index by `due`.
fn candidates(ordered: bool) -> &'static str {
    if ordered { "state <= 1 AND behind = 0" } else { "state <= 1" }
}

/// Extends all leases by the time that the clock is advanced.
pub(super) async fn extend_leases(connection: &mut SqliteConnection, advance: i64) -> Outcome<()> {
    sqlx::query("UPDATE events SET due = due + ? WHERE state = 1")
        .bind(advance)
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn claim(
    connection: &mut SqliteConnection,
    now: i64,
    request: ClaimRequest,
) -> Outcome<ClaimResponse> {
    // Without INDEXED BY, SQLite would scan all due events.
    let dead_lettered = sqlx::query(
        "UPDATE events INDEXED BY events_at_work_of_file \
         SET state = 3, settled = ?1, error = coalesce(error || '; then ', '') || ?2, lost = lost + 1, \
         error_group = NULL WHERE state = 1 AND due <= ?1 AND (lost + 1 >= ?3 OR attempts >= ?4)",
    )
    .bind(now)
    .bind(LEASE_LOST)
    .bind(i64::from(request.max_lost_leases))
    .bind(i64::from(request.max_attempts))
    .execute(&mut *connection)
    .await?
    .rows_affected();

    let candidates = candidates(request.ordered);
    let sql = format!(
        "UPDATE events SET state = 1, due = ?1 + ?2, fence = fence + 1, attempts = attempts + 1, \
         lost = lost + (state = 1) WHERE seq IN (SELECT seq FROM events WHERE {candidates} AND due <= ?1 \
           AND version <= ?3 AND {NOT_PAUSED} ORDER BY due, state, stored, seq LIMIT ?4) \
         RETURNING seq, fence, key, attempts, received, secret, traceparent"
    );
    let claimed = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(now)
        .bind(milliseconds(request.lease_ttl))
        .bind(i64::from(EVENT_VERSION))
        .bind(i64::from(request.max_events))
        .fetch_all(&mut *connection)
        .await?;
    let mut attempts = claimed.iter().map(attempt).collect::<Outcome<Vec<_>>>()?;
    attempts.sort_by_key(|attempt| attempt.lease.seq);
    let numbers: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.seq).collect();
    let mut bodies = bodies(connection, &numbers).await?;
    for attempt in &mut attempts {
        attempt.body = bodies.remove(&attempt.lease.seq);
    }
    // When fewer events were claimed than requested, the other due events cannot be claimed now.
    let after = if attempts.len() < request.max_events as usize { now } else { i64::MIN };
    let sql = format!("SELECT min(due) FROM events WHERE {candidates} AND due > ?");
    let next_due: Option<i64> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(after).fetch_one(connection).await?;
    Ok(ClaimResponse { attempts, dead_lettered, next_due: next_due.map(|due| span(now, due)) })
}

fn attempt(row: &SqliteRow) -> Outcome<Attempt> {
    Ok(Attempt {
        lease: lease(row)?,
        key: key_of(row.try_get("key")?)?,
        number: row.try_get("attempts")?,
        received_at: time_of(row.try_get("received")?)?,
        secret_name: row.try_get("secret")?,
        traceparent: row.try_get("traceparent")?,
        body: None,
    })
}

fn lease(row: &SqliteRow) -> Outcome<Lease> {
    Ok(Lease { seq: row.try_get("seq")?, fence: row.try_get("fence")? })
}

async fn bodies(connection: &mut SqliteConnection, numbers: &[i64]) -> Outcome<HashMap<i64, Bytes>> {
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, body FROM bodies WHERE seq IN (SELECT value FROM json_each(?))")
            .bind(json_array(numbers))
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

/// Ends the leases of processes that have ended.
pub(super) async fn end_leases(connection: &mut SqliteConnection, now: i64) -> Outcome<()> {
    sqlx::query("UPDATE events SET due = ?1 WHERE state = 1 AND due > ?1")
        .bind(now)
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn renew(
    connection: &mut SqliteConnection,
    now: i64,
    leases: String,
    lease: Duration,
) -> Outcome<Vec<Lease>> {
    let sql = "UPDATE events SET due = ?1 FROM (SELECT value ->> 0 AS seq, value ->> 1 AS fence FROM json_each(?2)) l \
         WHERE events.seq = l.seq AND events.fence = l.fence AND state = 1 RETURNING events.seq, events.fence";
    let rows = sqlx::query(sql).bind(now + milliseconds(lease)).bind(leases).fetch_all(connection).await?;
    rows.iter().map(self::lease).collect()
}

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    now: i64,
    results: Arc<[AttemptResult]>,
) -> Outcome<Settled> {
    let mut held = Vec::new();
    for keep_body in [false, true] {
        let completed: Vec<Lease> = results
            .iter()
            .filter(|one| matches!(one.outcome, AttemptOutcome::Completed { keep_body: keep } if keep == keep_body))
            .map(|one| one.lease)
            .collect();
        if !completed.is_empty() {
            held.extend(complete(connection, now, &completed, keep_body).await?);
        }
    }
    let rest: Vec<&AttemptResult> =
        results.iter().filter(|one| !matches!(one.outcome, AttemptOutcome::Completed { .. })).collect();
    for part in rest.chunks(MAX_RESULTS) {
        held.extend(end_attempts(connection, now, part).await?);
    }
    record_attempts(connection, &results, &held).await?;
    Ok(Settled { recorded: held, locked: Vec::new() })
}

/// Records failed attempts, and deletes those at events that were completed.
async fn record_attempts(
    connection: &mut SqliteConnection,
    results: &[AttemptResult],
    held: &[Lease],
) -> Outcome<()> {
    let held = || results.iter().filter(|result| held.contains(&result.lease));
    for (result, error) in held().filter_map(|result| Some((result, result.error()?))) {
        let seq = result.lease.seq;
        sqlx::query(
            "INSERT OR IGNORE INTO failed_attempts (seq, fence, number, ended, took_ms, error) \
             SELECT seq, ?2, attempts, ?3, ?4, ?5 FROM events WHERE seq = ?1",
        )
        .bind(seq)
        .bind(result.lease.fence)
        .bind(Timestamp::now().as_microsecond())
        .bind(milliseconds(result.took))
        .bind(error)
        .execute(&mut *connection)
        .await?;
        if result.exceeds_attempts() {
            let sql = "DELETE FROM failed_attempts WHERE seq = ?1 AND fence <= \
                 (SELECT fence FROM failed_attempts WHERE seq = ?1 ORDER BY fence DESC LIMIT 1 OFFSET ?2)";
            sqlx::query(sql).bind(seq).bind(KEPT_ATTEMPTS).execute(&mut *connection).await?;
        }
    }
    let forgotten: Vec<i64> =
        held().filter(|result| result.forgets_attempts()).map(|result| result.lease.seq).collect();
    if forgotten.is_empty() { Ok(()) } else { delete_attempts(connection, &forgotten).await }
}

async fn delete_attempts(connection: &mut SqliteConnection, numbers: &[i64]) -> Outcome<()> {
    sqlx::query("DELETE FROM failed_attempts WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(json_array(numbers))
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn failed_attempts(
    connection: &mut SqliteConnection,
    key: DeliveryKey,
) -> Outcome<Vec<FailedAttempt>> {
    let sql = "SELECT a.number, a.ended, a.took_ms, a.error FROM failed_attempts a JOIN events e ON e.seq = a.seq \
         WHERE e.key = ? ORDER BY a.fence LIMIT 100";
    let found: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sql).bind(key.as_bytes().as_slice()).fetch_all(connection).await?;
    found.into_iter().map(rows::failed_attempt).collect()
}

pub(super) async fn record_activity(connection: &mut SqliteConnection, minutes: &[Minute]) -> Outcome<()> {
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

pub(super) async fn activity(
    connection: &mut SqliteConnection,
    from: i64,
    width: i64,
) -> Outcome<Vec<(i64, Numbers)>> {
    let sql = "SELECT minute / ?2 AS slot, sum(stored) AS stored, sum(completed) AS completed, sum(retried) AS retried, \
         sum(dead_letters) AS dead_letters, sum(handler_ms) AS handler_ms, max(max_handler_ms) AS max_handler_ms, \
         max(max_waiting) AS max_waiting, max(max_overdue_ms) AS max_overdue_ms \
         FROM activity WHERE minute >= ?1 GROUP BY 1";
    sqlx::query(sql).bind(from).bind(width).fetch_all(connection).await?.iter().map(rows::activity).collect()
}

pub(super) async fn pause(connection: &mut SqliteConnection, by: &str) -> Outcome<()> {
    sqlx::query("INSERT OR IGNORE INTO pause (id, since, paused_by) VALUES (1, ?, ?)")
        .bind(Timestamp::now().as_microsecond())
        .bind(by)
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn resume(connection: &mut SqliteConnection) -> Outcome<()> {
    sqlx::query("DELETE FROM pause").execute(connection).await.map(drop)
}

pub(super) async fn paused(connection: &mut SqliteConnection) -> Outcome<Option<Pause>> {
    let found: Option<(i64, String)> =
        sqlx::query_as("SELECT since, paused_by FROM pause").fetch_optional(connection).await?;
    found.map(|(since, by)| Ok(Pause { since: time_of(since)?, by })).transpose()
}

pub(super) async fn report_worker(connection: &mut SqliteConnection, report: &WorkerReport) -> Outcome<()> {
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

pub(super) async fn remove_worker(connection: &mut SqliteConnection, id: i64) -> Outcome<()> {
    sqlx::query("DELETE FROM workers WHERE id = ?").bind(id).execute(connection).await.map(drop)
}

pub(super) async fn workers(connection: &mut SqliteConnection) -> Outcome<Vec<WorkerInfo>> {
    let alive_from =
        Timestamp::now().as_microsecond() - i64::try_from(WORKER_GONE_AFTER.as_micros()).unwrap_or(i64::MAX);
    let sql = "SELECT host, pid, version, concurrency, running, started, seen FROM workers WHERE seen >= ? \
         ORDER BY started, id LIMIT 1000";
    sqlx::query(sql).bind(alive_from).fetch_all(connection).await?.iter().map(rows::worker).collect()
}

/// SQLite limits the parameters of a statement, and each result has seven.
const MAX_RESULTS: usize = 1000;

async fn end_attempts(
    connection: &mut SqliteConnection,
    now: i64,
    results: &[&AttemptResult],
) -> Outcome<Vec<Lease>> {
    let mut query =
        QueryBuilder::<Sqlite>::new("WITH l (seq, fence, state, due, error, released, error_group) AS (");
    query.push_values(results, |mut row, AttemptResult { lease, outcome, .. }| {
        let (state, due, error, released) = match outcome {
            AttemptOutcome::Completed { .. } => (2_i64, now, None, 0_i64),
            AttemptOutcome::Retry { after, error } => {
                (0, now + milliseconds(*after), Some(error.as_str()), 0)
            }
            AttemptOutcome::DeadLetter { error } => (3, now, Some(error.as_str()), 0),
            AttemptOutcome::Released => (0, now, None, 1),
        };
        row.push_bind(lease.seq).push_bind(lease.fence).push_bind(state);
        row.push_bind(due).push_bind(error).push_bind(released);
        row.push_bind(outcome.reason().map(|reason| reason.0));
    });
    query.push(
        ") UPDATE events SET state = l.state, due = l.due, error = coalesce(l.error, events.error), \
         error_group = l.error_group, attempts = attempts - l.released, settled = iif(l.state = 3, ",
    );
    query.push_bind(now);
    query.push(
        ", NULL) FROM l WHERE events.seq = l.seq AND events.fence = l.fence AND events.state = 1 \
         RETURNING events.seq, events.fence",
    );
    query.build().persistent(false).fetch_all(connection).await?.iter().map(lease).collect()
}

async fn complete(
    connection: &mut SqliteConnection,
    now: i64,
    leases: &[Lease],
    keep_body: bool,
) -> Outcome<Vec<Lease>> {
    let sql = "UPDATE events SET state = 2, settled = ?1, error = NULL, owner = NULL, \
         traceparent = iif(?3, traceparent, NULL), \
         event = substr(event, 1, 64), file = substr(file, 1, 64), uuid = substr(uuid, 1, 64) FROM (SELECT value ->> 0 AS seq, value ->> 1 AS fence FROM json_each(?2)) l \
         WHERE events.seq = l.seq AND events.fence = l.fence AND state = 1 RETURNING events.seq, events.fence";
    let rows =
        sqlx::query(sql).bind(now).bind(pairs(leases)).bind(keep_body).fetch_all(&mut *connection).await?;
    let held = rows.iter().map(lease).collect::<Outcome<Vec<_>>>()?;
    if !keep_body {
        delete_bodies(connection, &held.iter().map(|lease| lease.seq).collect::<Vec<_>>()).await?;
    }
    Ok(held)
}

async fn delete_bodies(connection: &mut SqliteConnection, numbers: &[i64]) -> Outcome<u64> {
    let done = sqlx::query("DELETE FROM bodies WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(json_array(numbers))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    filter: EventFilter,
) -> Outcome<Vec<StoredEvent>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM events e WHERE ");
    rows::push_filter(&mut query, &filter);
    query.build().fetch_all(connection).await?.iter().map(stored).collect()
}

pub(super) async fn get(
    connection: &mut SqliteConnection,
    now: i64,
    key: DeliveryKey,
) -> Outcome<Option<StoredDelivery>> {
    let Some(event) = list(connection, EventFilter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = bodies(connection, &[event.seq]).await?.remove(&event.seq);
    // The clock of a process that has had the file open for longer is ahead.
    let now = now.max(latest(connection).await?);
    let due: Option<i64> = sqlx::query_scalar("SELECT due FROM events WHERE seq = ? AND state = 0")
        .bind(event.seq)
        .fetch_optional(connection)
        .await?;
    let next_attempt_at = due.map(|due| rows::from_now(due - now));
    Ok(Some(StoredDelivery { event, body, next_attempt_at }))
}

fn stored(row: &SqliteRow) -> Outcome<StoredEvent> {
    rows::stored(row)
}

/// An operator's change of the events that match a filter.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Replay,
    Purge,
}

impl Change {
    /// The events that can be changed so.
    fn condition(self) -> &'static str {
        match self {
            Self::Replay => "e.state >= 2 AND EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq) AND ",
            Self::Purge => {
                "e.state <> 1 AND (e.state <> 2 OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq)) AND "
            }
        }
    }
}

/// Finds a chunk of the events to change. May read all events, so it must not run in a transaction that writes.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    change: Change,
    filter: &EventFilter,
) -> Outcome<Vec<i64>> {
    select(connection, QueryBuilder::new("SELECT e.seq FROM events e WHERE "), change, filter).await
}

async fn select(
    connection: &mut SqliteConnection,
    mut query: QueryBuilder<Sqlite>,
    change: Change,
    filter: &EventFilter,
) -> Outcome<Vec<i64>> {
    query.push(change.condition());
    rows::push_filter(&mut query, filter);
    query.build_query_scalar().fetch_all(connection).await
}

/// Changes those events of a chunk that still match.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    now: i64,
    change: Change,
    filter: EventFilter,
    found: Arc<[i64]>,
) -> Outcome<Chunk> {
    let mut among =
        QueryBuilder::new("SELECT e.seq FROM events e WHERE e.seq IN (SELECT value FROM json_each(");
    among.push_bind(json_array(&found)).push(")) AND ");
    let numbers = select(&mut *connection, among, change, &filter).await?;
    let sql = match change {
        Change::Replay => {
            "UPDATE events SET state = 0, attempts = 0, lost = 0, settled = NULL, error_group = NULL, due = ?1 \
             WHERE seq IN (SELECT value FROM json_each(?2))"
        }
        Change::Purge => {
            "UPDATE events SET state = 2, settled = CASE WHEN state = 2 THEN settled ELSE ?1 END, error = NULL, \
             owner = NULL, secret = NULL, traceparent = NULL, \
             event = substr(event, 1, 64), file = substr(file, 1, 64), uuid = substr(uuid, 1, 64) \
             WHERE seq IN (SELECT value FROM json_each(?2))"
        }
    };
    let updated = sqlx::query(sql).bind(now).bind(json_array(&numbers)).execute(&mut *connection).await?;
    let changed = match change {
        Change::Replay => updated.rows_affected(),
        Change::Purge => {
            delete_attempts(&mut *connection, &numbers).await?;
            delete_bodies(connection, &numbers).await?
        }
    };
    Ok(Chunk::new(&found, changed))
}

pub(super) async fn stats(connection: &mut SqliteConnection, now: i64) -> Outcome<InboxStats> {
    // One scan of the index, without sorting what may be millions of rows.
    let (waiting, oldest, open, dead_letters): (i64, Option<i64>, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE state = 0), min(stored) FILTER (WHERE state = 0), count(*), \
         (SELECT count(*) FROM events WHERE state = 3) FROM events WHERE state <= 1",
    )
    .fetch_one(&mut *connection)
    .await?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(InboxStats {
        waiting: count(waiting),
        running: count(open - waiting),
        dead_letters: count(dead_letters),
        oldest_waiting: oldest.map(|oldest| span(oldest, now)),
        disk_bytes: used_bytes(connection).await?,
    })
}

pub(super) async fn counts(connection: &mut SqliteConnection, now: i64) -> Outcome<InboxCounts> {
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
    let disk_bytes = used_bytes(connection).await?;
    Ok(rows::counts(
        [open, waiting, retrying, dead_letters, stored],
        due.map(|due| span(due, now)),
        disk_bytes,
    ))
}

pub(super) async fn nth(
    connection: &mut SqliteConnection,
    filter: EventFilter,
    skipped: u32,
) -> Outcome<Option<i64>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT e.seq FROM events e WHERE ");
    rows::push_nth(&mut query, &filter, skipped);
    query.build_query_scalar().fetch_optional(connection).await
}

pub(super) async fn count_by_event(
    connection: &mut SqliteConnection,
    filter: EventFilter,
) -> Outcome<Vec<(String, u64)>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT e.event, count(*) FROM events e WHERE ");
    rows::push_conditions(&mut query, &filter);
    query.push(rows::BY_EVENT);
    let counted: Vec<(String, i64)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows::by_event(counted))
}

pub(super) async fn reasons(connection: &mut SqliteConnection, limit: u32) -> Outcome<Vec<DeadLetterReason>> {
    let groups: Vec<(Option<i64>, i64, i64)> = sqlx::query_as(
        "SELECT error_group, count(*), max(seq) FROM (SELECT error_group, seq FROM events WHERE state = 3 \
         ORDER BY error_group, seq LIMIT ?1) GROUP BY error_group ORDER BY 2 DESC, 3 DESC LIMIT ?2",
    )
    .bind(MAX_EXAMINED)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let numbers: Vec<i64> = groups.iter().map(|(.., last)| *last).collect();
    let last = sqlx::query("SELECT * FROM events WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(json_array(&numbers))
        .fetch_all(connection)
        .await?;
    Ok(rows::reasons(groups, &last.iter().map(stored).collect::<Outcome<Vec<_>>>()?))
}

/// Records the reason of dead letters that have none, which an older version or a lost lease has left. A bounded number.
pub(super) async fn group_errors(connection: &mut SqliteConnection, limit: u32) -> Outcome<()> {
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

pub(super) async fn used_bytes(connection: &mut SqliteConnection) -> Outcome<u64> {
    let (pages, free, size): (i64, i64, i64) = sqlx::query_as(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from((pages - free) * size).unwrap_or(0))
}

/// Bytes of events that are not completed. Each part is read from a partial index.
pub(super) async fn uncompleted_bytes(connection: &mut SqliteConnection) -> Outcome<u64> {
    let size = counted_bytes("min");
    let sql = format!(
        "SELECT coalesce((SELECT sum({size}) FROM events WHERE state <= 1), 0) \
         + coalesce((SELECT sum({size}) FROM events WHERE state = 3), 0)"
    );
    let bytes: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Number of completed events.
pub(super) async fn completed(connection: &mut SqliteConnection) -> Outcome<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE state = 2").fetch_one(connection).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Numbers of deleted rows.
pub(super) struct Swept {
    pub(super) bodies: u64,
    pub(super) events: u64,
    /// Bodies of events completed up to this time are deleted.
    pub(super) bodies_until: i64,
    pub(super) took: Duration,
}

/// Deletes up to `limit` rows of each kind. Bodies of events completed up to `swept_until` were deleted by earlier sweeps.
/// `over_capacity` of the oldest completed events are deleted early.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    now: i64,
    retention: Retention,
    swept_until: i64,
    over_capacity: u64,
    limit: u32,
) -> Outcome<Swept> {
    let began = Instant::now();
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
    Ok(Swept { bodies, events, bodies_until, took: began.elapsed() })
}

pub(super) async fn record_clock(connection: &mut SqliteConnection, now: i64) -> Outcome<()> {
    sqlx::query("UPDATE meta SET value = max(value, ?) WHERE name = 'clock'")
        .bind(now)
        .execute(connection)
        .await
        .map(drop)
}

/// `[[seq,fence],…]`, so that one statement takes any number of leases.
pub(super) fn pairs(leases: &[Lease]) -> String {
    let pairs: Vec<_> = leases.iter().map(|lease| format!("[{},{}]", lease.seq, lease.fence)).collect();
    format!("[{}]", pairs.join(","))
}

fn json_array(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}
