//! Claims events for a worker, and renews its leases.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::PgRow;

use super::connections::{Session, retry_on_conflict};
use super::queues::{Queue, mark_runnable};
use super::{Postgres, error};
use crate::error::InboxError;
use crate::event::EVENT_VERSION;
use crate::storage::rows::{attempt, count, decoded, lease};
use crate::storage::{Attempt, AttemptResult, ClaimRequest, ClaimResponse, LEASE_LOST, Lease, milliseconds};

/// Maximum size of the bodies read by one statement, unless a single one is longer.
const BODY_BATCH_BYTES: u64 = 8 * 1024 * 1024;
const NOT_PAUSED: &str = "NOT EXISTS (SELECT 1 FROM smartshape_inbox_pause)";
/// A running event that becomes a dead letter, and is not attempted again, when its lease expires.
const EXHAUSTED: &str = "state = 1 AND (lost + 1 >= $1 OR attempts >= $2)";

impl Postgres {
    pub(super) async fn claim(&self, request: ClaimRequest) -> Result<ClaimResponse, InboxError> {
        if request.ordered {
            self.mark_all_runnable_later();
        }
        let (mut claimed, lengths) =
            retry_on_conflict(|| self.connections.run(async |session| claim(session, request).await)).await?;
        // A claimed event that is not attempted counts as a lost lease, so no failure from here on fails the claim.
        let mut conflicts = Vec::new();
        if !claimed.attempts.is_empty() {
            let attempts = &claimed.attempts;
            match self.connections.run(async |session| check_claim(session, request, attempts).await).await {
                Ok(after) => (conflicts, claimed.next_due) = after,
                Err(error) => {
                    tracing::warn!(%error, "a claim could not be checked; its events are released if they are ordered");
                    conflicts
                        .extend(attempts.iter().filter(|_| request.ordered).map(|attempt| attempt.lease));
                }
            }
        }
        claimed.attempts.retain(|attempt| !conflicts.contains(&attempt.lease));
        // Bodies are read by several statements, so that many long ones do not exceed the timeout of one.
        let mut first = 0;
        while first < claimed.attempts.len() {
            let mut bytes = 0;
            let part = claimed.attempts[first..].iter().map(|attempt| attempt.lease.seq).take_while(|seq| {
                bytes += lengths.get(seq).copied().unwrap_or(0);
                bytes <= BODY_BATCH_BYTES
            });
            let count = part.count().max(1);
            let part = &mut claimed.attempts[first..first + count];
            let seqs: Vec<i64> = part.iter().map(|attempt| attempt.lease.seq).collect();
            match self.connections.run(async |session| bodies(session, &seqs).await).await {
                Ok(mut bodies) => {
                    part.iter_mut().for_each(|attempt| attempt.body = Ok(bodies.remove(&attempt.lease.seq)));
                }
                Err(error) => {
                    tracing::warn!(%error, "bodies could not be read; the first is read alone, the other events are released");
                    conflicts.extend(claimed.attempts.drain(first + 1..).map(|attempt| attempt.lease));
                    // One whose body can never be read must fail alone, and become a dead letter in the end: released,
                    // it would be claimed with the others again and again.
                    let seqs = [claimed.attempts[first].lease.seq];
                    let read = self.connections.run(async |session| bodies(session, &seqs).await).await;
                    if read.as_ref().is_err_and(error::is_outage) {
                        conflicts.extend(claimed.attempts.pop().map(|attempt| attempt.lease));
                    } else {
                        claimed.attempts[first].body =
                            read.map(|mut bodies| bodies.remove(&seqs[0])).map_err(|error| error.to_string());
                    }
                }
            }
            first += count;
        }
        if !conflicts.is_empty() {
            let released: Vec<_> = conflicts.into_iter().map(AttemptResult::released).collect();
            if let Err(error) = self.settle_all(&released).await {
                tracing::warn!(%error, "events could not be released; their leases have to expire");
            }
        }
        Ok(claimed)
    }
}

