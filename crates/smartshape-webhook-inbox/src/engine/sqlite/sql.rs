//! The statements. Each runs in the caller's transaction, at the store's time `now`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smartshape_webhook::DeliveryKey;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::super::{
    Attempt, Claimed, LEASE_LOST, Lease, ORDERED_ASIDE, ORDERED_WINDOW, Retention, SWEEP_ROWS, Settlement,
    Verdict, Wanted, milliseconds,
};
use super::clock::span;
use crate::engine::rows::{self, key_of, time_of};
use crate::record::{Filter, RECORD_VERSION, Stats, StoredDelivery, StoredEvent};

/// About what a row takes beside its body.
pub(super) const ROW_BYTES: u64 = 400;

/// An ordered claim leaves the rest to the next one, or nothing could be stored meanwhile.
const ORDERED_ROUNDS: u32 = 8;

pub(super) type Outcome<T> = Result<T, sqlx::Error>;

/// When the next event is due, and the latest time that anybody has left in the file.
pub(super) async fn look(connection: &mut SqliteConnection) -> Outcome<(Option<i64>, i64)> {
    sqlx::query_as(
        "SELECT (SELECT min(due) FROM events WHERE state <= 1), \
         max(value, coalesce((SELECT stored FROM events ORDER BY seq DESC LIMIT 1), 0)) FROM meta WHERE name = 'clock'",
    )
    .fetch_one(connection)
    .await
}

/// For a clock that leaps: leases last as long as they were meant to.
pub(super) async fn move_leases(connection: &mut SqliteConnection, leap: i64) -> Outcome<()> {
    sqlx::query("UPDATE events SET due = due + ? WHERE state = 1")
        .bind(leap)
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn claim(connection: &mut SqliteConnection, now: i64, wanted: Wanted) -> Outcome<Claimed> {
    // Of itself SQLite would look through all that are due.
    let buried = sqlx::query(
        "UPDATE events INDEXED BY events_at_work_of_file \
         SET state = 3, settled = ?1, error = coalesce(error || '; then ', '') || ?2, lost = lost + 1 \
         WHERE state = 1 AND due <= ?1 AND (lost + 1 >= ?3 OR attempts >= ?4)",
    )
    .bind(now)
    .bind(LEASE_LOST)
    .bind(i64::from(wanted.max_lost_leases))
    .bind(i64::from(wanted.max_attempts))
    .execute(&mut *connection)
    .await?
    .rows_affected();

    let take = "UPDATE events SET state = 1, due = ?1 + ?2, fence = fence + 1, attempts = attempts + 1, \
         lost = lost + (state = 1) WHERE seq IN ";
    let returning = " RETURNING seq, fence, key, attempts, received, secret, traceparent";
    let mut claimed = Vec::new();
    let mut seen_all = true;
    if wanted.ordered {
        // Each round looks at the earliest due; those behind an earlier event of their file go aside.
        for round in 1.. {
            let candidates = candidates(connection, now).await?;
            let full = i64::try_from(candidates.len()).is_ok_and(|count| count == ORDERED_WINDOW);
            let (heads, behind): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(_, head)| *head);
            let places = wanted.events as usize - claimed.len();
            let heads: Vec<i64> = heads.into_iter().map(|(seq, _)| seq).take(places).collect();
            let sql = format!("{take} (SELECT value FROM json_each(?3)) {returning}");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(now)
                .bind(milliseconds(wanted.lease))
                .bind(list_of(&heads))
                .fetch_all(&mut *connection)
                .await?;
            let taken = rows.len() as u64;
            claimed.extend(rows);
            if !full || claimed.len() >= wanted.events as usize {
                break;
            }
            let behind: Vec<i64> = behind.into_iter().map(|(seq, _)| seq).collect();
            // Events at work cannot go aside, and would be looked at for ever.
            if taken + put_aside(connection, now, &behind).await? == 0 {
                break;
            }
            if round == ORDERED_ROUNDS {
                seen_all = false;
                break;
            }
        }
    } else {
        let sql = format!(
            "{take} (SELECT seq FROM events WHERE state <= 1 AND due <= ?1 AND version <= ?3 \
             ORDER BY due, state, stored, seq LIMIT ?4) {returning}"
        );
        claimed = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(now)
            .bind(milliseconds(wanted.lease))
            .bind(i64::from(RECORD_VERSION))
            .bind(i64::from(wanted.events))
            .fetch_all(&mut *connection)
            .await?;
    }
    let mut attempts = claimed.iter().map(attempt).collect::<Outcome<Vec<_>>>()?;
    attempts.sort_by_key(|attempt| attempt.lease.seq);
    for attempt in &mut attempts {
        attempt.body = body(connection, attempt.lease.seq).await?;
    }
    // When there was room for more, then whatever is due cannot be taken now.
    seen_all &= attempts.len() < wanted.events as usize;
    let after = if seen_all { now } else { i64::MIN };
    let next_due: Option<i64> =
        sqlx::query_scalar("SELECT min(due) FROM events WHERE state <= 1 AND due > ?")
            .bind(after)
            .fetch_one(connection)
            .await?;
    Ok(Claimed { attempts, buried, next_due: next_due.map(|due| span(now, due)) })
}

