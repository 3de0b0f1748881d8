//! The statements. Times are the server's.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use smartshape_webhook::DeliveryKey;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{PgTransaction, Postgres, QueryBuilder, Row as _};

use crate::engine::rows::{self, key_of, time_of};
use crate::engine::{
    Attempt, Claimed, LEASE_LOST, Lease, ORDERED_ASIDE, ORDERED_WINDOW, Retention, SWEEP_ROWS, Settlement,
    Verdict, Wanted, milliseconds,
};
use crate::record::{Filter, RECORD_VERSION, Record, Stats, StoredDelivery, StoredEvent};

/// Ordered claims come one at a time: each must see what the one before has taken. "order"
const ORDERED_LOCK: i64 = 0x6f_7264_6572;

/// About what a row takes beside its body.
pub(super) const ROW_BYTES: u64 = 400;

type Outcome<T> = Result<T, sqlx::Error>;

/// One statement, so one round trip and one commit. The numbers follow the order of arrival; the rows
/// are written in the order of their keys, or two processes could wait for each other.
pub(super) async fn insert(connection: &mut PgConnection, records: &[Record]) -> Outcome<Vec<bool>> {
    macro_rules! column {
        ($record:ident => $value:expr) => {
            records.iter().map(|$record| $value).collect::<Vec<_>>()
        };
    }
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "WITH given AS MATERIALIZED ( \
           SELECT nextval(pg_get_serial_sequence('smartshape_inbox_events', 'seq')) AS seq, g.* FROM \
             unnest($1::int[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
               $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bytea[]) \
             AS g (version, key, file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, body)), \
         fresh AS ( \
           INSERT INTO smartshape_inbox_events (seq, version, key, state, due, file_hash, event, file, uuid, owner, secret, \
             traceparent, triggered, received, bytes) \
           SELECT seq, version, key, 0, now(), file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, \
             length(body) FROM given ORDER BY key \
           ON CONFLICT (key) DO NOTHING RETURNING seq, key), \
         kept AS ( \
           INSERT INTO smartshape_inbox_bodies (seq, body) SELECT given.seq, given.body FROM fresh JOIN given USING (seq)) \
         SELECT key FROM fresh",
    )
    .bind(column!(record => i32::from(record.version)))
    .bind(column!(record => record.key.as_bytes().as_slice()))
    .bind(column!(record => record.file_hash))
    .bind(column!(record => record.event.as_str()))
    .bind(column!(record => record.file.as_str()))
    .bind(column!(record => record.uuid.as_str()))
    .bind(column!(record => record.owner.as_str()))
    .bind(column!(record => record.secret_name.as_deref()))
    .bind(column!(record => record.traceparent.as_deref()))
    .bind(column!(record => record.triggered_at.map(|time| time.as_microsecond())))
    .bind(column!(record => record.received_at.as_microsecond()))
    .bind(column!(record => record.body.as_ref()))
    .fetch_all(connection)
    .await?;
    let fresh = keys.iter().map(|key| key_of(key)).collect::<Outcome<HashSet<_>>>()?;
    Ok(records.iter().map(|record| fresh.contains(&record.key)).collect())
}

pub(super) async fn claim(pool: &PgPool, wanted: Wanted) -> Outcome<Claimed> {
    let (due, next) = look(pool).await?;
    if !due {
        return Ok(Claimed { next_due: next, ..Claimed::default() });
    }
    let mut transaction = pool.begin().await?;
    if wanted.ordered {
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ORDERED_LOCK).execute(&mut *transaction).await?;
    }
    let buried = bury(&mut transaction, wanted).await?;
    let rows = if wanted.ordered {
        take_ordered(&mut transaction, wanted).await?
    } else {
        take(&mut transaction, wanted).await?
    };
    let mut attempts = rows.iter().map(attempt).collect::<Outcome<Vec<_>>>()?;
    attempts.sort_by_key(|attempt| attempt.lease.seq);
    load_bodies(&mut transaction, &mut attempts).await?;
    // When there was room for more, then whatever is due cannot be taken now.
    let all = attempts.len() >= wanted.events as usize;
    let wait: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events \
         WHERE state <= 1 AND due > CASE WHEN $1 THEN '-infinity' ELSE now() END",
    )
    .bind(all)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Claimed { attempts, buried, next_due: wait.map(span) })
}

