//! The statements. Times are the server's. All run on a [`Session`], whose search path has no schema but
//! PostgreSQL's own; those of a transactional handler's transaction are qualified throughout.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use smartshape_webhook::DeliveryKey;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Postgres, QueryBuilder, Row as _};

use super::connections::{Session, Tables};
use crate::engine::room::ROW_BYTES;
use crate::engine::rows::{self, key_of, time_of};
use crate::engine::{
    Attempt, Claimed, LEASE_LOST, Lease, Retention, SWEEP_ROWS, Settlement, Verdict, Wanted, milliseconds,
};
use crate::record::{Filter, RECORD_VERSION, Record, Stats, StoredDelivery, StoredEvent};

/// A file, or what else events are ordered by, as a hash.
pub(super) type Queue = i64;

pub(super) type Outcome<T> = Result<T, sqlx::Error>;

/// What an insert did.
pub(super) struct Inserted {
    pub(super) fresh: Vec<bool>,
    /// Queues in which something was stored behind an earlier event.
    pub(super) behind: Vec<Queue>,
}

/// One statement, so one round trip and one commit. The numbers follow the order of arrival; the rows
/// are written in the order of their keys, or two processes could wait for each other.
pub(super) async fn insert(on: &mut Session, records: &[Record], asynchronous: bool) -> Outcome<Inserted> {
    macro_rules! column {
        ($record:ident => $value:expr) => {
            records.iter().map(|$record| $value).collect::<Vec<_>>()
        };
    }
    // Subqueries with a limit are evaluated for each row, by the index; EXISTS might read all open events.
    let sql = on.tables.sql(
        "WITH given AS MATERIALIZED ( \
           SELECT nextval(pg_get_serial_sequence('smartshape_inbox_events', 'seq')::regclass) AS seq, g.* FROM \
             unnest($1::int[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
               $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bytea[]) \
             AS g (version, key, file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, body)), \
         placed AS (SELECT given.*, row_number() OVER (PARTITION BY file_hash ORDER BY seq) > 1 OR (SELECT true \
             FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = given.file_hash LIMIT 1) IS NOT NULL AS behind \
           FROM given), \
         durable AS MATERIALIZED (SELECT set_config('synchronous_commit', CASE WHEN $13 OR s.level <> 'off' \
             THEN s.level ELSE 'on' END, true) FROM (SELECT current_setting('synchronous_commit') AS level) s), \
         fresh AS ( \
           INSERT INTO smartshape_inbox_events (seq, version, key, state, due, file_hash, event, file, uuid, owner, secret, \
             traceparent, triggered, received, bytes, behind) \
           SELECT seq, version, key, 0, now(), file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, \
             length(body), behind FROM durable, placed ORDER BY key \
           ON CONFLICT (key) DO NOTHING RETURNING seq, key, file_hash, behind), \
         kept AS ( \
           INSERT INTO smartshape_inbox_bodies (seq, body) SELECT given.seq, given.body FROM fresh JOIN given USING (seq)) \
         SELECT key, file_hash, behind FROM fresh",
    );
    let rows: Vec<(Vec<u8>, Queue, bool)> = sqlx::query_as(sql)
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
        .bind(asynchronous)
        .fetch_all(&mut on.connection)
        .await?;
    let keys = rows.iter().map(|(key, ..)| key_of(key)).collect::<Outcome<HashSet<_>>>()?;
    Ok(Inserted {
        fresh: records.iter().map(|record| keys.contains(&record.key)).collect(),
        behind: rows.iter().filter(|(.., behind)| *behind).map(|(_, queue, _)| *queue).collect(),
    })
}

/// What a claim took. Bodies are read afterwards, since they may be long.
pub(super) struct Taken {
    pub(super) claimed: Claimed,
    /// The length of each attempt's body.
    pub(super) lengths: HashMap<i64, u64>,
}

