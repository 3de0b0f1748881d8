//! Maintains the tables: retention, the size that counts against `max_size_bytes`, the reasons of dead letters. Checks
//! whether they can be written to.

use super::Queue;
use crate::reason::ReasonId;
use crate::storage::postgres::connections::Session;
use crate::storage::{Retention, counted_bytes, milliseconds};

pub(crate) async fn sweep(session: &mut Session, retention: Retention, limit: u32) -> sqlx::Result<u64> {
    let bodies = sqlx::query(session.tables.sql("DELETE FROM smartshape_inbox_bodies WHERE seq IN (SELECT e.seq FROM smartshape_inbox_events e \
         JOIN smartshape_inbox_bodies b ON b.seq = e.seq \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' LIMIT $2 FOR UPDATE OF e SKIP LOCKED)"))
    .bind(milliseconds(retention.bodies.min(retention.dedup)))
    .bind(i64::from(limit))
    .execute(&mut session.connection)
    .await?;
    let events = sqlx::query(session.tables.sql("WITH old AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
         WHERE e.state = 2 AND e.settled <= now() - $1 * interval '1 ms' \
         AND NOT EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) LIMIT $2 FOR UPDATE SKIP LOCKED) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq"))
    .bind(milliseconds(retention.dedup))
    .bind(i64::from(limit))
    .execute(&mut session.connection)
    .await?;
    Ok(bodies.rows_affected() + events.rows_affected())
}

/// A completed event by the time of its completion, in microseconds since 1970, and its sequence number.
pub(crate) type CompletedEvent = (i64, i64);

/// Later than any.
pub(crate) const NEWEST: CompletedEvent = (i64::MAX / 2, i64::MAX);

const COMPLETED_BEFORE: &str =
    "state = 2 AND (settled, seq) < ('epoch'::timestamptz + $1 * interval '1 us', $2)";

/// The last of the `count` newest completed events before `before`; `None` when there are fewer.
pub(crate) async fn nth_completed(
    session: &mut Session,
    before: CompletedEvent,
    count: u64,
) -> sqlx::Result<Option<CompletedEvent>> {
    let sql = session.tables.sql(&format!(
        "SELECT (extract(epoch FROM settled) * 1000000)::bigint, seq FROM smartshape_inbox_events WHERE {COMPLETED_BEFORE} \
         ORDER BY settled DESC, seq DESC OFFSET $3 LIMIT 1"
    ));
    let found = sqlx::query_as(sql).bind(before.0).bind(before.1).bind(count.cast_signed() - 1);
    found.fetch_optional(&mut session.connection).await
}

/// Deletes the oldest completed events before `before`.
pub(crate) async fn delete_completed(
    session: &mut Session,
    before: CompletedEvent,
    limit: u32,
) -> sqlx::Result<u64> {
    let sql = session.tables.sql(&format!(
        "WITH old AS MATERIALIZED (SELECT seq FROM smartshape_inbox_events WHERE {COMPLETED_BEFORE} \
           ORDER BY settled, seq LIMIT $3 FOR UPDATE SKIP LOCKED), \
         bodies AS (DELETE FROM smartshape_inbox_bodies b USING old WHERE b.seq = old.seq) \
         DELETE FROM smartshape_inbox_events e USING old WHERE e.seq = old.seq"
    ));
    let deleted = sqlx::query(sql).bind(before.0).bind(before.1).bind(i64::from(limit));
    Ok(deleted.execute(&mut session.connection).await?.rows_affected())
}

/// Number of events that one statement counts, so that a count of millions keeps no connection for long.
const COUNTED_EVENTS: i64 = 5000;

/// Events that are not completed.
#[derive(Clone, Copy)]
pub(crate) enum Uncompleted {
    Open,
    DeadLetters,
}

