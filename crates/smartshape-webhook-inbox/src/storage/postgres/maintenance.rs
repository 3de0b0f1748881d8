//! Maintains the tables: retention, the size that counts against `max_size_bytes`, the reasons of dead letters. Checks
//! whether they can be written to.

use std::sync::Arc;
use std::time::Instant;

use sqlx::AssertSqlSafe;

use super::connections::{Connections, Session};
use super::queues::Queue;
use super::{MAINTENANCE_INTERVAL, MAX_STATEMENT_TIMEOUT, Postgres};
use crate::error::InboxError;
use crate::reason::ReasonId;
use crate::storage::{Retention, counted_bytes, milliseconds};

/// Number of completed events that one statement passes over.
const PASSED_EVENTS: u64 = 50_000;
/// Number of events that one statement counts, so that a count of millions keeps no connection for long.
const COUNTED_EVENTS: i64 = 5000;
/// Later than any completed event.
const NEWEST: CompletedAt = i64::MAX / 2;
/// `$1`, which is in microseconds since 1970, as a time of the server.
const TIME: &str = "'epoch'::timestamptz + $1 * interval '1 us'";

/// When an event was completed, in microseconds since 1970.
type CompletedAt = i64;

/// What a sweep has found out of `dedup_capacity`.
#[derive(Default)]
pub(super) struct CapacitySweep {
    /// When the number of completed events was last found to be within it.
    within_at: Option<Instant>,
    /// Events completed before this one are over it, and are deleted.
    oldest_kept: Option<CompletedAt>,
}

/// How far sweeps have deleted the bodies whose retention is over.
#[derive(Default)]
pub(super) struct BodySweep {
    /// Bodies of events completed until then are deleted.
    completed_at: CompletedAt,
    /// When none was left whose retention was over.
    finished_at: Option<Instant>,
}

impl Postgres {
    pub(super) async fn sweep(&self, retention: Retention) -> Result<u64, InboxError> {
        let expired = self.delete(async |session, limit| {
            record_reasons(session, limit).await?;
            let condition = "settled <= now() - $1 * interval '1 ms'";
            delete_oldest(session, condition, milliseconds(retention.dedup), limit).await
        });
        // One that fails keeps none of the others from its rows.
        let (expired, over_capacity) = (expired.await, self.delete_over_capacity(retention).await);
        let bodies = self.delete_bodies(retention).await;
        Ok(expired? + over_capacity? + bodies?)
    }

    /// Deletes a portion of the oldest completed events over `dedup_capacity`. Finding the first of them passes over
    /// all that are kept, so once none is over it, the next check is a minute later.
    async fn delete_over_capacity(&self, retention: Retention) -> Result<u64, InboxError> {
        let Ok(mut sweep) = self.capacity_sweep.try_lock() else { return Ok(0) };
        if retention.dedup_capacity == u64::MAX
            || sweep.within_at.is_some_and(|at| at.elapsed() < MAINTENANCE_INTERVAL)
        {
            return Ok(0);
        }
        if sweep.oldest_kept.is_none() {
            let most = retention.dedup_capacity;
            if self.connections.run(async |session| may_exceed(session, most).await).await? {
                sweep.oldest_kept = self.oldest_kept(most).await?;
            }
        }
        let mut deleted = 0;
        if let Some(before) = sweep.oldest_kept {
            let condition = format!("settled < {TIME}");
            let delete =
                self.delete(async |session, limit| delete_oldest(session, &condition, before, limit).await);
            deleted = delete.await?;
            retention.warn_of_capacity(deleted);
        }
        if deleted == 0 {
            *sweep = CapacitySweep { within_at: Some(Instant::now()), oldest_kept: None };
        }
        Ok(deleted)
    }