/// One statement takes; no lock outlives it. What it takes and what it needs to know is read by indexes that
/// hold nothing else, so its time does not depend on how many events wait.
pub(super) async fn claim(on: &mut Session, wanted: Wanted) -> Outcome<Taken> {
    let mut taken = Taken { claimed: Claimed::default(), lengths: HashMap::new() };
    let (due, next, overdue) = look(on, wanted).await?;
    if overdue {
        let buried = bury(on, wanted).await?;
        taken.claimed.buried = buried.len() as u64;
        call(on, &buried).await?;
    }
    if !due {
        taken.claimed.next_due = next;
        return Ok(taken);
    }
    let rows = take(on, wanted).await?;
    let mut attempts = rows.iter().map(attempt).collect::<Outcome<Vec<_>>>()?;
    attempts.sort_by_key(|attempt| attempt.lease.seq);
    for row in &rows {
        let bytes = u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0);
        taken.lengths.insert(row.try_get("seq")?, bytes);
    }
    taken.claimed.attempts = attempts;
    Ok(taken)
}

/// After a claim: the attempts that must be given back, and when the next event is due.
pub(super) async fn after_claim(
    on: &mut Session,
    wanted: Wanted,
    attempts: &[Attempt],
) -> Outcome<(Vec<Lease>, Option<Duration>)> {
    let rivals =
        if wanted.ordered && !attempts.is_empty() { rivals(on, attempts).await? } else { Vec::new() };
    // When there was room for more, then whatever is due cannot be taken now.
    let all = attempts.len() >= wanted.events as usize;
    let sql = on.tables.sql(&format!(
        "SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events \
         WHERE {} AND due > CASE WHEN $1 THEN '-infinity' ELSE now() END",
        candidates(wanted)
    ));
    let wait: Option<f64> = sqlx::query_scalar(sql).bind(all).fetch_one(&mut on.connection).await?;
    Ok((rivals, wait.map(span)))
}

/// Each has an index by `due`.
fn candidates(wanted: Wanted) -> &'static str {
    if wanted.ordered { "state <= 1 AND NOT behind" } else { "state <= 1" }
}

