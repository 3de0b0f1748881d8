//! Inserts a batch of deliveries.

use std::collections::HashSet;

use super::connections::Session;
use super::durability::{AS_DURABLE_AS_SET, DURABLE};
use super::queues::Queue;
use crate::event::NewEvent;
use crate::storage::rows::parse_key;
use crate::storage::statement::Decoded;

/// Inserts a batch with one statement, so one round trip and one commit. Sequence numbers follow the order of arrival;
/// the rows are written in the order of their keys, which prevents deadlocks between processes. Returns whether each
/// event is new, and the queues in which one was stored behind an earlier one.
pub(super) async fn insert(
    session: &mut Session,
    events: &[NewEvent],
    asynchronous: bool,
) -> sqlx::Result<(Vec<bool>, Vec<Queue>)> {
    macro_rules! column {
        ($record:ident => $value:expr) => {
            events.iter().map(|$record| $value).collect::<Vec<_>>()
        };
    }
    // Subqueries with LIMIT are evaluated per row, by the index; EXISTS could be planned as a scan of all open events.
    let durable = if asynchronous { AS_DURABLE_AS_SET } else { DURABLE };
    let sql = session.tables.sql(&format!(
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
        .bind(column!(event => event.queue))
        .bind(column!(event => event.name.as_str()))
        .bind(column!(event => event.file.as_str()))
        .bind(column!(event => event.uuid.as_str()))
        .bind(column!(event => event.owner.as_str()))
        .bind(column!(event => event.secret_name.as_deref()))
        .bind(column!(event => event.traceparent.as_deref()))
        .bind(column!(event => event.triggered_at.map(|time| time.as_microsecond())))
        .bind(column!(event => event.received_at.as_microsecond()))
        .bind(column!(event => event.body.as_ref()))
        .fetch_all(&mut session.connection)
        .await?;
    let keys: Decoded<HashSet<_>> = rows.iter().map(|(key, ..)| parse_key(key)).collect();
    let keys = keys.map_err(sqlx::Error::Decode)?;
    let fresh = events.iter().map(|event| keys.contains(&event.key)).collect();
    let blocked = rows.iter().filter(|(.., blocked)| *blocked).map(|(_, queue, _)| *queue).collect();
    Ok((fresh, blocked))
}
