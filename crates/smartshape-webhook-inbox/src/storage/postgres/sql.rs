//! The SQL statements. They run on a [`Session`], whose search path has only PostgreSQL's own schemas. The statement in
//! a transactional handler's transaction qualifies all names, since its search path is the handler's. Times are the server's.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use smartshape_webhook::{ClaimState, DeliveryKey, LeaseToken};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Postgres, QueryBuilder, Row as _};

use super::connections::{self, Session, Tables};
use crate::activity::{Minute, Numbers};
use crate::event::{
    EVENT_VERSION, EventFilter, InboxCounts, InboxStats, MAX_EXAMINED, NewEvent, StoredDelivery, StoredEvent,
};
use crate::operations::{FailedAttempt, Pause, WORKER_GONE_AFTER, WorkerInfo, WorkerReport};
use crate::reason::{DeadLetterReason, ReasonId};
use crate::storage::rows::{self, WORKER_FORGOTTEN_AFTER, key_of, time_of};
use crate::storage::{
    ACTIVITY_MINUTES, Attempt, AttemptOutcome, AttemptResult, Chunk, ClaimRequest, ClaimResponse,
    KEPT_ATTEMPTS, LEASE_LOST, Lease, Retention, Settled, counted_bytes, milliseconds,
};

/// The hash of a file and webhook, by which events are ordered.
pub(super) type Queue = i64;

pub(super) type Outcome<T> = Result<T, sqlx::Error>;

/// Switches synchronous commit on for the statement, should a reload of the server's settings have switched it off, and
/// makes it wait for the standby also when it finds that all was stored before. What it found may not have reached the
/// standby: a commit whose wait is cancelled, or cut short by a restart, is visible at once. A transaction that writes
/// nothing to the log would not wait; the message is an empty record, which nobody reads.
const DURABLE: &str = "durable AS MATERIALIZED (SELECT set_config('synchronous_commit', \
     CASE WHEN s.level <> 'off' THEN s.level ELSE 'on' END, true), pg_logical_emit_message(true, 'smartshape_inbox', '') \
     FROM (SELECT current_setting('synchronous_commit') AS level) s)";
const AS_DURABLE_AS_SET: &str = "durable AS (SELECT true)";

pub(super) struct Inserted {
    pub(super) fresh: Vec<bool>,
    /// Queues in which an event was stored behind an earlier one.
    pub(super) behind: Vec<Queue>,
}

/// Inserts a batch with one statement, so one round trip and one commit. Sequence numbers follow the order of arrival;
/// the rows are written in the order of their keys, which prevents deadlocks between processes.
pub(super) async fn insert(on: &mut Session, events: &[NewEvent], asynchronous: bool) -> Outcome<Inserted> {
    macro_rules! column {
        ($record:ident => $value:expr) => {
            events.iter().map(|$record| $value).collect::<Vec<_>>()
        };
    }
    // Subqueries with LIMIT are evaluated per row, by the index; EXISTS could be planned as a scan of all open events.
    let durable = if asynchronous { AS_DURABLE_AS_SET } else { DURABLE };
    let sql = on.tables.sql(&format!(
        "WITH given AS MATERIALIZED ( \
           SELECT nextval(pg_get_serial_sequence('smartshape_inbox_events', 'seq')::regclass) AS seq, g.* FROM \
             unnest($1::int[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
               $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bytea[]) \
             AS g (version, key, file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, body)), \
         placed AS (SELECT given.*, row_number() OVER (PARTITION BY file_hash ORDER BY seq) > 1 OR (SELECT true \
             FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = given.file_hash LIMIT 1) IS NOT NULL AS behind \
           FROM given), \
         {durable}, \
         fresh AS ( \
           INSERT INTO smartshape_inbox_events (seq, version, key, state, due, file_hash, event, file, uuid, owner, secret, \
             traceparent, triggered, received, bytes, behind) \
           SELECT seq, version, key, 0, now(), file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, \
             length(body), behind FROM durable, placed ORDER BY key \
           ON CONFLICT (key) DO NOTHING RETURNING seq, key, file_hash, behind), \
         kept AS ( \
           INSERT INTO smartshape_inbox_bodies (seq, body) SELECT given.seq, given.body FROM fresh JOIN given USING (seq)) \
         SELECT key, file_hash, behind FROM fresh"
    ));
    let rows: Vec<(Vec<u8>, Queue, bool)> = sqlx::query_as(sql)
        .bind(column!(event => i32::from(event.version)))
        .bind(column!(event => event.key.as_bytes().as_slice()))
        .bind(column!(event => event.file_hash))
        .bind(column!(event => event.name.as_str()))
        .bind(column!(event => event.file.as_str()))
        .bind(column!(event => event.uuid.as_str()))
        .bind(column!(event => event.owner.as_str()))
        .bind(column!(event => event.secret_name.as_deref()))
        .bind(column!(event => event.traceparent.as_deref()))
        .bind(column!(event => event.triggered_at.map(|time| time.as_microsecond())))
        .bind(column!(event => event.received_at.as_microsecond()))
        .bind(column!(event => event.body.as_ref()))
        .fetch_all(&mut on.connection)
        .await?;
    let keys = rows.iter().map(|(key, ..)| key_of(key)).collect::<Outcome<HashSet<_>>>()?;
    Ok(Inserted {
        fresh: events.iter().map(|event| keys.contains(&event.key)).collect(),
        behind: rows.iter().filter(|(.., behind)| *behind).map(|(_, queue, _)| *queue).collect(),
    })
}