/// Claims events with one statement, and holds no lock after it. All reads use partial indexes, so the time does not
/// depend on the number of waiting events. Bodies are read afterwards, since they may be long: returns the length of
/// each, by sequence number.
async fn claim(
    session: &mut Session,
    request: ClaimRequest,
) -> sqlx::Result<(ClaimResponse, HashMap<i64, u64>)> {
    let (mut response, mut lengths) = (ClaimResponse::default(), HashMap::new());
    let (due, next, exhausted) = find_due(session, request).await?;
    if exhausted {
        let dead_lettered = dead_letter_exhausted(session, request).await?;
        response.dead_lettered = dead_lettered.len() as u64;
        mark_runnable(session, &dead_lettered).await?;
    }
    if !due {
        response.next_due = next;
        return Ok((response, lengths));
    }
    let rows = claim_due(session, request).await?;
    response.attempts = decoded(&rows, attempt)?;
    response.attempts.sort_by_key(|attempt| attempt.lease.seq);
    lengths.extend(decoded(&rows, |row| Ok((row.number("seq")?, count(row.number("bytes")?))))?);
    Ok((response, lengths))
}

/// After a claim: the leases that must be released, and when the next event is due.
async fn check_claim(
    session: &mut Session,
    request: ClaimRequest,
    attempts: &[Attempt],
) -> sqlx::Result<(Vec<Lease>, Option<Duration>)> {
    let conflicts = if request.ordered { conflicts(session, attempts).await? } else { Vec::new() };
    // When fewer events were claimed than requested, the other due events cannot be claimed now.
    let all = attempts.len() >= request.max_events as usize;
    let sql = session.tables.sql(&format!(
        "SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events \
         WHERE {} AND due > CASE WHEN $1 THEN '-infinity' ELSE now() END",
        candidates(request)
    ));
    let wait: Option<f64> = sqlx::query_scalar(sql).bind(all).fetch_one(&mut session.connection).await?;
    Ok((conflicts, wait.map(duration_from_secs)))
}

/// Each condition has a partial index by `due`.
fn candidates(request: ClaimRequest) -> &'static str {
    if request.ordered { "state <= 1 AND NOT behind" } else { "state <= 1" }
}

/// Whether an event is due, when the next one is, and whether an expired lease makes an event a dead letter.
async fn find_due(
    session: &mut Session,
    request: ClaimRequest,
) -> sqlx::Result<(bool, Option<Duration>, bool)> {
    let sql = session.tables.sql(&format!(
        "SELECT (SELECT extract(epoch FROM min(due) - clock_timestamp())::float8 FROM smartshape_inbox_events \
           WHERE {} AND {NOT_PAUSED}), \
         EXISTS (SELECT 1 FROM smartshape_inbox_events WHERE {EXHAUSTED} AND due <= now() AND {NOT_PAUSED})",
        candidates(request)
    ));
    let (wait, exhausted): (Option<f64>, bool) = sqlx::query_as(sql)
        .bind(i64::from(request.max_lost_leases))
        .bind(i64::from(request.max_attempts))
        .fetch_one(&mut session.connection)
        .await?;
    let next = wait.map(duration_from_secs);
    Ok((next.is_some_and(|wait| wait.is_zero()), next, exhausted))
}

async fn dead_letter_exhausted(session: &mut Session, request: ClaimRequest) -> sqlx::Result<Vec<Queue>> {
    let sql = session.tables.sql(&format!(
        "WITH exhausted AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE {EXHAUSTED} AND due <= now() \
           FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 3, settled = now(), lost = lost + 1, error_group = NULL, \
           error = coalesce(error || '; then ', '') || $3 FROM exhausted WHERE e.seq = exhausted.seq \
         RETURNING e.file_hash"
    ));
    sqlx::query_scalar(sql)
        .bind(i64::from(request.max_lost_leases))
        .bind(i64::from(request.max_attempts))
        .bind(LEASE_LOST)
        .fetch_all(&mut session.connection)
        .await
}