/// Whether something is due, and when the next event is.
async fn look(pool: &PgPool) -> Outcome<(bool, Option<Duration>)> {
    let wait: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events WHERE state <= 1",
    )
    .fetch_one(pool)
    .await?;
    let next = wait.map(span);
    Ok((next.is_some_and(|wait| wait.is_zero()), next))
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

async fn bury(connection: &mut PgConnection, wanted: Wanted) -> Outcome<u64> {
    let done = sqlx::query(
        "WITH over AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE state <= 1 AND state = 1 AND due <= now() \
           AND (lost + 1 >= $2 OR attempts >= $3) FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 3, settled = now(), lost = lost + 1, \
           error = coalesce(error || '; then ', '') || $1 FROM over WHERE e.seq = over.seq",
    )
    .bind(LEASE_LOST)
    .bind(i64::from(wanted.max_lost_leases))
    .bind(i64::from(wanted.max_attempts))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Follows `WITH chosen (seq) AS …`, which is evaluated once: as a subquery it could be evaluated for
/// each row, and lock more than was asked for.
const TAKE: &str = "UPDATE smartshape_inbox_events e SET state = 1, due = now() + $1 * interval '1 ms', fence = fence + 1, \
     attempts = attempts + 1, lost = lost + (state = 1)::int FROM chosen WHERE e.seq = chosen.seq \
     RETURNING e.seq, fence, key, attempts, received, secret, traceparent";

async fn take(connection: &mut PgConnection, wanted: Wanted) -> Outcome<Vec<PgRow>> {
    let sql = format!(
        "WITH chosen AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE state <= 1 AND due <= now() \
         AND version <= $2 ORDER BY due, seq LIMIT $3 FOR UPDATE SKIP LOCKED) {TAKE}"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(milliseconds(wanted.lease))
        .bind(i32::from(RECORD_VERSION))
        .bind(i64::from(wanted.events))
        .fetch_all(connection)
        .await
}

/// Each round looks at the earliest due; those behind an earlier event of their file go aside.
async fn take_ordered(connection: &mut PgConnection, wanted: Wanted) -> Outcome<Vec<PgRow>> {
    let mut taken = Vec::new();
    loop {
        let candidates = candidates(connection).await?;
        let full = i64::try_from(candidates.len()).is_ok_and(|count| count == ORDERED_WINDOW);
        let (heads, behind): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(_, head)| *head);
        let places = wanted.events as usize - taken.len();
        let heads: Vec<i64> = heads.into_iter().map(|(seq, _)| seq).take(places).collect();
        let sql = format!("WITH chosen AS MATERIALIZED (SELECT unnest($2::bigint[]) AS seq) {TAKE}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(milliseconds(wanted.lease))
            .bind(heads)
            .fetch_all(&mut *connection)
            .await?;
        let progress = !rows.is_empty();
        taken.extend(rows);
        if !full || taken.len() >= wanted.events as usize {
            return Ok(taken);
        }
        let behind: Vec<i64> = behind.into_iter().map(|(seq, _)| seq).collect();
        let aside = sqlx::query(
            "UPDATE smartshape_inbox_events SET due = now() + $1 * interval '1 ms' WHERE state = 0 AND seq = ANY ($2)",
        )
        .bind(milliseconds(ORDERED_ASIDE))
        .bind(behind)
        .execute(&mut *connection)
        .await?;
        // Events at work cannot go aside, and would be looked at for ever.
        if !progress && aside.rows_affected() == 0 {
            return Ok(taken);
        }
    }
}

async fn candidates(connection: &mut PgConnection) -> Outcome<Vec<(i64, bool)>> {
    sqlx::query_as(
        "SELECT e.seq, NOT EXISTS (SELECT 1 FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq) \
           AND NOT EXISTS (SELECT 1 FROM smartshape_inbox_events w \
             WHERE w.state = 1 AND w.file_hash = e.file_hash AND w.seq <> e.seq AND w.due > clock_timestamp()) \
         FROM (SELECT seq, file_hash FROM smartshape_inbox_events WHERE state <= 1 AND due <= now() AND version <= $1 \
           ORDER BY due, seq LIMIT $2 FOR UPDATE SKIP LOCKED) e",
    )
    .bind(i32::from(RECORD_VERSION))
    .bind(ORDERED_WINDOW)
    .fetch_all(connection)
    .await
}

fn attempt(row: &PgRow) -> Outcome<Attempt> {
    Ok(Attempt {
        lease: lease(row)?,
        key: key_of(row.try_get("key")?)?,
        number: u32::try_from(row.try_get::<i32, _>("attempts")?).unwrap_or(u32::MAX),
        received_at: time_of(row.try_get("received")?)?,
        secret_name: row.try_get("secret")?,
        traceparent: row.try_get("traceparent")?,
        body: None,
    })
}

fn lease(row: &PgRow) -> Outcome<Lease> {
    Ok(Lease { seq: row.try_get("seq")?, fence: row.try_get("fence")? })
}

async fn load_bodies(connection: &mut PgConnection, attempts: &mut [Attempt]) -> Outcome<()> {
    for attempt in attempts {
        attempt.body = body(&mut *connection, attempt.lease.seq).await?;
    }
    Ok(())
}

async fn body(connection: &mut PgConnection, seq: i64) -> Outcome<Option<Bytes>> {
    let body: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM smartshape_inbox_bodies WHERE seq = $1")
        .bind(seq)
        .fetch_optional(connection)
        .await?;
    Ok(body.map(Bytes::from))
}

pub(super) async fn renew(pool: &PgPool, leases: &[Lease], lease: Duration) -> Outcome<Vec<Lease>> {
    let rows = sqlx::query(
        "UPDATE smartshape_inbox_events e SET due = now() + $1 * interval '1 ms' FROM unnest($2::bigint[], $3::bigint[]) \
           AS l (seq, fence) WHERE e.seq = l.seq AND e.fence = l.fence AND e.state = 1 RETURNING e.seq, e.fence",
    )
    .bind(milliseconds(lease))
    .bind(numbers(leases))
    .bind(fences(leases))
    .fetch_all(pool)
    .await?;
    rows.iter().map(self::lease).collect()
}

pub(super) async fn settle(pool: &PgPool, settlements: &[Settlement]) -> Outcome<Vec<Lease>> {
    let mut transaction = pool.begin().await?;
    let mut held = Vec::new();
    for keep_body in [false, true] {
        let completed: Vec<Lease> = settlements
            .iter()
            .filter(|one| matches!(one.verdict, Verdict::Completed { keep_body: keep } if keep == keep_body))
            .map(|one| one.lease)
            .collect();
        if !completed.is_empty() {
            held.extend(complete(&mut transaction, &completed, keep_body).await?);
        }
    }
    for Settlement { lease, verdict } in settlements {
        let (state, after, error, given_back) = match verdict {
            Verdict::Completed { .. } => continue,
            Verdict::Retry { after, error } => (0_i16, milliseconds(*after), Some(error), 0_i32),
            Verdict::Dead { error } => (3, 0, Some(error), 0),
            Verdict::GivenBack => (0, 0, None, 1),
        };
        let changed = sqlx::query(
            "UPDATE smartshape_inbox_events SET state = $1, due = now() + $2 * interval '1 ms', error = coalesce($3, error), \
               attempts = attempts - $4, settled = CASE WHEN $1 = 3 THEN now() END \
             WHERE seq = $5 AND fence = $6 AND state = 1",
        )
        .bind(state)
        .bind(after)
        .bind(error)
        .bind(given_back)
        .bind(lease.seq)
        .bind(lease.fence)
        .execute(&mut *transaction)
        .await?;
        if changed.rows_affected() == 1 {
            held.push(*lease);
        }
    }
    call_next(&mut transaction, &held).await?;
    transaction.commit().await?;
    Ok(held)
}

/// Records the completion within a handler's own transaction. False when the lease was lost.
pub(crate) async fn complete_within(
    transaction: &mut PgTransaction<'static>,
    lease: Lease,
    keep_body: bool,
) -> Outcome<bool> {
    let held = complete(transaction, &[lease], keep_body).await?;
    call_next(transaction, &held).await?;
    Ok(!held.is_empty())
}

async fn complete(connection: &mut PgConnection, leases: &[Lease], keep_body: bool) -> Outcome<Vec<Lease>> {
    let rows = sqlx::query(
        "UPDATE smartshape_inbox_events e SET state = 2, settled = now(), error = NULL, owner = NULL, \
           secret = CASE WHEN $3 THEN secret END, traceparent = CASE WHEN $3 THEN traceparent END \
         FROM unnest($1::bigint[], $2::bigint[]) AS l (seq, fence) \
         WHERE e.seq = l.seq AND e.fence = l.fence AND e.state = 1 RETURNING e.seq, e.fence",
    )
    .bind(numbers(leases))
    .bind(fences(leases))
    .bind(keep_body)
    .fetch_all(&mut *connection)
    .await?;
    let held = rows.iter().map(lease).collect::<Outcome<Vec<_>>>()?;
    if !keep_body {
        delete_bodies(connection, numbers(&held)).await?;
    }
    Ok(held)
}

async fn delete_bodies(connection: &mut PgConnection, numbers: Vec<i64>) -> Outcome<u64> {
    let done = sqlx::query("DELETE FROM smartshape_inbox_bodies WHERE seq = ANY ($1)")
        .bind(numbers)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// An ordered claim may have put the next events of these files aside. Where this and such a claim
/// miss each other, the next one's turn comes when its time aside is over.
async fn call_next(connection: &mut PgConnection, ended: &[Lease]) -> Outcome<()> {
    sqlx::query(
        "UPDATE smartshape_inbox_events SET due = now() WHERE state = 0 AND attempts = 0 AND due > now() AND seq IN ( \
         SELECT (SELECT min(n.seq) FROM smartshape_inbox_events n WHERE n.state <= 1 AND n.file_hash = e.file_hash) \
         FROM smartshape_inbox_events e WHERE e.seq = ANY ($1))",
    )
    .bind(numbers(ended))
    .execute(connection)
    .await
    .map(drop)
}

/// All columns, whole numbers with 64 bits.
const COLUMNS: &str = "SELECT e.seq, e.key, e.state::bigint AS state, e.event, e.file, e.uuid, e.owner, e.secret, e.triggered, \
     e.received, e.bytes, e.attempts::bigint AS attempts, e.lost::bigint AS lost, e.error FROM smartshape_inbox_events e WHERE ";

pub(super) async fn list(pool: &PgPool, filter: &Filter) -> Outcome<Vec<StoredEvent>> {
    let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
    rows::push_filter(&mut query, filter);
    query.build().fetch_all(pool).await?.iter().map(rows::stored).collect()
}

pub(super) async fn show(pool: &PgPool, key: DeliveryKey) -> Outcome<Option<StoredDelivery>> {
    let Some(event) = list(pool, &Filter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = body(&mut *pool.acquire().await?, event.seq).await?;
    Ok(Some(StoredDelivery::new(event, body)))
}

pub(super) async fn replay(pool: &PgPool, filter: &Filter) -> Outcome<u64> {
    let mut transaction = pool.begin().await?;
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT e.seq FROM smartshape_inbox_events e WHERE e.state >= 2 \
         AND EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) AND ",
    );
    rows::push_filter(&mut query, filter);
    query.push(" FOR UPDATE");
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *transaction).await?;
    // Only now is it seen whether a purge or a sweep that held a row has deleted its body.
    let done = sqlx::query(
        "UPDATE smartshape_inbox_events e SET state = 0, attempts = 0, lost = 0, settled = NULL, due = now() \
         WHERE e.seq = ANY ($1) AND EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq)",
    )
    .bind(numbers)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

pub(super) async fn purge(pool: &PgPool, filter: &Filter) -> Outcome<u64> {
    let mut transaction = pool.begin().await?;
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT e.seq FROM smartshape_inbox_events e WHERE e.state <> 1 \
         AND (e.state <> 2 OR EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq)) AND ",
    );
    rows::push_filter(&mut query, filter);
    query.push(" FOR UPDATE SKIP LOCKED");
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *transaction).await?;
    sqlx::query(
        "UPDATE smartshape_inbox_events SET state = 2, settled = coalesce(settled, now()), owner = NULL, secret = NULL, \
           traceparent = NULL WHERE seq = ANY ($1)",
    )
    .bind(&numbers)
    .execute(&mut *transaction)
    .await?;
    let purged = delete_bodies(&mut transaction, numbers).await?;
    transaction.commit().await?;
    Ok(purged)
}