/// The result of a claim. Bodies are read afterwards, since they may be long.
pub(super) struct ClaimedRows {
    pub(super) claimed: ClaimResponse,
    /// The length of each attempt's body, by sequence number.
    pub(super) lengths: HashMap<i64, u64>,
}

/// Claims events with one statement, and holds no lock after it. All reads use partial indexes, so the time does not
/// depend on the number of waiting events.
pub(super) async fn claim(on: &mut Session, request: ClaimRequest) -> Outcome<ClaimedRows> {
    let mut taken = ClaimedRows { claimed: ClaimResponse::default(), lengths: HashMap::new() };
    let (due, next, exhausted) = look(on, request).await?;
    if exhausted {
        let dead_lettered = dead_letter_exhausted(on, request).await?;
        taken.claimed.dead_lettered = dead_lettered.len() as u64;
        mark_runnable(on, &dead_lettered).await?;
    }
    if !due {
        taken.claimed.next_due = next;
        return Ok(taken);
    }
    let rows = take(on, request).await?;
    let mut attempts = rows.iter().map(attempt).collect::<Outcome<Vec<_>>>()?;
    attempts.sort_by_key(|attempt| attempt.lease.seq);
    for row in &rows {
        let bytes = u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0);
        taken.lengths.insert(row.try_get("seq")?, bytes);
    }
    taken.claimed.attempts = attempts;
    Ok(taken)
}

/// After a claim: the leases that must be released, and when the next event is due.
pub(super) async fn check_claim(
    on: &mut Session,
    request: ClaimRequest,
    attempts: &[Attempt],
) -> Outcome<(Vec<Lease>, Option<Duration>)> {
    let conflicts =
        if request.ordered && !attempts.is_empty() { conflicts(on, attempts).await? } else { Vec::new() };
    // When fewer events were claimed than requested, the other due events cannot be claimed now.
    let all = attempts.len() >= request.max_events as usize;
    let sql = on.tables.sql(&format!(
        "SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events \
         WHERE {} AND due > CASE WHEN $1 THEN '-infinity' ELSE now() END",
        candidates(request)
    ));
    let wait: Option<f64> = sqlx::query_scalar(sql).bind(all).fetch_one(&mut on.connection).await?;
    Ok((conflicts, wait.map(span)))
}

/// Each condition has a partial index by `due`.
fn candidates(request: ClaimRequest) -> &'static str {
    if request.ordered { "state <= 1 AND NOT behind" } else { "state <= 1" }
}