/// The candidates are materialized: a subquery could be evaluated per row, and lock more rows than requested. With
/// order, a candidate must be the earliest open event of its queue: concurrent claims see the same one, and only one
/// of them locks its row. An exhausted event's lease may expire between [`find_due`] and this statement: the next claim
/// makes it a dead letter.
async fn claim_due(session: &mut Session, request: ClaimRequest) -> sqlx::Result<Vec<PgRow>> {
    let first = if request.ordered {
        "AND (SELECT o.seq FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = e.file_hash \
           ORDER BY o.seq LIMIT 1) = e.seq \
         AND (SELECT w.seq FROM smartshape_inbox_events w WHERE w.state = 1 AND w.file_hash = e.file_hash \
           AND w.seq <> e.seq AND w.due > now() LIMIT 1) IS NULL"
    } else {
        ""
    };
    let sql = session.tables.sql(&format!(
        "WITH chosen AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e WHERE {} AND due <= now() \
           AND NOT ({EXHAUSTED}) AND {NOT_PAUSED} AND version <= $4 {first} ORDER BY due, seq LIMIT $5 \
           FOR UPDATE SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET state = 1, due = now() + $3 * interval '1 ms', fence = fence + 1, \
           attempts = attempts + 1, lost = lost + (state = 1)::int, behind = false FROM chosen WHERE e.seq = chosen.seq \
         RETURNING e.seq, fence, key, attempts::bigint AS attempts, received, secret, traceparent, bytes",
        candidates(request)
    ));
    sqlx::query(sql)
        .bind(i64::from(request.max_lost_leases))
        .bind(i64::from(request.max_attempts))
        .bind(milliseconds(request.lease_ttl))
        .bind(i32::from(EVENT_VERSION))
        .bind(i64::from(request.max_events))
        .fetch_all(&mut session.connection)
        .await
}

/// A replay can put an event before one that another worker is claiming, so that neither statement sees the
/// other's. Each claim checks again after its commit, so at least the later one sees the conflict.
async fn conflicts(session: &mut Session, attempts: &[Attempt]) -> sqlx::Result<Vec<Lease>> {
    let sql = session.tables.sql(
        "SELECT e.seq, e.fence FROM unnest($1::bigint[]) AS t (seq) JOIN smartshape_inbox_events e ON e.seq = t.seq \
         WHERE (SELECT w.seq FROM smartshape_inbox_events w WHERE w.state = 1 AND w.file_hash = e.file_hash \
           AND w.seq <> e.seq AND w.due > now() LIMIT 1) IS NOT NULL",
    );
    let seqs: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.seq).collect();
    let rows = sqlx::query(sql).bind(seqs).fetch_all(&mut session.connection).await?;
    decoded(&rows, lease)
}

async fn bodies(session: &mut Session, seqs: &[i64]) -> sqlx::Result<HashMap<i64, Bytes>> {
    let sql = session.tables.sql("SELECT seq, body FROM smartshape_inbox_bodies WHERE seq = ANY ($1)");
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).bind(seqs).fetch_all(&mut session.connection).await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

/// A row that another transaction has locked counts as held until the next renewal: it must not keep the
/// other leases from being renewed.
pub(super) async fn renew(
    session: &mut Session,
    leases: &[Lease],
    ttl: Duration,
) -> sqlx::Result<Vec<Lease>> {
    let sql = session.tables.sql(
        "WITH held AS MATERIALIZED (SELECT e.seq, e.fence FROM unnest($2::bigint[], $3::bigint[]) AS l (seq, fence) \
             JOIN smartshape_inbox_events e ON e.seq = l.seq AND e.fence = l.fence AND e.state = 1), \
           free AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e JOIN held ON e.seq = held.seq \
             WHERE e.fence = held.fence AND e.state = 1 FOR UPDATE OF e SKIP LOCKED), \
           renewed AS (UPDATE smartshape_inbox_events e SET due = now() + $1 * interval '1 ms' FROM free WHERE e.seq = free.seq) \
         SELECT seq, fence FROM held",
    );
    let rows = sqlx::query(sql)
        .bind(milliseconds(ttl))
        .bind(leases.iter().map(|lease| lease.seq).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| lease.fence).collect::<Vec<_>>())
        .fetch_all(&mut session.connection)
        .await?;
    decoded(&rows, lease)
}

/// A difference of two times, in seconds, as a duration; negative ones are zero.
fn duration_from_secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