/// Whether something is due, when the next event is, and whether leases are over that are to be given up.
async fn look(on: &mut Session, wanted: Wanted) -> Outcome<(bool, Option<Duration>, bool)> {
    let sql = on.tables.sql(&format!(
        "SELECT (SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events WHERE {}), \
         EXISTS (SELECT 1 FROM smartshape_inbox_events WHERE {OVERDUE})",
        candidates(wanted)
    ));
    let (wait, overdue): (Option<f64>, bool) = sqlx::query_as(sql)
        .bind(i64::from(wanted.max_lost_leases))
        .bind(i64::from(wanted.max_attempts))
        .fetch_one(&mut on.connection)
        .await?;
    let next = wait.map(span);
    Ok((next.is_some_and(|wait| wait.is_zero()), next, overdue))
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

const OVERDUE: &str = "state = 1 AND due <= now() AND (lost + 1 >= $1 OR attempts >= $2)";

async fn bury(on: &mut Session, wanted: Wanted) -> Outcome<Vec<Queue>> {
    let sql = on.tables.sql(&format!(
        "WITH over AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE {OVERDUE} FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 3, settled = now(), lost = lost + 1, \
           error = coalesce(error || '; then ', '') || $3 FROM over WHERE e.seq = over.seq RETURNING e.file_hash"
    ));
    sqlx::query_scalar(sql)
        .bind(i64::from(wanted.max_lost_leases))
        .bind(i64::from(wanted.max_attempts))
        .bind(LEASE_LOST)
        .fetch_all(&mut on.connection)
        .await
}

/// The candidates are chosen once: as a subquery they could be chosen for each row, and more be locked than
/// was asked for. In order, a candidate must be the earliest open event of its queue: whoever looks at the same
/// time sees the same one, and only one of them gets its row.
async fn take(on: &mut Session, wanted: Wanted) -> Outcome<Vec<PgRow>> {
    let first = if wanted.ordered {
        "AND (SELECT o.seq FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = e.file_hash \
           ORDER BY o.seq LIMIT 1) = e.seq \
         AND (SELECT w.seq FROM smartshape_inbox_events w WHERE w.state = 1 AND w.file_hash = e.file_hash \
           AND w.seq <> e.seq AND w.due > now() LIMIT 1) IS NULL"
    } else {
        ""
    };
    let sql = on.tables.sql(&format!(
        "WITH chosen AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e WHERE {} AND due <= now() \
           AND version <= $2 {first} ORDER BY due, seq LIMIT $3 FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 1, due = now() + $1 * interval '1 ms', fence = fence + 1, \
           attempts = attempts + 1, lost = lost + (state = 1)::int, behind = false FROM chosen WHERE e.seq = chosen.seq \
         RETURNING e.seq, fence, key, attempts, received, secret, traceparent, bytes",
        candidates(wanted)
    ));
    sqlx::query(sql)
        .bind(milliseconds(wanted.lease))
        .bind(i32::from(RECORD_VERSION))
        .bind(i64::from(wanted.events))
        .fetch_all(&mut on.connection)
        .await
}

/// A replay can put an event before one that another worker is just taking: then neither statement sees the
/// other. Each looks again after its commit, so at least the later one of both sees it.
async fn rivals(on: &mut Session, attempts: &[Attempt]) -> Outcome<Vec<Lease>> {
    let sql = on.tables.sql(
        "SELECT e.seq, e.fence FROM unnest($1::bigint[]) AS t (seq) JOIN smartshape_inbox_events e ON e.seq = t.seq \
         WHERE (SELECT w.seq FROM smartshape_inbox_events w WHERE w.state = 1 AND w.file_hash = e.file_hash \
           AND w.seq <> e.seq AND w.due > now() LIMIT 1) IS NOT NULL",
    );
    let seqs: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.seq).collect();
    let rows = sqlx::query(sql).bind(seqs).fetch_all(&mut on.connection).await?;
    rows.iter().map(lease).collect()
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

pub(super) async fn bodies(on: &mut Session, seqs: &[i64]) -> Outcome<HashMap<i64, Bytes>> {
    let sql = on.tables.sql("SELECT seq, body FROM smartshape_inbox_bodies WHERE seq = ANY ($1)");
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).bind(seqs).fetch_all(&mut on.connection).await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

/// A row that somebody else has locked at the moment counts as held until the next time: it must not keep the
/// other leases from being renewed.
pub(super) async fn renew(on: &mut Session, leases: &[Lease], lease: Duration) -> Outcome<Vec<Lease>> {
    let sql = on.tables.sql(
        "WITH held AS MATERIALIZED (SELECT e.seq, e.fence FROM unnest($2::bigint[], $3::bigint[]) AS l (seq, fence) \
             JOIN smartshape_inbox_events e ON e.seq = l.seq AND e.fence = l.fence AND e.state = 1), \
           free AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e JOIN held ON e.seq = held.seq \
             WHERE e.fence = held.fence AND e.state = 1 FOR UPDATE OF e SKIP LOCKED), \
           renewed AS (UPDATE smartshape_inbox_events e SET due = now() + $1 * interval '1 ms' FROM free WHERE e.seq = free.seq) \
         SELECT seq, fence FROM held",
    );
    let rows = sqlx::query(sql)
        .bind(milliseconds(lease))
        .bind(seqs(leases))
        .bind(fences(leases))
        .fetch_all(&mut on.connection)
        .await?;
    rows.iter().map(self::lease).collect()
}

/// The leases that were held, and the queues in which an event ended. One statement for all. A row that somebody
/// has locked for longer than a statement waits for locks must not keep the other results from being recorded:
/// its lease counts as lost.
pub(super) async fn settle(
    on: &mut Session,
    settlements: &[Settlement],
) -> Outcome<(Vec<Lease>, Vec<Queue>)> {
    match settle_with(on, settlements, "").await {
        Err(error) if code(&error).as_deref() == Some("55P03") => {
            settle_with(on, settlements, "SKIP LOCKED").await
        }
        settled => settled,
    }
}

pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

async fn settle_with(
    on: &mut Session,
    settlements: &[Settlement],
    skip: &str,
) -> Outcome<(Vec<Lease>, Vec<Queue>)> {
    let (mut leases, mut states, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut errors, mut given_back, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for Settlement { lease, verdict } in settlements {
        let (state, after, error, back, keep) = match verdict {
            Verdict::Completed { keep_body } => (2_i16, 0, None, 0_i32, *keep_body),
            Verdict::Retry { after, error } => (0, milliseconds(*after), Some(&**error), 0, true),
            Verdict::Dead { error } => (3, 0, Some(&**error), 0, true),
            Verdict::GivenBack => (0, 0, None, 1, true),
        };
        leases.push(*lease);
        states.push(state);
        waits.push(after);
        errors.push(error);
        given_back.push(back);
        kept.push(keep);
    }
    let sql = on.tables.sql(&format!(
        "WITH given AS MATERIALIZED (SELECT *, CASE WHEN g.state = 2 THEN 64 ELSE 200 END AS chars \
             FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], \
             $5::text[], $6::int[], $7::bool[]) AS g (seq, fence, state, wait, error, back, keep)), \
           held AS MATERIALIZED (SELECT e.seq, e.fence FROM smartshape_inbox_events e JOIN given g ON e.seq = g.seq \
             WHERE e.fence = g.fence AND e.state = 1 ORDER BY e.seq FOR UPDATE OF e {skip}), \
           ended AS (UPDATE smartshape_inbox_events e SET state = g.state, due = now() + g.wait * interval '1 ms', \
             attempts = e.attempts - g.back, error = CASE WHEN g.state <> 2 THEN coalesce(g.error, e.error) END, \
             settled = CASE WHEN g.state >= 2 THEN now() END, owner = CASE WHEN g.state <> 2 THEN e.owner END, \
             secret = CASE WHEN g.keep THEN e.secret END, traceparent = CASE WHEN g.keep THEN e.traceparent END, \
             event = left(e.event, g.chars), file = left(e.file, g.chars), uuid = left(e.uuid, g.chars) \
             FROM given g, held WHERE e.seq = held.seq AND g.seq = held.seq AND g.fence = held.fence \
             RETURNING e.seq, e.fence, e.state, e.file_hash, g.keep), \
           gone AS (DELETE FROM smartshape_inbox_bodies b USING ended WHERE b.seq = ended.seq AND NOT ended.keep) \
         SELECT seq, fence, file_hash, state >= 2 AS over FROM ended"
    ));
    let rows: Vec<(i64, i64, Queue, bool)> = sqlx::query_as(sql)
        .bind(seqs(&leases))
        .bind(fences(&leases))
        .bind(states)
        .bind(waits)
        .bind(errors)
        .bind(given_back)
        .bind(kept)
        .fetch_all(&mut on.connection)
        .await?;
    let held = rows.iter().map(|&(seq, fence, ..)| Lease { seq, fence }).collect();
    Ok((held, rows.into_iter().filter(|(.., over)| *over).map(|(_, _, queue, _)| queue).collect()))
}

/// Records the completion within a handler's own transaction, whose search path is the handler's. Returns the
/// queue; `None` when the lease was lost. Until its commit, the transaction must not idle for longer than `limit`.
pub(super) async fn complete_within(
    connection: &mut PgConnection,
    tables: &Tables,
    lease: Lease,
    keep_body: bool,
    limit: Duration,
) -> Outcome<Option<Queue>> {
    let sql = tables.sql(
        "WITH ended AS (UPDATE smartshape_inbox_events e SET state = 2, settled = pg_catalog.now(), error = NULL, owner = NULL, \
             secret = CASE WHEN $3 THEN e.secret END, traceparent = CASE WHEN $3 THEN e.traceparent END, \
             event = pg_catalog.left(e.event, 64), file = pg_catalog.left(e.file, 64), uuid = pg_catalog.left(e.uuid, 64) \
             WHERE e.seq OPERATOR(pg_catalog.=) $1 AND e.fence OPERATOR(pg_catalog.=) $2 \
             AND e.state OPERATOR(pg_catalog.=) 1::pg_catalog.int2 \
             AND pg_catalog.set_config('idle_in_transaction_session_timeout'::pg_catalog.text, $4, true) IS NOT NULL \
             RETURNING e.seq, e.file_hash), \
           gone AS (DELETE FROM smartshape_inbox_bodies b USING ended WHERE b.seq OPERATOR(pg_catalog.=) ended.seq AND NOT $3) \
         SELECT file_hash FROM ended",
    );
    sqlx::query_scalar(sql)
        .bind(lease.seq)
        .bind(lease.fence)
        .bind(keep_body)
        .bind(limit.as_millis().to_string())
        .fetch_optional(connection)
        .await
}

/// The earliest open event of each queue is behind no longer. To be called after a commit: after one that ended
/// an event, and after one that stored an event behind another. Of two such commits at once, whoever calls
/// later sees the effects of both.
pub(super) async fn call(on: &mut Session, queues: &[Queue]) -> Outcome<()> {
    if queues.is_empty() {
        return Ok(());
    }
    let sql = on.tables.sql(
        "UPDATE smartshape_inbox_events e SET behind = false FROM (SELECT (SELECT n.seq FROM smartshape_inbox_events n \
           WHERE n.state <= 1 AND n.file_hash = q.queue ORDER BY n.seq LIMIT 1) AS seq FROM unnest($1::bigint[]) AS q (queue)) h \
         WHERE e.seq = h.seq AND e.behind",
    );
    sqlx::query(sql).bind(queues).execute(&mut on.connection).await.map(drop)
}

/// As [`call`], for all queues: some process may have ended between its commit and its call, or be of a version
/// that does not call.
pub(super) async fn call_all(on: &mut Session) -> Outcome<()> {
    let sql = on.tables.sql(
        "WITH RECURSIVE heads (queue, seq) AS ( \
           (SELECT file_hash, seq FROM smartshape_inbox_events WHERE state <= 1 ORDER BY file_hash, seq LIMIT 1) UNION ALL \
           SELECT n.file_hash, n.seq FROM heads CROSS JOIN LATERAL (SELECT o.file_hash, o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash > heads.queue ORDER BY o.file_hash, o.seq LIMIT 1) n) \
         UPDATE smartshape_inbox_events e SET behind = false FROM heads h WHERE e.seq = h.seq AND e.behind",
    );
    sqlx::query(sql).execute(&mut on.connection).await.map(drop)
}

/// All columns, whole numbers with 64 bits.
const COLUMNS: &str = "SELECT e.seq, e.key, e.state::bigint AS state, e.event, e.file, e.uuid, e.owner, e.secret, e.triggered, \
     e.received, e.bytes, e.attempts::bigint AS attempts, e.lost::bigint AS lost, e.error FROM smartshape_inbox_events e WHERE ";

pub(super) async fn list(on: &mut Session, filter: &Filter) -> Outcome<Vec<StoredEvent>> {
    let mut query = filtered(on, COLUMNS, filter);
    query.build().fetch_all(&mut on.connection).await?.iter().map(rows::stored).collect()
}

/// The statement with the filter's conditions, order and limit at its end.
fn filtered(on: &Session, statement: &str, filter: &Filter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(on.tables.sql(statement).0);
    rows::push_filter(&mut query, filter);
    query
}

pub(super) async fn show(on: &mut Session, key: DeliveryKey) -> Outcome<Option<StoredDelivery>> {
    let Some(event) = list(on, &Filter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = bodies(on, &[event.seq]).await?.remove(&event.seq);
    Ok(Some(StoredDelivery::new(event, body)))
}

pub(super) async fn replay(on: &mut Session, filter: &Filter) -> Outcome<u64> {
    let mut query = filtered(
        on,
        "SELECT e.seq FROM smartshape_inbox_events e WHERE e.state >= 2 \
         AND EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) AND ",
        filter,
    );
    query.push(" FOR UPDATE");
    let mut transaction = on.connection.begin().await?;
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *transaction).await?;
    // Only now is it seen whether a purge or a sweep that held a row has deleted its body.
    let waiting = on.tables.sql(
        "UPDATE smartshape_inbox_events e SET state = 0, attempts = 0, lost = 0, settled = NULL, due = now(), \
           behind = r.later OR (SELECT o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq LIMIT 1) IS NOT NULL \
         FROM (SELECT n.seq, row_number() OVER (PARTITION BY n.file_hash ORDER BY n.seq) > 1 AS later \
             FROM smartshape_inbox_events n JOIN smartshape_inbox_bodies b ON b.seq = n.seq WHERE n.seq = ANY ($1)) r \
         WHERE e.seq = r.seq RETURNING e.file_hash",
    );
    let queues: Vec<Queue> = sqlx::query_scalar(waiting).bind(numbers).fetch_all(&mut *transaction).await?;
    // Those that were the first of their queues until now.
    let behind = on.tables.sql(
        "UPDATE smartshape_inbox_events e SET behind = true WHERE e.state <= 1 AND e.state = 0 AND NOT e.behind \
         AND e.file_hash = ANY ($1) AND (SELECT o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq LIMIT 1) IS NOT NULL",
    );
    sqlx::query(behind).bind(&queues).execute(&mut *transaction).await?;
    transaction.commit().await?;
    call(on, &queues).await?;
    Ok(queues.len() as u64)
}

pub(super) async fn purge(on: &mut Session, filter: &Filter) -> Outcome<u64> {
    let mut query = filtered(
        on,
        "SELECT e.seq FROM smartshape_inbox_events e WHERE e.state <> 1 \
         AND (e.state <> 2 OR EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq)) AND ",
        filter,
    );
    query.push(" FOR UPDATE SKIP LOCKED");
    let mut transaction = on.connection.begin().await?;
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *transaction).await?;
    let completed = on.tables.sql(
        "UPDATE smartshape_inbox_events SET state = 2, settled = CASE WHEN state = 2 THEN settled ELSE now() END, \
           error = NULL, owner = NULL, secret = NULL, traceparent = NULL, \
           event = left(event, 64), file = left(file, 64), uuid = left(uuid, 64) WHERE seq = ANY ($1) RETURNING file_hash",
    );
    let queues: Vec<Queue> =
        sqlx::query_scalar(completed).bind(&numbers).fetch_all(&mut *transaction).await?;
    let bodies = on.tables.sql("DELETE FROM smartshape_inbox_bodies WHERE seq = ANY ($1)");
    let purged = sqlx::query(bodies).bind(&numbers).execute(&mut *transaction).await?.rows_affected();
    transaction.commit().await?;
    call(on, &queues).await?;
    Ok(purged)
}

pub(super) async fn stats(on: &mut Session) -> Outcome<Stats> {
    let mut stats = Stats { stored_bytes: used_bytes(on).await?, ..Stats::default() };
    let open: Vec<(i16, i64, f64)> = sqlx::query_as(on.tables.sql(
        "SELECT state, count(*), extract(epoch FROM clock_timestamp() - min(stored))::float8 \
         FROM smartshape_inbox_events WHERE state <= 1 GROUP BY state",
    ))
    .fetch_all(&mut on.connection)
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
    let dead: i64 =
        sqlx::query_scalar(on.tables.sql("SELECT count(*) FROM smartshape_inbox_events WHERE state = 3"))
            .fetch_one(&mut on.connection)
            .await?;
    stats.dead = u64::try_from(dead).unwrap_or(0);
    Ok(stats)
}

pub(super) async fn used_bytes(on: &mut Session) -> Outcome<u64> {
    let bytes: i64 = sqlx::query_scalar(on.tables.sql("SELECT pg_total_relation_size('smartshape_inbox_events') + pg_total_relation_size('smartshape_inbox_bodies')"))
    .fetch_one(&mut on.connection)
    .await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// What events take that are not completed, each part by an index that holds no others.
pub(super) async fn unfinished_bytes(on: &mut Session) -> Outcome<u64> {
    let sql = on.tables.sql(
        "SELECT (coalesce((SELECT sum(bytes + $1) FROM smartshape_inbox_events WHERE state <= 1), 0) \
         + coalesce((SELECT sum(bytes + $1) FROM smartshape_inbox_events WHERE state = 3), 0))::bigint",
    );
    let bytes: i64 =
        sqlx::query_scalar(sql).bind(ROW_BYTES.cast_signed()).fetch_one(&mut on.connection).await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// At most so many are forgotten in one statement.
pub(super) const FORGOTTEN_AT_ONCE: u64 = 10 * SWEEP_ROWS.unsigned_abs();

/// Forgets the oldest completed events beyond so many. Whoever does the same meanwhile forgets the same ones.
pub(super) async fn forget(on: &mut Session, capacity: u64) -> Outcome<u64> {
    let sql = on.tables.sql(
        "WITH newest AS MATERIALIZED (SELECT settled FROM smartshape_inbox_events WHERE state = 2 \
           ORDER BY settled DESC OFFSET $1 LIMIT 1), \
         old AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e, newest WHERE e.state = 2 \
           AND e.settled <= newest.settled ORDER BY e.settled LIMIT $2 FOR UPDATE OF e SKIP LOCKED), \
         bodies AS (DELETE FROM smartshape_inbox_bodies b USING old WHERE b.seq = old.seq) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq",
    );
    let done = sqlx::query(sql)
        .bind(i64::try_from(capacity).unwrap_or(i64::MAX))
        .bind(FORGOTTEN_AT_ONCE.cast_signed())
        .execute(&mut on.connection)
        .await?;
    Ok(done.rows_affected())
}

pub(super) async fn sweep(on: &mut Session, keep: Retention) -> Outcome<u64> {
    let bodies = sqlx::query(on.tables.sql("DELETE FROM smartshape_inbox_bodies WHERE seq IN (SELECT e.seq FROM smartshape_inbox_events e \
         JOIN smartshape_inbox_bodies b ON b.seq = e.seq \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' LIMIT $2 FOR UPDATE OF e SKIP LOCKED)"))
    .bind(milliseconds(keep.bodies.min(keep.tombstones)))
    .bind(SWEEP_ROWS)
    .execute(&mut on.connection)
    .await?;
    let tombstones = sqlx::query(on.tables.sql("WITH old AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' \
         AND NOT EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) LIMIT $2 FOR UPDATE SKIP LOCKED) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq"))
    .bind(milliseconds(keep.tombstones))
    .bind(SWEEP_ROWS)
    .execute(&mut on.connection)
    .await?;
    Ok(bodies.rows_affected() + tombstones.rows_affected())
}

/// Whether an event can be stored, without storing one: on a primary, with all that an insert needs.
pub(super) async fn ping(on: &mut Session) -> Outcome<Option<&'static str>> {
    let sql = on.tables.sql(
        "SELECT current_setting('transaction_read_only') = 'on', \
           has_table_privilege('smartshape_inbox_events', 'INSERT') AND has_table_privilege('smartshape_inbox_events', 'SELECT') \
             AND has_table_privilege('smartshape_inbox_events', 'UPDATE') AND has_table_privilege('smartshape_inbox_events', 'DELETE') \
             AND has_table_privilege('smartshape_inbox_bodies', 'INSERT') AND has_table_privilege('smartshape_inbox_bodies', 'SELECT') \
             AND has_table_privilege('smartshape_inbox_bodies', 'DELETE'), \
           s.name IS NOT NULL, coalesce(has_sequence_privilege(s.name, 'USAGE'), false) \
         FROM (SELECT pg_get_serial_sequence('smartshape_inbox_events', 'seq') AS name) s",
    );
    let (read_only, tables, sequence, usage): (bool, bool, bool, bool) =
        sqlx::query_as(sql).fetch_one(&mut on.connection).await?;
    Ok(if read_only {
        Some("the server is read-only: connect to the primary")
    } else if !tables {
        Some("the user lacks a permission on the inbox's tables: see the grants in the README")
    } else if !sequence {
        Some("the sequence of the inbox's events is gone: restore it")
    } else if !usage {
        Some("the user may not use the sequence of the inbox's events: see the grants in the README")
    } else {
        None
    })
}

fn seqs(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.seq).collect()
}

fn fences(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.fence).collect()
}