/// Bytes of a portion of the events after `(file_hash, seq)`, and the last one of them; `None` when there are no more. Read
/// from a partial index.
pub(crate) async fn uncompleted_bytes(
    session: &mut Session,
    events: Uncompleted,
    after: (Queue, i64),
) -> sqlx::Result<Option<(u64, (Queue, i64))>> {
    let (queue, events) = match events {
        Uncompleted::Open => {
            ("file_hash", "state <= 1 AND (file_hash, seq) > ($1, $2) ORDER BY file_hash, seq")
        }
        Uncompleted::DeadLetters => ("$1::bigint", "state = 3 AND seq > $2 ORDER BY seq"),
    };
    let sql = session.tables.sql(&format!(
        "WITH part AS MATERIALIZED (SELECT {queue} AS queue, seq, {} AS size FROM smartshape_inbox_events WHERE {events} LIMIT $3) \
         SELECT (SELECT sum(size)::bigint FROM part), queue, seq FROM part ORDER BY queue DESC, seq DESC LIMIT 1",
        counted_bytes("least")
    ));
    let counted: Option<(i64, Queue, i64)> = sqlx::query_as(sql)
        .bind(after.0)
        .bind(after.1)
        .bind(COUNTED_EVENTS)
        .fetch_optional(&mut session.connection)
        .await?;
    Ok(counted.map(|(bytes, queue, seq)| (u64::try_from(bytes).unwrap_or(0), (queue, seq))))
}

/// Records the reason of dead letters that have none, which an older version or a lost lease has left. A bounded number.
pub(crate) async fn group_errors(session: &mut Session, limit: u32) -> sqlx::Result<()> {
    let sql = session.tables.sql(
        "SELECT seq, error FROM smartshape_inbox_events WHERE state = 3 AND error_group IS NULL \
         ORDER BY error_group, seq LIMIT $1",
    );
    let ungrouped: Vec<(i64, Option<String>)> =
        sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(&mut session.connection).await?;
    if ungrouped.is_empty() {
        return Ok(());
    }
    let group = |error: &Option<String>| ReasonId::from_error(error.as_deref().unwrap_or_default()).0;
    let sql = session.tables.sql(
        "WITH free AS MATERIALIZED (SELECT e.seq, g.error_group FROM unnest($1::bigint[], $2::bigint[]) AS g (seq, error_group) \
           JOIN smartshape_inbox_events e ON e.seq = g.seq WHERE e.state = 3 FOR UPDATE OF e SKIP LOCKED) \
         UPDATE smartshape_inbox_events e SET error_group = free.error_group FROM free WHERE e.seq = free.seq",
    );
    sqlx::query(sql)
        .bind(ungrouped.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
        .bind(ungrouped.iter().map(|(_, error)| group(error)).collect::<Vec<_>>())
        .execute(&mut session.connection)
        .await
        .map(drop)
}

/// Checks whether an event could be stored, without storing one: on a primary, with all privileges. Returns why not.
pub(crate) async fn ping(session: &mut Session) -> sqlx::Result<Option<&'static str>> {
    let sql = session.tables.sql(
        "SELECT current_setting('transaction_read_only') = 'on', \
           has_table_privilege('smartshape_inbox_events', 'INSERT') AND has_table_privilege('smartshape_inbox_events', 'SELECT') \
             AND has_table_privilege('smartshape_inbox_events', 'UPDATE') AND has_table_privilege('smartshape_inbox_events', 'DELETE') \
             AND has_table_privilege('smartshape_inbox_bodies', 'INSERT') AND has_table_privilege('smartshape_inbox_bodies', 'SELECT') \
             AND has_table_privilege('smartshape_inbox_bodies', 'DELETE'), \
           s.name IS NOT NULL, coalesce(has_sequence_privilege(s.name, 'USAGE'), false) \
         FROM (SELECT pg_get_serial_sequence('smartshape_inbox_events', 'seq') AS name) s",
    );
    let (read_only, tables, sequence, usage): (bool, bool, bool, bool) =
        sqlx::query_as(sql).fetch_one(&mut session.connection).await?;
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
