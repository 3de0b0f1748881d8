//! Records the results of attempts.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::{json_array, json_pairs};
use crate::storage::rows::{decoded, lease};
use crate::storage::{AttemptOutcome, AttemptResult, KEPT_ATTEMPTS, Lease, Settled, milliseconds};

/// SQLite limits the parameters of a statement, and each result has seven.
const MAX_RESULTS: usize = 1000;

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    now: i64,
    results: Arc<[AttemptResult]>,
) -> sqlx::Result<Settled> {
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
) -> sqlx::Result<()> {
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

pub(super) async fn delete_attempts(connection: &mut SqliteConnection, seqs: &[i64]) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM failed_attempts WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(json_array(seqs))
        .execute(connection)
        .await
        .map(drop)
}

async fn end_attempts(
    connection: &mut SqliteConnection,
    now: i64,
    results: &[&AttemptResult],
) -> sqlx::Result<Vec<Lease>> {
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
    decoded(&query.build().persistent(false).fetch_all(connection).await?, lease)
}

async fn complete(
    connection: &mut SqliteConnection,
    now: i64,
    leases: &[Lease],
    keep_body: bool,
) -> sqlx::Result<Vec<Lease>> {
    let sql = "UPDATE events SET state = 2, settled = ?1, error = NULL, owner = NULL, \
         traceparent = iif(?3, traceparent, NULL), \
         event = substr(event, 1, 64), file = substr(file, 1, 64), uuid = substr(uuid, 1, 64) FROM (SELECT value ->> 0 AS seq, value ->> 1 AS fence FROM json_each(?2)) l \
         WHERE events.seq = l.seq AND events.fence = l.fence AND state = 1 RETURNING events.seq, events.fence";
    let rows = sqlx::query(sql)
        .bind(now)
        .bind(json_pairs(leases))
        .bind(keep_body)
        .fetch_all(&mut *connection)
        .await?;
    let held = decoded(&rows, lease)?;
    if !keep_body {
        delete_bodies(connection, &held.iter().map(|lease| lease.seq).collect::<Vec<_>>()).await?;
    }
    Ok(held)
}

pub(super) async fn delete_bodies(connection: &mut SqliteConnection, seqs: &[i64]) -> sqlx::Result<u64> {
    let done = sqlx::query("DELETE FROM bodies WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(json_array(seqs))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
