//! Claims events, and renews their leases.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;

use super::clock::{NEWEST, duration_between};
use super::{Shared, error, json_array, wal};
use crate::error::InboxError;
use crate::event::EVENT_VERSION;
use crate::storage::rows::{attempt, decoded, lease};
use crate::storage::{ClaimRequest, ClaimResponse, LEASE_LOST, Lease, milliseconds};

const NOT_PAUSED: &str = "NOT EXISTS (SELECT 1 FROM pause)";

impl Shared {
    /// Reads without a transaction, so that an idle worker writes nothing.
    pub(super) async fn peek(&self, ordered: bool) -> Result<(Option<i64>, i64), InboxError> {
        let mut slot = self.writer.lock().await;
        let writer = match &mut *slot {
            Some(writer) => writer,
            none => none.insert(self.connect().await?),
        };
        let seen = async {
            self.check_file(writer).await?;
            let connection = &mut writer.connection;
            let seen = async { Ok((wal::data_version(connection).await?, peek(connection, ordered).await?)) };
            let (version, seen) = seen.await.map_err(|error| error::from_sqlx(&self.path, error))?;
            writer.seen_version = version;
            Ok(seen)
        };
        seen.await.inspect_err(|_| *slot = None)
    }
}

/// When the next event is due, unless workers are paused, and when the newest one was stored.
async fn peek(connection: &mut SqliteConnection, ordered: bool) -> sqlx::Result<(Option<i64>, i64)> {
    // As a condition of the inner SELECT, SQLite would evaluate it for each event.
    let sql = format!(
        "SELECT CASE WHEN {NOT_PAUSED} THEN (SELECT min(due) FROM events WHERE {}) END, {NEWEST}",
        candidates(ordered)
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await
}

/// Each condition has a partial index by `due`.
fn candidates(ordered: bool) -> &'static str {
    if ordered { "state <= 1 AND behind = 0" } else { "state <= 1" }
}

pub(super) async fn claim(
    connection: &mut SqliteConnection,
    now: i64,
    request: ClaimRequest,
) -> sqlx::Result<ClaimResponse> {
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
    let mut attempts = decoded(&claimed, attempt)?;
    attempts.sort_by_key(|attempt| attempt.lease.seq);
    let numbers: Vec<i64> = attempts.iter().map(|attempt| attempt.lease.seq).collect();
    let mut bodies = bodies(connection, &numbers).await?;
    for attempt in &mut attempts {
        attempt.body = Ok(bodies.remove(&attempt.lease.seq));
    }
    // When fewer events were claimed than requested, the other due events cannot be claimed now.
    let after = if attempts.len() < request.max_events as usize { now } else { i64::MIN };
    let sql = format!("SELECT min(due) FROM events WHERE {candidates} AND due > ?");
    let next_due: Option<i64> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(after).fetch_one(connection).await?;
    Ok(ClaimResponse { attempts, dead_lettered, next_due: next_due.map(|due| duration_between(now, due)) })
}

async fn bodies(connection: &mut SqliteConnection, seqs: &[i64]) -> sqlx::Result<HashMap<i64, Bytes>> {
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, body FROM bodies WHERE seq IN (SELECT value FROM json_each(?))")
            .bind(json_array(seqs))
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

pub(super) async fn renew(
    connection: &mut SqliteConnection,
    now: i64,
    leases: String,
    ttl: Duration,
) -> sqlx::Result<Vec<Lease>> {
    let sql = "UPDATE events SET due = ?1 FROM (SELECT value ->> 0 AS seq, value ->> 1 AS fence FROM json_each(?2)) l \
         WHERE events.seq = l.seq AND events.fence = l.fence AND state = 1 RETURNING events.seq, events.fence";
    let rows = sqlx::query(sql).bind(now + milliseconds(ttl)).bind(leases).fetch_all(connection).await?;
    decoded(&rows, lease)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;
    use crate::it::fixture::Folder;
    use crate::storage::sqlite::steps::{file_with_events, steps};

    /// A claim holds the connection that deliveries are written on.
    #[tokio::test]
    async fn paused_worker_reads_few_of_many_waiting_events() {
        let folder = Folder::new();
        let mut connection = file_with_events(&folder, 0).await;
        sqlx::query("INSERT INTO pause VALUES (1, 0, '')").execute(&mut connection).await.unwrap();
        for ordered in [false, true] {
            let ((due, _), steps) =
                steps(&mut connection, async |connection| peek(connection, ordered).await).await;
            assert!(due.is_none() && steps < 1000, "{steps}");
        }
    }
}
