//! Records the results of attempts.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::Postgres;
use super::connections::{self, Session, Tables, retry_on_conflict};
use super::queues::{self, Queue};
use crate::error::InboxError;
use crate::storage::{AttemptOutcome, AttemptResult, KEPT_ATTEMPTS, Lease, Settled, milliseconds};

impl Postgres {
    pub(super) async fn settle_all(&self, results: &[AttemptResult]) -> Result<Settled, InboxError> {
        let (settled, ended_queues) =
            retry_on_conflict(|| self.connections.run(async |session| settle(session, results).await))
                .await?;
        queues::mark_runnable_after_commit(&self.connections, &ended_queues).await;
        Ok(settled)
    }
}

/// Records results with one statement, and returns the queues in which an event ended. It waits for no row that another
/// transaction has locked: the other results must be recorded, and leases renewed, meanwhile.
async fn settle(session: &mut Session, results: &[AttemptResult]) -> sqlx::Result<(Settled, Vec<Queue>)> {
    let (mut seqs, mut fences, mut states, mut waits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut errors, mut released, mut kept, mut reasons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for AttemptResult { lease, outcome, .. } in results {
        let (state, after, error, back, keep) = match outcome {
            AttemptOutcome::Completed { keep_body } => (2_i16, 0, None, 0_i32, *keep_body),
            AttemptOutcome::Retry { after, error } => (0, milliseconds(*after), Some(&**error), 0, true),
            AttemptOutcome::DeadLetter { error } => (3, 0, Some(&**error), 0, true),
            AttemptOutcome::Released => (0, 0, None, 1, true),
        };
        seqs.push(lease.seq);
        fences.push(lease.fence);
        states.push(state);
        waits.push(after);
        errors.push(error);
        released.push(back);
        kept.push(keep);
        reasons.push(outcome.reason().map(|reason| reason.0));
    }
    let took: Vec<i64> = results.iter().map(|result| milliseconds(result.took)).collect();
    let trimmed = results.iter().filter(|result| result.forgets_attempts() || result.exceeds_attempts());
    let trimmed: Vec<i64> = trimmed.map(|result| result.lease.seq).collect();
    let sql = session.tables.sql(
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
         SELECT seq, fence, file_hash, state >= 2 AS has_ended, false AS is_locked FROM ended \
         UNION ALL SELECT e.seq, e.fence, e.file_hash, false, true FROM smartshape_inbox_events e JOIN given g ON e.seq = g.seq \
           WHERE e.fence = g.fence AND e.state = 1 AND NOT EXISTS (SELECT 1 FROM held WHERE held.seq = e.seq)",
    );
    let rows: Vec<(i64, i64, Queue, bool, bool)> = sqlx::query_as(sql)
        .bind(seqs)
        .bind(fences)
        .bind(states)
        .bind(waits)
        .bind(errors)
        .bind(released)
        .bind(kept)
        .bind(reasons)
        .bind(took)
        .bind(trimmed)
        // This attempt is recorded beside the earlier ones that are kept.
        .bind(KEPT_ATTEMPTS - 1)
        .fetch_all(&mut session.connection)
        .await?;
    let (mut settled, mut ended_queues) = (Settled::default(), Vec::new());
    for (seq, fence, queue, has_ended, is_locked) in rows {
        let leases = if is_locked { &mut settled.locked } else { &mut settled.recorded };
        leases.push(Lease { seq, fence });
        if has_ended {
            ended_queues.push(queue);
        }
    }
    Ok((settled, ended_queues))
}

/// Records the completion within a handler's transaction, whose search path is the handler's. Returns the
/// queue; `None` when the lease was lost. From here on the server limits the transaction's statements and its idling.
pub(super) async fn complete_within(
    connection: &mut PgConnection,
    tables: &Tables,
    lease: Lease,
    keep_body: bool,
    timeout: Duration,
) -> sqlx::Result<Option<Queue>> {
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