/// The earliest due events, and whether each is the one to take of its file.
async fn candidates(connection: &mut SqliteConnection, now: i64) -> Outcome<Vec<(i64, bool)>> {
    sqlx::query_as(
        "SELECT e.seq, NOT EXISTS (SELECT 1 FROM events o WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq) \
         AND NOT EXISTS (SELECT 1 FROM events w WHERE w.state = 1 AND w.file_hash = e.file_hash AND w.seq <> e.seq AND w.due > ?1) \
         FROM (SELECT seq, file_hash FROM events WHERE state <= 1 AND due <= ?1 AND version <= ?2 ORDER BY due, state, stored, seq LIMIT ?3) e",
    )
    .bind(now)
    .bind(i64::from(RECORD_VERSION))
    .bind(ORDERED_WINDOW)
    .fetch_all(connection)
    .await
}

async fn put_aside(connection: &mut SqliteConnection, now: i64, behind: &[i64]) -> Outcome<u64> {
    let done = sqlx::query(
        "UPDATE events SET due = ?1 WHERE state = 0 AND seq IN (SELECT value FROM json_each(?2))",
    )
    .bind(now + milliseconds(ORDERED_ASIDE))
    .bind(list_of(behind))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
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

async fn body(connection: &mut SqliteConnection, seq: i64) -> Outcome<Option<Bytes>> {
    let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM bodies WHERE seq = ?")
        .bind(seq)
        .fetch_optional(connection)
        .await?;
    Ok(body.map(Bytes::from))
}

/// Leases of processes that ended are over at once.
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
    settlements: Arc<[Settlement]>,
) -> Outcome<Vec<Lease>> {
    let mut held = Vec::new();
    for keep_body in [false, true] {
        let completed: Vec<Lease> = settlements
            .iter()
            .filter(|one| matches!(one.verdict, Verdict::Completed { keep_body: keep } if keep == keep_body))
            .map(|one| one.lease)
            .collect();
        if !completed.is_empty() {
            held.extend(complete(connection, now, &completed, keep_body).await?);
        }
    }
    for Settlement { lease, verdict } in settlements.iter() {
        let (state, due, error, given_back) = match verdict {
            Verdict::Completed { .. } => continue,
            Verdict::Retry { after, error } => (0_i64, now + milliseconds(*after), Some(error), 0_i64),
            Verdict::Dead { error } => (3, now, Some(error), 0),
            Verdict::GivenBack => (0, now, None, 1),
        };
        let changed = sqlx::query(
            "UPDATE events SET state = ?1, due = ?2, error = coalesce(?3, error), attempts = attempts - ?4, \
             settled = iif(?1 = 3, ?5, NULL) WHERE seq = ?6 AND fence = ?7 AND state = 1",
        )
        .bind(state)
        .bind(due)
        .bind(error)
        .bind(given_back)
        .bind(now)
        .bind(lease.seq)
        .bind(lease.fence)
        .execute(&mut *connection)
        .await?;
        if changed.rows_affected() == 1 {
            held.push(*lease);
        }
    }
    call_next(connection, now, &held).await?;
    Ok(held)
}

async fn complete(
    connection: &mut SqliteConnection,
    now: i64,
    leases: &[Lease],
    keep_body: bool,
) -> Outcome<Vec<Lease>> {
    let sql = "UPDATE events SET state = 2, settled = ?1, error = NULL, owner = NULL, secret = iif(?3, secret, NULL), \
         traceparent = iif(?3, traceparent, NULL) \
         FROM (SELECT value ->> 0 AS seq, value ->> 1 AS fence FROM json_each(?2)) l \
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
        .bind(list_of(numbers))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// An ordered claim may have put the next events of these files aside.
async fn call_next(connection: &mut SqliteConnection, now: i64, ended: &[Lease]) -> Outcome<()> {
    sqlx::query(
        "UPDATE events SET due = ?1 WHERE state = 0 AND attempts = 0 AND due > ?1 AND seq IN ( \
         SELECT (SELECT min(n.seq) FROM events n WHERE n.state <= 1 AND n.file_hash = e.file_hash) \
         FROM json_each(?2) l JOIN events e ON e.seq = l.value)",
    )
    .bind(now)
    .bind(list_of(&ended.iter().map(|lease| lease.seq).collect::<Vec<_>>()))
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn list(connection: &mut SqliteConnection, filter: Filter) -> Outcome<Vec<StoredEvent>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM events e WHERE ");
    rows::push_filter(&mut query, &filter);
    query.build().fetch_all(connection).await?.iter().map(stored).collect()
}

pub(super) async fn show(
    connection: &mut SqliteConnection,
    key: DeliveryKey,
) -> Outcome<Option<StoredDelivery>> {
    let Some(event) = list(connection, Filter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = body(connection, event.seq).await?;
    Ok(Some(StoredDelivery::new(event, body)))
}

fn stored(row: &SqliteRow) -> Outcome<StoredEvent> {
    rows::stored(row)
}

pub(super) async fn replay(connection: &mut SqliteConnection, now: i64, filter: Filter) -> Outcome<u64> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "UPDATE events SET state = 0, attempts = 0, lost = 0, settled = NULL, due = ",
    );
    query.push_bind(now);
    query.push(
        " WHERE seq IN (SELECT e.seq FROM events e WHERE e.state >= 2 \
         AND EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq) AND ",
    );
    rows::push_filter(&mut query, &filter);
    query.push(")");
    Ok(query.build().execute(connection).await?.rows_affected())
}