/// Whether an event is due, when the next one is, and whether an expired lease makes an event a dead letter.
async fn look(on: &mut Session, request: ClaimRequest) -> Outcome<(bool, Option<Duration>, bool)> {
    let sql = on.tables.sql(&format!(
        "SELECT (SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events \
           WHERE {} AND {NOT_PAUSED}), \
         EXISTS (SELECT 1 FROM smartshape_inbox_events WHERE {EXHAUSTED} AND due <= now() AND {NOT_PAUSED})",
        candidates(request)
    ));
    let (wait, exhausted): (Option<f64>, bool) = sqlx::query_as(sql)
        .bind(i64::from(request.max_lost_leases))
        .bind(i64::from(request.max_attempts))
        .fetch_one(&mut on.connection)
        .await?;
    let next = wait.map(span);
    Ok((next.is_some_and(|wait| wait.is_zero()), next, exhausted))
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

const NOT_PAUSED: &str = "NOT EXISTS (SELECT 1 FROM smartshape_inbox_pause)";

/// A running event that becomes a dead letter, and is not attempted again, when its lease expires.
const EXHAUSTED: &str = "state = 1 AND (lost + 1 >= $1 OR attempts >= $2)";

async fn dead_letter_exhausted(on: &mut Session, request: ClaimRequest) -> Outcome<Vec<Queue>> {
    let sql = on.tables.sql(&format!(
        "WITH over AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE {EXHAUSTED} AND due <= now() \
           FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 3, settled = now(), lost = lost + 1, error_group = NULL, \
           error = coalesce(error || '; then ', '') || $3 FROM over WHERE e.seq = over.seq RETURNING e.file_hash"
    ));
    sqlx::query_scalar(sql)
        .bind(i64::from(request.max_lost_leases))
        .bind(i64::from(request.max_attempts))
        .bind(LEASE_LOST)
        .fetch_all(&mut on.connection)
        .await
}

/// The candidates are materialized: a subquery could be evaluated per row, and lock more rows than requested. With
/// order, a candidate must be the earliest open event of its queue: concurrent claims see the same one, and only one
/// of them locks its row. An exhausted event's lease may expire between [`look`] and this statement: the next claim
/// makes it a dead letter.
async fn take(on: &mut Session, request: ClaimRequest) -> Outcome<Vec<PgRow>> {
    let first = if request.ordered {
        "AND (SELECT o.seq FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = e.file_hash \
           ORDER BY o.seq LIMIT 1) = e.seq \
         AND (SELECT w.seq FROM smartshape_inbox_events w WHERE w.state = 1 AND w.file_hash = e.file_hash \
           AND w.seq <> e.seq AND w.due > now() LIMIT 1) IS NULL"
    } else {
        ""
    };
    let sql = on.tables.sql(&format!(
        "WITH chosen AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e WHERE {} AND due <= now() \
           AND NOT ({EXHAUSTED}) AND {NOT_PAUSED} AND version <= $4 {first} ORDER BY due, seq LIMIT $5 \
           FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 1, due = now() + $3 * interval '1 ms', fence = fence + 1, \
           attempts = attempts + 1, lost = lost + (state = 1)::int, behind = false FROM chosen WHERE e.seq = chosen.seq \
         RETURNING e.seq, fence, key, attempts, received, secret, traceparent, bytes",
        candidates(request)
    ));
    sqlx::query(sql)
        .bind(i64::from(request.max_lost_leases))
        .bind(i64::from(request.max_attempts))
        .bind(milliseconds(request.lease_ttl))
        .bind(i32::from(EVENT_VERSION))
        .bind(i64::from(request.max_events))
        .fetch_all(&mut on.connection)
        .await
}

/// A replay can put an event before one that another worker is claiming, so that neither statement sees the
/// other's. Each claim checks again after its commit, so at least the later one sees the conflict.
async fn conflicts(on: &mut Session, attempts: &[Attempt]) -> Outcome<Vec<Lease>> {
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

/// A row that another transaction has locked counts as held until the next renewal: it must not keep the
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

/// Records results with one statement, and returns the queues in which an event ended. It waits for no row that another
/// transaction has locked: the other results must be recorded, and leases renewed, meanwhile.
pub(super) async fn settle(on: &mut Session, results: &[AttemptResult]) -> Outcome<(Settled, Vec<Queue>)> {
    let (mut leases, mut states, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut errors, mut released, mut kept, mut groups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for AttemptResult { lease, outcome, .. } in results {
        let (state, after, error, back, keep) = match outcome {
            AttemptOutcome::Completed { keep_body } => (2_i16, 0, None, 0_i32, *keep_body),
            AttemptOutcome::Retry { after, error } => (0, milliseconds(*after), Some(&**error), 0, true),
            AttemptOutcome::DeadLetter { error } => (3, 0, Some(&**error), 0, true),
            AttemptOutcome::Released => (0, 0, None, 1, true),
        };
        leases.push(*lease);
        states.push(state);
        waits.push(after);
        errors.push(error);
        released.push(back);
        kept.push(keep);
        groups.push(outcome.reason().map(|reason| reason.0));
    }
    let took: Vec<i64> = results.iter().map(|result| milliseconds(result.took)).collect();
    let trimmed = results.iter().filter(|result| result.forgets_attempts() || result.exceeds_attempts());
    let trimmed: Vec<i64> = trimmed.map(|result| result.lease.seq).collect();
    let sql = on.tables.sql(
        "WITH given AS MATERIALIZED (SELECT *, CASE WHEN g.state = 2 THEN 64 ELSE 200 END AS chars \
             FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], \
             $5::text[], $6::int[], $7::bool[], $8::bigint[], $9::bigint[]) \
             AS g (seq, fence, state, wait, error, back, keep, error_group, took)), \
           held AS MATERIALIZED (SELECT e.seq, e.fence FROM smartshape_inbox_events e JOIN given g ON e.seq = g.seq \
             WHERE e.fence = g.fence AND e.state = 1 FOR UPDATE OF e SKIP LOCKED), \
           ended AS (UPDATE smartshape_inbox_events e SET state = g.state, due = now() + g.wait * interval '1 ms', \
             attempts = e.attempts - g.back, error = CASE WHEN g.state <> 2 THEN coalesce(g.error, e.error) END, \
             error_group = g.error_group, settled = CASE WHEN g.state >= 2 THEN now() END, owner = CASE WHEN g.state <> 2 THEN e.owner END, \
             traceparent = CASE WHEN g.keep THEN e.traceparent END, \
             event = left(e.event, g.chars), file = left(e.file, g.chars), uuid = left(e.uuid, g.chars) \
             FROM given g, held WHERE e.seq = held.seq AND g.seq = held.seq AND g.fence = held.fence \
             RETURNING e.seq, e.fence, e.state, e.file_hash, g.keep, e.attempts, g.error AS failure, g.took), \
           failed AS (INSERT INTO smartshape_inbox_failed_attempts (seq, fence, number, ended, took_ms, error) \
             SELECT seq, fence, attempts, now(), took, failure FROM ended WHERE failure IS NOT NULL ON CONFLICT DO NOTHING), \
           trimmed AS (DELETE FROM smartshape_inbox_failed_attempts a USING ended WHERE a.seq = ended.seq AND a.seq = ANY ($10) \
             AND (ended.state = 2 OR a.fence <= (SELECT o.fence FROM smartshape_inbox_failed_attempts o \
               WHERE o.seq = ended.seq ORDER BY o.fence DESC LIMIT 1 OFFSET $11))), \
           gone AS (DELETE FROM smartshape_inbox_bodies b USING ended WHERE b.seq = ended.seq AND NOT ended.keep) \
         SELECT seq, fence, file_hash, state >= 2 AS over, false AS locked FROM ended \
         UNION ALL SELECT e.seq, e.fence, e.file_hash, false, true FROM smartshape_inbox_events e JOIN given g ON e.seq = g.seq \
           WHERE e.fence = g.fence AND e.state = 1 AND NOT EXISTS (SELECT 1 FROM held WHERE held.seq = e.seq)",
    );
    let rows: Vec<(i64, i64, Queue, bool, bool)> = sqlx::query_as(sql)
        .bind(seqs(&leases))
        .bind(fences(&leases))
        .bind(states)
        .bind(waits)
        .bind(errors)
        .bind(released)
        .bind(kept)
        .bind(groups)
        .bind(took)
        .bind(trimmed)
        // Those that were recorded before this one.
        .bind(KEPT_ATTEMPTS - 1)
        .fetch_all(&mut on.connection)
        .await?;
    let leases = |locked| {
        let rows = rows.iter().filter(move |row| row.4 == locked);
        rows.map(|&(seq, fence, ..)| Lease { seq, fence }).collect()
    };
    let settled = Settled { recorded: leases(false), locked: leases(true) };
    Ok((settled, rows.iter().filter(|row| row.3).map(|row| row.2).collect()))
}

/// Records the completion within a handler's transaction, whose search path is the handler's. Returns the
/// queue; `None` when the lease was lost. From here on the server limits the transaction's statements and its idling.
pub(super) async fn complete_within(
    connection: &mut PgConnection,
    tables: &Tables,
    lease: Lease,
    keep_body: bool,
    timeout: Duration,
) -> Outcome<Option<Queue>> {
    let limits = format!(
        "SET LOCAL statement_timeout = {0}; SET LOCAL idle_in_transaction_session_timeout = {0}",
        connections::milliseconds(timeout)
    );
    sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut *connection).await?;
    let sql = tables.sql(
        "WITH ended AS (UPDATE smartshape_inbox_events e SET state = 2, settled = pg_catalog.now(), error = NULL, owner = NULL, \
             traceparent = CASE WHEN $3 THEN e.traceparent END, \
             event = pg_catalog.left(e.event, 64), file = pg_catalog.left(e.file, 64), uuid = pg_catalog.left(e.uuid, 64) \
             WHERE e.seq OPERATOR(pg_catalog.=) $1 AND e.fence OPERATOR(pg_catalog.=) $2 \
             AND e.state OPERATOR(pg_catalog.=) 1::pg_catalog.int2 \
             RETURNING e.seq, e.file_hash), \
           gone AS (DELETE FROM smartshape_inbox_bodies b USING ended WHERE b.seq OPERATOR(pg_catalog.=) ended.seq AND NOT $3), \
           forgotten AS (DELETE FROM smartshape_inbox_failed_attempts a WHERE a.seq OPERATOR(pg_catalog.=) $1 AND NOT $3 \
             AND $2 OPERATOR(pg_catalog.>) 1::pg_catalog.int8) \
         SELECT file_hash FROM ended",
    );
    sqlx::query_scalar(sql).bind(lease.seq).bind(lease.fence).bind(keep_body).fetch_optional(connection).await
}

/// Marks the earliest open event of each queue runnable. To be called after a commit that ended
/// an event, and after one that stored an event behind another: of two concurrent commits, the later call
/// sees the effects of both.
pub(super) async fn mark_runnable(on: &mut Session, queues: &[Queue]) -> Outcome<()> {
    if queues.is_empty() {
        return Ok(());
    }
    let sql = on.tables.sql(&format!(
        "WITH heads AS (SELECT (SELECT n.seq FROM smartshape_inbox_events n WHERE n.state <= 1 AND n.file_hash = q.queue \
           ORDER BY n.seq LIMIT 1) AS seq FROM unnest($1::bigint[]) AS q (queue)), {MARK_HEADS} SELECT true"
    ));
    sqlx::query(sql).bind(queues).execute(&mut on.connection).await.map(drop)
}

/// Whoever has locked a row marks it itself, or leaves it to the next pass, so nobody waits here: neither in a deadlock nor
/// for a client that is gone.
const MARK_HEADS: &str = "locked AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
       WHERE e.behind AND e.seq = ANY (ARRAY(SELECT seq FROM heads)) FOR UPDATE SKIP LOCKED), \
     marked AS (UPDATE smartshape_inbox_events e SET behind = false FROM locked WHERE e.seq = locked.seq)";

/// Number of queues that one statement of a pass over all queues reads, so that other statements get its connection and
/// its rows in between.
const MARK_QUEUES: i64 = 1000;

/// As [`mark_runnable`], for all queues from `first` on: a process may have ended between its commit and its call, or
/// be of a version that does not call. Returns the queue to continue with.
pub(super) async fn mark_all_runnable(on: &mut Session, first: Queue) -> Outcome<Option<Queue>> {
    let sql = on.tables.sql(&format!(
        "WITH RECURSIVE heads (queue, seq, number) AS ( \
           (SELECT file_hash, seq, 1 FROM smartshape_inbox_events WHERE state <= 1 AND file_hash >= $1 \
             ORDER BY file_hash, seq LIMIT 1) UNION ALL \
           SELECT n.file_hash, n.seq, heads.number + 1 FROM heads CROSS JOIN LATERAL (SELECT o.file_hash, o.seq \
             FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash > heads.queue \
             ORDER BY o.file_hash, o.seq LIMIT 1) n WHERE heads.number < $2), \
         {MARK_HEADS} SELECT max(queue) FROM heads HAVING count(*) = $2"
    ));
    let last: Option<Queue> =
        sqlx::query_scalar(sql).bind(first).bind(MARK_QUEUES).fetch_optional(&mut on.connection).await?;
    Ok(last.and_then(|last| last.checked_add(1)))
}

/// All columns, integers with 64 bits.
const COLUMNS: &str = "SELECT e.seq, e.key, e.state::bigint AS state, e.event, e.file, e.uuid, e.owner, e.secret, e.triggered, \
     e.received, e.bytes, e.attempts::bigint AS attempts, e.lost::bigint AS lost, e.error FROM smartshape_inbox_events e WHERE ";

pub(super) async fn list(on: &mut Session, filter: &EventFilter) -> Outcome<Vec<StoredEvent>> {
    let mut query = filtered(on, COLUMNS, filter);
    query.build().fetch_all(&mut on.connection).await?.iter().map(rows::stored).collect()
}

/// The statement with the filter's conditions, order and limit at its end.
fn filtered(on: &Session, statement: &str, filter: &EventFilter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(on.tables.sql(statement).0);
    rows::push_filter(&mut query, filter);
    query
}

pub(super) async fn get(on: &mut Session, key: DeliveryKey) -> Outcome<Option<StoredDelivery>> {
    let Some(event) = list(on, &EventFilter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = bodies(on, &[event.seq]).await?.remove(&event.seq);
    Ok(Some(StoredDelivery { event, body }))
}

pub(super) async fn replay(on: &mut Session, filter: &EventFilter) -> Outcome<Chunk> {
    let mut query = filtered(
        on,
        "SELECT e.seq FROM smartshape_inbox_events e WHERE e.state >= 2 \
         AND EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) AND ",
        filter,
    );
    query.push(" FOR UPDATE");
    let mut transaction = on.connection.begin().await?;
    let numbers: Vec<i64> = query.build_query_scalar().fetch_all(&mut *transaction).await?;
    // A purge or a sweep that held a row may have deleted its body while this waited.
    let waiting = on.tables.sql(
        "UPDATE smartshape_inbox_events e SET state = 0, attempts = 0, lost = 0, settled = NULL, error_group = NULL, due = now(), \
           behind = r.later OR (SELECT o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq LIMIT 1) IS NOT NULL \
         FROM (SELECT n.seq, row_number() OVER (PARTITION BY n.file_hash ORDER BY n.seq) > 1 AS later \
             FROM smartshape_inbox_events n JOIN smartshape_inbox_bodies b ON b.seq = n.seq WHERE n.seq = ANY ($1)) r \
         WHERE e.seq = r.seq RETURNING e.file_hash",
    );
    let queues: Vec<Queue> = sqlx::query_scalar(waiting).bind(&numbers).fetch_all(&mut *transaction).await?;
    // Events that were the first of their queues until now.
    let behind = on.tables.sql(
        "WITH later AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e WHERE e.state <= 1 AND e.state = 0 \
           AND NOT e.behind AND e.file_hash = ANY ($1) AND (SELECT o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq LIMIT 1) IS NOT NULL ORDER BY e.seq FOR UPDATE) \
         UPDATE smartshape_inbox_events e SET behind = true FROM later WHERE e.seq = later.seq",
    );
    sqlx::query(behind).bind(&queues).execute(&mut *transaction).await?;
    transaction.commit().await?;
    mark_runnable(on, &queues).await?;
    Ok(Chunk::new(&numbers, queues.len() as u64))
}

pub(super) async fn purge(on: &mut Session, filter: &EventFilter) -> Outcome<Chunk> {
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
    let attempts = on.tables.sql("DELETE FROM smartshape_inbox_failed_attempts WHERE seq = ANY ($1)");
    sqlx::query(attempts).bind(&numbers).execute(&mut *transaction).await?;
    transaction.commit().await?;
    mark_runnable(on, &queues).await?;
    Ok(Chunk::new(&numbers, purged))
}

pub(super) async fn stats(on: &mut Session) -> Outcome<InboxStats> {
    let mut stats = InboxStats { disk_bytes: used_bytes(on).await?, ..InboxStats::default() };
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
            stats.running = count;
        }
    }
    let dead_letters: i64 =
        sqlx::query_scalar(on.tables.sql("SELECT count(*) FROM smartshape_inbox_events WHERE state = 3"))
            .fetch_one(&mut on.connection)
            .await?;
    stats.dead_letters = u64::try_from(dead_letters).unwrap_or(0);
    Ok(stats)
}