pub(super) async fn stats(pool: &PgPool) -> Outcome<Stats> {
    let mut stats = Stats { stored_bytes: used_bytes(pool).await?, ..Stats::default() };
    let open: Vec<(i16, i64, f64)> = sqlx::query_as(
        "SELECT state, count(*), extract(epoch FROM clock_timestamp() - min(stored))::float8 \
         FROM smartshape_inbox_events WHERE state <= 1 GROUP BY state",
    )
    .fetch_all(pool)
    .await?;
    for (state, count, age) in open {
        let count = u64::try_from(count).unwrap_or(0);
        if state == 0 {
            stats.waiting = count;
            stats.oldest_waiting = Duration::try_from_secs_f64(age.max(0.0)).ok();
        } else {
            stats.at_work = count;
        }
    }
    let dead: i64 = sqlx::query_scalar("SELECT count(*) FROM smartshape_inbox_events WHERE state = 3")
        .fetch_one(pool)
        .await?;
    stats.dead = u64::try_from(dead).unwrap_or(0);
    Ok(stats)
}

pub(super) async fn used_bytes(pool: &PgPool) -> Outcome<u64> {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT pg_total_relation_size('smartshape_inbox_events') + pg_total_relation_size('smartshape_inbox_bodies')",
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// What the bodies take, by counting; slower than [`used_bytes`].
pub(super) async fn live_bytes(pool: &PgPool) -> Outcome<u64> {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(e.bytes + $1), 0)::bigint FROM smartshape_inbox_events e \
         WHERE EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq)",
    )
    .bind(ROW_BYTES.cast_signed())
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

pub(super) async fn sweep(pool: &PgPool, keep: Retention) -> Outcome<u64> {
    let bodies = sqlx::query(
        "DELETE FROM smartshape_inbox_bodies WHERE seq IN (SELECT e.seq FROM smartshape_inbox_events e \
         JOIN smartshape_inbox_bodies b ON b.seq = e.seq \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' LIMIT $2 FOR UPDATE OF e SKIP LOCKED)",
    )
    .bind(milliseconds(keep.bodies.min(keep.tombstones)))
    .bind(SWEEP_ROWS)
    .execute(pool)
    .await?;
    let tombstones = sqlx::query(
        "WITH old AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' \
         AND NOT EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) LIMIT $2 FOR UPDATE SKIP LOCKED) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq",
    )
    .bind(milliseconds(keep.tombstones))
    .bind(SWEEP_ROWS)
    .execute(pool)
    .await?;
    Ok(bodies.rows_affected() + tombstones.rows_affected())
}

pub(super) async fn ping(pool: &PgPool) -> Outcome<()> {
    sqlx::query("SELECT 1 FROM smartshape_inbox_meta LIMIT 1").execute(pool).await.map(drop)
}

fn numbers(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.seq).collect()
}

fn fences(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.fence).collect()
}