pub(super) async fn purge(connection: &mut SqliteConnection, now: i64, filter: Filter) -> Outcome<u64> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT e.seq FROM events e WHERE e.state <> 1 \
         AND (e.state <> 2 OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq)) AND ",
    );
    rows::push_filter(&mut query, &filter);
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *connection).await?;
    sqlx::query(
        "UPDATE events SET state = 2, settled = coalesce(settled, ?1), owner = NULL, secret = NULL, traceparent = NULL \
         WHERE seq IN (SELECT value FROM json_each(?2))",
    )
    .bind(now)
    .bind(list_of(&numbers))
    .execute(&mut *connection)
    .await?;
    delete_bodies(connection, &numbers).await
}

pub(super) async fn stats(connection: &mut SqliteConnection, now: i64) -> Outcome<Stats> {
    // One pass through the index, without sorting what may be millions of rows.
    let (waiting, oldest, open, dead): (i64, Option<i64>, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE state = 0), min(stored) FILTER (WHERE state = 0), count(*), \
         (SELECT count(*) FROM events WHERE state = 3) FROM events WHERE state <= 1",
    )
    .fetch_one(&mut *connection)
    .await?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Stats {
        waiting: count(waiting),
        at_work: count(open - waiting),
        dead: count(dead),
        oldest_waiting: oldest.map(|oldest| span(oldest, now)),
        stored_bytes: used_bytes(connection).await?,
    })
}

pub(super) async fn used_bytes(connection: &mut SqliteConnection) -> Outcome<u64> {
    let (pages, free, size): (i64, i64, i64) = sqlx::query_as(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from((pages - free) * size).unwrap_or(0))
}

/// Bodies of events that were completed up to `swept_until` are gone already. Returns how many rows were
/// deleted, and until when bodies are gone now.
pub(super) async fn sweep(
    connection: &mut SqliteConnection,
    now: i64,
    keep: Retention,
    swept_until: i64,
) -> Outcome<(u64, i64)> {
    let before = |kept: Duration| now.saturating_sub(milliseconds(kept));
    let bodies_before = before(keep.bodies.min(keep.tombstones));
    let bodies = sqlx::query(
        "DELETE FROM bodies WHERE seq IN (SELECT e.seq FROM events e JOIN bodies b ON b.seq = e.seq \
         WHERE e.state = 2 AND e.settled > ?1 AND e.settled <= ?2 LIMIT ?3)",
    )
    .bind(swept_until)
    .bind(bodies_before)
    .bind(SWEEP_ROWS)
    .execute(&mut *connection)
    .await?;
    let all_swept = i64::try_from(bodies.rows_affected()).is_ok_and(|rows| rows < SWEEP_ROWS);
    // Events may still be completed in this very millisecond.
    let swept_until = if all_swept { swept_until.max(bodies_before.min(now - 1)) } else { swept_until };
    let tombstones = sqlx::query(
        "DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e WHERE e.state = 2 AND e.settled <= ?1 \
         AND NOT EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq) LIMIT ?2)",
    )
    .bind(before(keep.tombstones))
    .bind(SWEEP_ROWS)
    .execute(connection)
    .await?;
    Ok((bodies.rows_affected() + tombstones.rows_affected(), swept_until))
}

pub(super) async fn record_clock(connection: &mut SqliteConnection, now: i64) -> Outcome<()> {
    sqlx::query("UPDATE meta SET value = max(value, ?) WHERE name = 'clock'")
        .bind(now)
        .execute(connection)
        .await
        .map(drop)
}

/// `[[seq,fence],…]`, for one statement whatever their number.
pub(super) fn pairs(leases: &[Lease]) -> String {
    let pairs: Vec<_> = leases.iter().map(|lease| format!("[{},{}]", lease.seq, lease.fence)).collect();
    format!("[{}]", pairs.join(","))
}

fn list_of(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}