pub(super) async fn failed_attempts(on: &mut Session, key: DeliveryKey) -> Outcome<Vec<FailedAttempt>> {
    let sql = on.tables.sql(
        "SELECT a.number::bigint, (extract(epoch FROM a.ended) * 1000000)::bigint, a.took_ms, a.error \
         FROM smartshape_inbox_failed_attempts a JOIN smartshape_inbox_events e ON e.seq = a.seq \
         WHERE e.key = $1 ORDER BY a.fence LIMIT 100",
    );
    let found: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sql).bind(key.as_bytes().as_slice()).fetch_all(&mut on.connection).await?;
    found.into_iter().map(rows::failed_attempt).collect()
}

pub(super) async fn record_activity(on: &mut Session, minutes: &[Minute]) -> Outcome<()> {
    macro_rules! column {
        ($field:ident) => {
            minutes.iter().map(|(_, numbers)| numbers.$field).collect::<Vec<_>>()
        };
    }
    let sql = on.tables.sql(
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
        .execute(&mut on.connection)
        .await
        .map(drop)
}

pub(super) async fn activity(on: &mut Session, from: i64, width: i64) -> Outcome<Vec<(i64, Numbers)>> {
    let sql = on.tables.sql(
        "SELECT minute / $2 AS slot, sum(stored)::bigint AS stored, sum(completed)::bigint AS completed, \
           sum(retried)::bigint AS retried, sum(dead_letters)::bigint AS dead_letters, \
           sum(handler_ms)::bigint AS handler_ms, max(max_handler_ms) AS max_handler_ms, \
           max(max_waiting) AS max_waiting, max(max_overdue_ms) AS max_overdue_ms \
         FROM smartshape_inbox_activity WHERE minute >= $1 GROUP BY 1",
    );
    let found = sqlx::query(sql).bind(from).bind(width).fetch_all(&mut on.connection).await?;
    found.iter().map(rows::activity).collect()
}

pub(super) async fn pause(on: &mut Session, by: &str) -> Outcome<()> {
    let sql = on.tables.sql(
        "INSERT INTO smartshape_inbox_pause (id, since, paused_by) VALUES (1, now(), $1) ON CONFLICT DO NOTHING",
    );
    sqlx::query(sql).bind(by).execute(&mut on.connection).await.map(drop)
}

pub(super) async fn resume(on: &mut Session) -> Outcome<()> {
    sqlx::query(on.tables.sql("DELETE FROM smartshape_inbox_pause"))
        .execute(&mut on.connection)
        .await
        .map(drop)
}

pub(super) async fn paused(on: &mut Session) -> Outcome<Option<Pause>> {
    let sql = on
        .tables
        .sql("SELECT (extract(epoch FROM since) * 1000000)::bigint, paused_by FROM smartshape_inbox_pause");
    let found: Option<(i64, String)> = sqlx::query_as(sql).fetch_optional(&mut on.connection).await?;
    found.map(|(since, by)| Ok(Pause { since: time_of(since)?, by })).transpose()
}

pub(super) async fn report_worker(on: &mut Session, report: &WorkerReport) -> Outcome<()> {
    let sql = on.tables.sql(
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
        .execute(&mut on.connection)
        .await
        .map(drop)
}

pub(super) async fn remove_worker(on: &mut Session, id: i64) -> Outcome<()> {
    let sql = on.tables.sql("DELETE FROM smartshape_inbox_workers WHERE id = $1");
    sqlx::query(sql).bind(id).execute(&mut on.connection).await.map(drop)
}

pub(super) async fn workers(on: &mut Session) -> Outcome<Vec<WorkerInfo>> {
    let sql = on.tables.sql(
        "SELECT host, pid, version, concurrency, running, (extract(epoch FROM started) * 1000000)::bigint AS started, \
           (extract(epoch FROM seen) * 1000000)::bigint AS seen FROM smartshape_inbox_workers \
         WHERE seen >= now() - $1 * interval '1 s' ORDER BY smartshape_inbox_workers.started, id LIMIT 1000",
    );
    let alive = i64::try_from(WORKER_GONE_AFTER.as_secs()).unwrap_or(i64::MAX);
    sqlx::query(sql).bind(alive).fetch_all(&mut on.connection).await?.iter().map(rows::worker).collect()
}

pub(super) async fn counts(on: &mut Session) -> Outcome<InboxCounts> {
    let disk_bytes = used_bytes(on).await?;
    let sql = on.tables.sql(
        "SELECT count(*), count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 0 AND due > now()), \
           extract(epoch FROM clock_timestamp() - min(due) FILTER (WHERE state = 0))::float8 \
         FROM (SELECT state, due FROM smartshape_inbox_events WHERE state <= 1 ORDER BY due LIMIT $1) o",
    );
    let (open, waiting, retrying, due): (i64, i64, i64, Option<f64>) =
        sqlx::query_as(sql).bind(i64::from(MAX_EXAMINED)).fetch_one(&mut on.connection).await?;
    // The server's estimate, or for a table that was never vacuumed the range of the numbers, which has gaps.
    let sql = on.tables.sql(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM smartshape_inbox_events WHERE state = 3 LIMIT $1) d), \
           coalesce((SELECT nullif(greatest(c.reltuples, 0), 0)::bigint FROM pg_class c \
               WHERE c.oid = 'smartshape_inbox_events'::regclass), \
             (SELECT max(seq) - min(seq) + 1 FROM smartshape_inbox_events), 0)",
    );
    let (dead_letters, stored): (i64, i64) =
        sqlx::query_as(sql).bind(i64::from(MAX_EXAMINED)).fetch_one(&mut on.connection).await?;
    Ok(rows::counts([open, waiting, retrying, dead_letters, stored], due.map(span), disk_bytes))
}