    /// Deletes a portion of the bodies whose retention is over. Once none is left, the next check is a minute later.
    async fn delete_bodies(&self, retention: Retention) -> Result<u64, InboxError> {
        let Ok(mut sweep) = self.body_sweep.try_lock() else { return Ok(0) };
        if retention.bodies >= retention.dedup
            || sweep.finished_at.is_some_and(|at| at.elapsed() < MAINTENANCE_INTERVAL)
        {
            return Ok(0);
        }
        loop {
            let (after, mut last, mut next) = (sweep.completed_at, None, 0);
            let delete = self.delete(async |session, limit| {
                let swept = delete_bodies(session, retention, after, limit).await?;
                (last, next) = (swept.last, swept.next);
                Ok(swept.deleted)
            });
            let deleted = delete.await?;
            sweep.completed_at = last.unwrap_or(next);
            sweep.finished_at = last.is_none().then(Instant::now);
            if deleted > 0 || last.is_none() {
                return Ok(deleted);
            }
        }
    }

    /// The last of the `capacity` newest completed events; `None` when there are fewer. Those completed in the same
    /// microsecond as the last of a portion are not counted.
    async fn oldest_kept(&self, capacity: u64) -> Result<Option<CompletedAt>, InboxError> {
        let (mut last, mut left) = (NEWEST, capacity);
        while left > 0 {
            let count = left.min(PASSED_EVENTS);
            let found =
                self.connections.run(async |session| nth_completed(session, last, count).await).await?;
            let Some(found) = found else { return Ok(None) };
            (last, left) = (found, left - count);
        }
        Ok(Some(last))
    }

    /// Deletes a portion of rows, whose number depends on the time that the last ones took.
    async fn delete(
        &self,
        statements: impl AsyncFnOnce(&mut Session, u32) -> sqlx::Result<u64>,
    ) -> Result<u64, InboxError> {
        let limit = self.sweep_size.rows();
        let run = self.connections.run(async |session| {
            let started_at = Instant::now();
            let deleted = statements(session, limit).await?;
            if deleted > 0 {
                self.sweep_size.took(started_at.elapsed());
            }
            Ok(deleted)
        });
        // A statement that timed out did not return.
        run.await.inspect_err(|_| self.sweep_size.took(MAX_STATEMENT_TIMEOUT))
    }
}

/// Deletes a portion of the completed events that the condition is true for, whose `$1` is the value, with their
/// bodies. The arrays keep the server from reading all bodies for a join.
async fn delete_oldest(session: &mut Session, condition: &str, value: i64, limit: u32) -> sqlx::Result<u64> {
    let sql = session.tables.sql(&format!(
        "WITH old AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE state = 2 AND {condition} \
           ORDER BY settled LIMIT $2 FOR UPDATE SKIP LOCKED), \
         bodies AS (DELETE FROM smartshape_inbox_bodies WHERE seq = ANY (ARRAY(SELECT seq FROM old))) \
         DELETE FROM smartshape_inbox_events WHERE seq = ANY (ARRAY(SELECT seq FROM old))"
    ));
    let deleted = sqlx::query(sql).bind(value).bind(i64::from(limit));
    Ok(deleted.execute(&mut session.connection).await?.rows_affected())
}

/// The bodies of a portion of completed events.
struct SweptBodies {
    deleted: u64,
    /// The last event of the portion; `None` when no body is left whose retention is over.
    last: Option<CompletedAt>,
    /// Where the next sweep starts when none is left: ten minutes back, since transactions that were open may have
    /// completed events at an earlier time than the last one.
    next: CompletedAt,
}