pub(super) async fn nth(on: &mut Session, filter: &EventFilter, skipped: u32) -> Outcome<Option<i64>> {
    let mut query = QueryBuilder::new(on.tables.sql("SELECT e.seq FROM smartshape_inbox_events e WHERE ").0);
    rows::push_nth(&mut query, filter, skipped);
    query.build_query_scalar().fetch_optional(&mut on.connection).await
}

pub(super) async fn count_by_event(on: &mut Session, filter: &EventFilter) -> Outcome<Vec<(String, u64)>> {
    let start = on.tables.sql("SELECT e.event, count(*) FROM smartshape_inbox_events e WHERE ").0;
    let mut query = QueryBuilder::new(start);
    rows::push_conditions(&mut query, filter);
    query.push(rows::BY_EVENT);
    let counted: Vec<(String, i64)> = query.build_query_as().fetch_all(&mut on.connection).await?;
    Ok(rows::by_event(counted))
}

pub(super) async fn reasons(on: &mut Session, limit: u32) -> Outcome<Vec<DeadLetterReason>> {
    let sql = on.tables.sql(
        "SELECT error_group, count(*), max(seq) FROM (SELECT error_group, seq FROM smartshape_inbox_events \
         WHERE state = 3 ORDER BY error_group, seq LIMIT $1) d GROUP BY error_group ORDER BY 2 DESC, 3 DESC LIMIT $2",
    );
    let groups: Vec<(Option<i64>, i64, i64)> = sqlx::query_as(sql)
        .bind(i64::from(MAX_EXAMINED))
        .bind(i64::from(limit))
        .fetch_all(&mut on.connection)
        .await?;
    let numbers: Vec<i64> = groups.iter().map(|(.., last)| *last).collect();
    let sql = on.tables.sql(&format!("{COLUMNS} e.seq = ANY ($1)"));
    let last = sqlx::query(sql).bind(numbers).fetch_all(&mut on.connection).await?;
    Ok(rows::reasons(groups, &last.iter().map(rows::stored).collect::<Outcome<Vec<_>>>()?))
}

/// Records the reason of dead letters that have none, which an older version or a lost lease has left. A bounded number.
pub(super) async fn group_errors(on: &mut Session, limit: u32) -> Outcome<()> {
    let sql = on.tables.sql(
        "SELECT seq, error FROM smartshape_inbox_events WHERE state = 3 AND error_group IS NULL \
         ORDER BY error_group, seq LIMIT $1",
    );
    let ungrouped: Vec<(i64, Option<String>)> =
        sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(&mut on.connection).await?;
    if ungrouped.is_empty() {
        return Ok(());
    }
    let group = |error: &Option<String>| ReasonId::of(error.as_deref().unwrap_or_default()).0;
    let sql = on.tables.sql(
        "WITH free AS MATERIALIZED (SELECT e.seq, g.error_group FROM unnest($1::bigint[], $2::bigint[]) AS g (seq, error_group) \
           JOIN smartshape_inbox_events e ON e.seq = g.seq WHERE e.state = 3 FOR UPDATE OF e SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET error_group = free.error_group FROM free WHERE e.seq = free.seq",
    );
    sqlx::query(sql)
        .bind(ungrouped.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
        .bind(ungrouped.iter().map(|(_, error)| group(error)).collect::<Vec<_>>())
        .execute(&mut on.connection)
        .await
        .map(drop)
}

pub(super) async fn used_bytes(on: &mut Session) -> Outcome<u64> {
    let bytes: i64 = sqlx::query_scalar(on.tables.sql("SELECT pg_total_relation_size('smartshape_inbox_events') + pg_total_relation_size('smartshape_inbox_bodies')"))
    .fetch_one(&mut on.connection)
    .await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Number of events that one statement counts, so that a count of millions keeps no connection for long.
const COUNTED_EVENTS: i64 = 5000;

/// Events that are not completed.
#[derive(Clone, Copy)]
pub(super) enum Uncompleted {
    Open,
    DeadLetters,
}

/// Bytes of a portion of the events after `(file_hash, seq)`, and the last one of them; `None` when there are no more. Read
/// from a partial index.
pub(super) async fn uncompleted_bytes(
    on: &mut Session,
    events: Uncompleted,
    after: (Queue, i64),
) -> Outcome<Option<(u64, (Queue, i64))>> {
    let (queue, events) = match events {
        Uncompleted::Open => {
            ("file_hash", "state <= 1 AND (file_hash, seq) > ($1, $2) ORDER BY file_hash, seq")
        }
        Uncompleted::DeadLetters => ("$1::bigint", "state = 3 AND seq > $2 ORDER BY seq"),
    };
    let sql = on.tables.sql(&format!(
        "WITH part AS MATERIALIZED (SELECT {queue} AS queue, seq, {} AS size FROM smartshape_inbox_events WHERE {events} LIMIT $3) \
         SELECT (SELECT sum(size)::bigint FROM part), queue, seq FROM part ORDER BY queue DESC, seq DESC LIMIT 1",
        counted_bytes("least")
    ));
    let counted: Option<(i64, Queue, i64)> = sqlx::query_as(sql)
        .bind(after.0)
        .bind(after.1)
        .bind(COUNTED_EVENTS)
        .fetch_optional(&mut on.connection)
        .await?;
    Ok(counted.map(|(bytes, queue, seq)| (u64::try_from(bytes).unwrap_or(0), (queue, seq))))
}

/// A completed event by the time of its completion, in microseconds since 1970, and its sequence number.
pub(super) type CompletedEvent = (i64, i64);

/// Later than any.
pub(super) const NEWEST: CompletedEvent = (i64::MAX / 2, i64::MAX);

const COMPLETED_BEFORE: &str =
    "state = 2 AND (settled, seq) < ('epoch'::timestamptz + $1 * interval '1 us', $2)";

/// The last of the `count` newest completed events before `before`; `None` when there are fewer.
pub(super) async fn nth_completed(
    on: &mut Session,
    before: CompletedEvent,
    count: u64,
) -> Outcome<Option<CompletedEvent>> {
    let sql = on.tables.sql(&format!(
        "SELECT (extract(epoch FROM settled) * 1000000)::bigint, seq FROM smartshape_inbox_events WHERE {COMPLETED_BEFORE} \
         ORDER BY settled DESC, seq DESC OFFSET $3 LIMIT 1"
    ));
    let found = sqlx::query_as(sql).bind(before.0).bind(before.1).bind(count.cast_signed() - 1);
    found.fetch_optional(&mut on.connection).await
}

/// Deletes the oldest completed events before `before`.
pub(super) async fn delete_completed(on: &mut Session, before: CompletedEvent, limit: u32) -> Outcome<u64> {
    let sql = on.tables.sql(&format!(
        "WITH old AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE {COMPLETED_BEFORE} \
           ORDER BY settled, seq LIMIT $3 FOR UPDATE SKIP LOCKED), \
         bodies AS (DELETE FROM smartshape_inbox_bodies b USING old WHERE b.seq = old.seq) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq"
    ));
    let deleted = sqlx::query(sql).bind(before.0).bind(before.1).bind(i64::from(limit));
    Ok(deleted.execute(&mut on.connection).await?.rows_affected())
}

pub(super) async fn sweep(on: &mut Session, retention: Retention, limit: u32) -> Outcome<u64> {
    let bodies = sqlx::query(on.tables.sql("DELETE FROM smartshape_inbox_bodies WHERE seq IN (SELECT e.seq FROM smartshape_inbox_events e \
         JOIN smartshape_inbox_bodies b ON b.seq = e.seq \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' LIMIT $2 FOR UPDATE OF e SKIP LOCKED)"))
    .bind(milliseconds(retention.bodies.min(retention.dedup)))
    .bind(i64::from(limit))
    .execute(&mut on.connection)
    .await?;
    let events = sqlx::query(on.tables.sql("WITH old AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' \
         AND NOT EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) LIMIT $2 FOR UPDATE SKIP LOCKED) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq"))
    .bind(milliseconds(retention.dedup))
    .bind(i64::from(limit))
    .execute(&mut on.connection)
    .await?;
    Ok(bodies.rows_affected() + events.rows_affected())
}

/// Claims a delivery that is handled without being stored.
pub(super) async fn claim_key(
    on: &mut Session,
    key: DeliveryKey,
    token: LeaseToken,
    ttl: Duration,
) -> Outcome<ClaimState> {
    let sql = on.tables.sql(
        "INSERT INTO smartshape_inbox_dedup AS d (key, token, expires) VALUES ($1, $2, now() + $3 * interval '1 ms') \
         ON CONFLICT (key) DO UPDATE SET token = excluded.token, expires = excluded.expires WHERE d.expires <= now()",
    );
    let claimed =
        sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(number(token)).bind(milliseconds(ttl));
    if claimed.execute(&mut on.connection).await?.rows_affected() == 1 {
        return Ok(ClaimState::New);
    }
    let sql = on.tables.sql("SELECT token IS NULL FROM smartshape_inbox_dedup WHERE key = $1");
    let done =
        sqlx::query_scalar(sql).bind(key.as_bytes().as_slice()).fetch_optional(&mut on.connection).await?;
    // A claim that was released in between is in flight until the next look.
    Ok(if done == Some(true) { ClaimState::Done } else { ClaimState::InFlight })
}

/// Records that a claimed delivery was handled, unless another claim has followed. Deletes up to two expired rows, so
/// that as many go as come.
pub(super) async fn complete_key(
    on: &mut Session,
    key: DeliveryKey,
    token: LeaseToken,
    retention: Duration,
    asynchronous: bool,
) -> Outcome<()> {
    let durable = if asynchronous { AS_DURABLE_AS_SET } else { DURABLE };
    let sql = on.tables.sql(&format!(
        "WITH {durable}, old AS MATERIALIZED (SELECT key FROM smartshape_inbox_dedup WHERE expires <= now() AND key <> $1 \
           ORDER BY expires LIMIT 2 FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM smartshape_inbox_dedup d USING old WHERE d.key = old.key) \
         INSERT INTO smartshape_inbox_dedup AS d (key, token, expires) \
         SELECT $1, NULL, now() + $3 * interval '1 ms' FROM durable \
         ON CONFLICT (key) DO UPDATE SET token = NULL, expires = excluded.expires WHERE d.token = $2"
    ));
    let completed = sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(number(token));
    completed.bind(milliseconds(retention)).execute(&mut on.connection).await.map(drop)
}

pub(super) async fn release_key(on: &mut Session, key: DeliveryKey, token: LeaseToken) -> Outcome<()> {
    let sql = on.tables.sql("DELETE FROM smartshape_inbox_dedup WHERE key = $1 AND token = $2");
    let released = sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(number(token));
    released.execute(&mut on.connection).await.map(drop)
}

fn number(token: LeaseToken) -> Vec<u8> {
    token.number().to_be_bytes().to_vec()
}

/// Checks whether an event could be stored, without storing one: on a primary, with all privileges. Returns why not.
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