/// Deletes the bodies of up to `limit` events completed after `after` whose retention is over. Reads those events only,
/// however many bodies of other events are stored.
async fn delete_bodies(
    session: &mut Session,
    retention: Retention,
    after: CompletedAt,
    limit: u32,
) -> sqlx::Result<SweptBodies> {
    let sql = session.tables.sql(&format!(
        "WITH part AS MATERIALIZED (SELECT settled FROM smartshape_inbox_events \
           WHERE state = 2 AND settled > {TIME} AND settled <= now() - $2 * interval '1 ms' ORDER BY settled LIMIT $3), \
         old AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
           WHERE e.state = 2 AND e.settled > {TIME} AND e.settled <= (SELECT max(settled) FROM part) \
           AND (SELECT b.seq FROM smartshape_inbox_bodies b WHERE b.seq = e.seq LIMIT 1) IS NOT NULL \
           FOR UPDATE OF e SKIP LOCKED), \
         deleted AS (DELETE FROM smartshape_inbox_bodies WHERE seq = ANY (ARRAY(SELECT seq FROM old)) RETURNING seq) \
         SELECT (SELECT count(*) FROM deleted), count(*), (extract(epoch FROM max(settled)) * 1000000)::bigint, \
           (extract(epoch FROM now() - $2 * interval '1 ms' - interval '10 min') * 1000000)::bigint FROM part"
    ));
    let (deleted, found, last, next): (i64, i64, Option<CompletedAt>, CompletedAt) = sqlx::query_as(sql)
        .bind(after)
        .bind(milliseconds(retention.bodies))
        .bind(i64::from(limit))
        .fetch_one(&mut session.connection)
        .await?;
    let deleted = u64::try_from(deleted).unwrap_or(0);
    Ok(SweptBodies { deleted, last: last.filter(|_| found >= i64::from(limit)), next })
}

/// Whether there may be more than `capacity` events, by their sequence numbers.
async fn may_exceed(session: &mut Session, capacity: u64) -> sqlx::Result<bool> {
    let sql =
        session.tables.sql("SELECT coalesce(max(seq) - min(seq) >= $1, false) FROM smartshape_inbox_events");
    let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
    sqlx::query_scalar(sql).bind(capacity).fetch_one(&mut session.connection).await
}

/// The last of the `count` newest events completed before `before`; `None` when there are fewer.
async fn nth_completed(
    session: &mut Session,
    before: CompletedAt,
    count: u64,
) -> sqlx::Result<Option<CompletedAt>> {
    let sql = session.tables.sql(&format!(
        "SELECT (extract(epoch FROM settled) * 1000000)::bigint FROM smartshape_inbox_events \
         WHERE state = 2 AND settled < {TIME} ORDER BY settled DESC OFFSET $2 LIMIT 1"
    ));
    let found = sqlx::query_scalar(sql).bind(before).bind(count.cast_signed() - 1);
    found.fetch_optional(&mut session.connection).await
}

/// Counts in portions, each within the statement timeout, so that a connection that falls silent is not kept for long.
pub(super) async fn uncompleted_bytes(connections: Arc<Connections>) -> Result<u64, InboxError> {
    let mut total = 0;
    // A partial index has the open events by `(file_hash, seq)`, another one the dead letters by `seq`.
    for (queue, events) in [
        ("file_hash", "state <= 1 AND (file_hash, seq) > ($1, $2) ORDER BY file_hash, seq"),
        ("$1::bigint", "state = 3 AND seq > $2 ORDER BY seq"),
    ] {
        let mut last: (Queue, i64) = (i64::MIN, i64::MIN);
        loop {
            let portion = connections.run(async |session| {
                let sql = session.tables.sql(&format!(
                    "WITH part AS MATERIALIZED (SELECT {queue} AS queue, seq, {} AS size FROM smartshape_inbox_events WHERE {events} LIMIT $3) \
                     SELECT (SELECT sum(size)::bigint FROM part), queue, seq FROM part ORDER BY queue DESC, seq DESC LIMIT 1",
                    counted_bytes("least")
                ));
                let portion = sqlx::query_as(sql).bind(last.0).bind(last.1).bind(COUNTED_EVENTS);
                portion.fetch_optional(&mut session.connection).await
            });
            let portion: Option<(i64, Queue, i64)> = portion.await?;
            let Some((bytes, queue, seq)) = portion else { break };
            total += u64::try_from(bytes).unwrap_or(0);
            last = (queue, seq);
        }
    }
    Ok(total)
}

/// Records the reason of dead letters that have none, which an older version or a lost lease has left. A bounded
/// number.
async fn record_reasons(session: &mut Session, limit: u32) -> sqlx::Result<()> {
    let sql = session.tables.sql(
        "SELECT seq, error FROM smartshape_inbox_events WHERE state = 3 AND error_group IS NULL \
         ORDER BY error_group, seq LIMIT $1",
    );
    let without_reason: Vec<(i64, Option<String>)> =
        sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(&mut session.connection).await?;
    if without_reason.is_empty() {
        return Ok(());
    }
    let reason = |error: &Option<String>| ReasonId::from_error(error.as_deref().unwrap_or_default()).0;
    let sql = session.tables.sql(
        "WITH free AS MATERIALIZED (SELECT e.seq, g.error_group FROM unnest($1::bigint[], $2::bigint[]) AS g (seq, error_group) \
           JOIN smartshape_inbox_events e ON e.seq = g.seq WHERE e.state = 3 FOR UPDATE OF e SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET error_group = free.error_group FROM free WHERE e.seq = free.seq",
    );
    sqlx::query(sql)
        .bind(without_reason.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
        .bind(without_reason.iter().map(|(_, error)| reason(error)).collect::<Vec<_>>())
        .execute(&mut session.connection)
        .await
        .map(drop)
}

/// Checks whether an event could be stored, without storing one: on a primary, with all privileges. Returns why not.
pub(super) async fn ping(session: &mut Session) -> sqlx::Result<Option<&'static str>> {
    let sql = session.tables.sql(
        "SELECT current_setting('transaction_read_only') = 'on', \
           has_table_privilege('smartshape_inbox_events', 'INSERT') AND has_table_privilege('smartshape_inbox_events', 'SELECT') \
             AND has_table_privilege('smartshape_inbox_events', 'UPDATE') AND has_table_privilege('smartshape_inbox_events', 'DELETE') \
             AND has_table_privilege('smartshape_inbox_bodies', 'INSERT') AND has_table_privilege('smartshape_inbox_bodies', 'SELECT') \
             AND has_table_privilege('smartshape_inbox_bodies', 'DELETE'), \
           s.name IS NOT NULL, coalesce(has_sequence_privilege(s.name, 'USAGE'), false), \
           CASE WHEN has_sequence_privilege(s.name, 'USAGE') THEN coalesce((SELECT max(seq) FROM smartshape_inbox_events) \
             > coalesce(pg_sequence_last_value(s.name::regclass), 0), false) ELSE false END, \
           CASE WHEN has_sequence_privilege(s.name, 'SELECT') THEN s.name END \
         FROM (SELECT pg_get_serial_sequence('smartshape_inbox_events', 'seq') AS name) s",
    );
    let (read_only, tables, sequence, usage, mut behind, readable): (
        bool,
        bool,
        bool,
        bool,
        bool,
        Option<String>,
    ) = sqlx::query_as(sql).fetch_one(&mut session.connection).await?;
    if behind && let Some(name) = readable {
        // A sequence that was restarted has no last value until it is used. Its name is qualified already.
        let newest = session.tables.sql("SELECT coalesce((SELECT max(seq) FROM smartshape_inbox_events)").0;
        let sql = format!("{newest} >= last_value + is_called::int, false) FROM {name}");
        behind = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut session.connection).await?;
    }
    Ok(if read_only {
        Some("the server is read-only: connect to the primary")
    } else if !tables {
        Some("the user lacks a permission on the inbox's tables: see the grants in the README")
    } else if !sequence {
        Some("the sequence of the inbox's events is gone: restore it")
    } else if !usage {
        Some("the user may not use the sequence of the inbox's events: see the grants in the README")
    } else if behind {
        Some(
            "the sequence of the inbox's events is behind its table, as after a logical replication: \
             SELECT setval(pg_get_serial_sequence('smartshape_inbox_events', 'seq'), max(seq)) FROM smartshape_inbox_events",
        )
    } else {
        None
    })
}
