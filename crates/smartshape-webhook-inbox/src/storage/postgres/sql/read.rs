//! Reads events, and counts them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use smartshape_webhook::DeliveryKey;
use sqlx::{Postgres, QueryBuilder};

use super::span;
use crate::event::{EventFilter, InboxCounts, InboxStats, MAX_EXAMINED, StoredDelivery, StoredEvent};
use crate::operations::FailedAttempt;
use crate::reason::DeadLetterReason;
use crate::storage::postgres::connections::Session;
use crate::storage::rows;

/// All columns, integers with 64 bits.
const COLUMNS: &str = "SELECT e.seq, e.key, e.state::bigint AS state, e.event, e.file, e.uuid, e.owner, e.secret, e.triggered, \
     e.received, e.bytes, e.attempts::bigint AS attempts, e.lost::bigint AS lost, e.error FROM smartshape_inbox_events e WHERE ";

pub(crate) async fn list(session: &mut Session, filter: &EventFilter) -> sqlx::Result<Vec<StoredEvent>> {
    let mut query = filtered(session, COLUMNS, filter);
    query.build().fetch_all(&mut session.connection).await?.iter().map(rows::stored).collect()
}

/// The statement with the filter's conditions, order and limit at its end.
pub(super) fn filtered(session: &Session, statement: &str, filter: &EventFilter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(session.tables.sql(statement).0);
    rows::push_filter(&mut query, filter);
    query
}

pub(crate) async fn get(session: &mut Session, key: DeliveryKey) -> sqlx::Result<Option<StoredDelivery>> {
    let Some(event) = list(session, &EventFilter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = bodies(session, &[event.seq]).await?.remove(&event.seq);
    let wait = session.tables.sql(
        "SELECT (extract(epoch FROM due - clock_timestamp()) * 1000)::bigint FROM smartshape_inbox_events \
         WHERE seq = $1 AND state = 0",
    );
    let wait: Option<i64> =
        sqlx::query_scalar(wait).bind(event.seq).fetch_optional(&mut session.connection).await?;
    Ok(Some(StoredDelivery { event, body, next_attempt_at: wait.map(rows::from_now) }))
}

pub(crate) async fn bodies(session: &mut Session, seqs: &[i64]) -> sqlx::Result<HashMap<i64, Bytes>> {
    let sql = session.tables.sql("SELECT seq, body FROM smartshape_inbox_bodies WHERE seq = ANY ($1)");
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).bind(seqs).fetch_all(&mut session.connection).await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

pub(crate) async fn stats(session: &mut Session) -> sqlx::Result<InboxStats> {
    let mut stats = InboxStats { disk_bytes: used_bytes(session).await?, ..InboxStats::default() };
    let open: Vec<(i16, i64, f64)> = sqlx::query_as(session.tables.sql(
        "SELECT state, count(*), extract(epoch FROM clock_timestamp() - min(stored))::float8 \
         FROM smartshape_inbox_events WHERE state <= 1 GROUP BY state",
    ))
    .fetch_all(&mut session.connection)
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
    let dead_letters: i64 = sqlx::query_scalar(
        session.tables.sql("SELECT count(*) FROM smartshape_inbox_events WHERE state = 3"),
    )
    .fetch_one(&mut session.connection)
    .await?;
    stats.dead_letters = u64::try_from(dead_letters).unwrap_or(0);
    Ok(stats)
}

pub(crate) async fn counts(session: &mut Session) -> sqlx::Result<InboxCounts> {
    let disk_bytes = used_bytes(session).await?;
    let sql = session.tables.sql(
        "SELECT count(*), count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 0 AND due > now()), \
           extract(epoch FROM clock_timestamp() - min(due) FILTER (WHERE state = 0))::float8 \
         FROM (SELECT state, due FROM smartshape_inbox_events WHERE state <= 1 ORDER BY due LIMIT $1) o",
    );
    let (open, waiting, retrying, due): (i64, i64, i64, Option<f64>) =
        sqlx::query_as(sql).bind(i64::from(MAX_EXAMINED)).fetch_one(&mut session.connection).await?;
    // The server's estimate, or for a table that was never vacuumed the range of the numbers, which has gaps.
    let sql = session.tables.sql(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM smartshape_inbox_events WHERE state = 3 LIMIT $1) d), \
           coalesce((SELECT nullif(greatest(c.reltuples, 0), 0)::bigint FROM pg_class c \
               WHERE c.oid = 'smartshape_inbox_events'::regclass), \
             (SELECT max(seq) - min(seq) + 1 FROM smartshape_inbox_events), 0)",
    );
    let (dead_letters, stored): (i64, i64) =
        sqlx::query_as(sql).bind(i64::from(MAX_EXAMINED)).fetch_one(&mut session.connection).await?;
    Ok(rows::counts([open, waiting, retrying, dead_letters, stored], due.map(span), disk_bytes))
}

pub(crate) async fn nth(
    session: &mut Session,
    filter: &EventFilter,
    skipped: u32,
) -> sqlx::Result<Option<i64>> {
    let mut query =
        QueryBuilder::new(session.tables.sql("SELECT e.seq FROM smartshape_inbox_events e WHERE ").0);
    rows::push_nth(&mut query, filter, skipped);
    query.build_query_scalar().fetch_optional(&mut session.connection).await
}

pub(crate) async fn count_by_event(
    session: &mut Session,
    filter: &EventFilter,
) -> sqlx::Result<Vec<(String, u64)>> {
    let start = session.tables.sql("SELECT e.event, count(*) FROM smartshape_inbox_events e WHERE ").0;
    let mut query = QueryBuilder::new(start);
    rows::push_conditions(&mut query, filter);
    query.push(rows::BY_EVENT);
    let counted: Vec<(String, i64)> = query.build_query_as().fetch_all(&mut session.connection).await?;
    Ok(rows::by_event(counted))
}

pub(crate) async fn reasons(session: &mut Session, limit: u32) -> sqlx::Result<Vec<DeadLetterReason>> {
    let sql = session.tables.sql(
        "SELECT error_group, count(*), max(seq) FROM (SELECT error_group, seq FROM smartshape_inbox_events \
         WHERE state = 3 ORDER BY error_group, seq LIMIT $1) d GROUP BY error_group ORDER BY 2 DESC, 3 DESC LIMIT $2",
    );
    let groups: Vec<(Option<i64>, i64, i64)> = sqlx::query_as(sql)
        .bind(i64::from(MAX_EXAMINED))
        .bind(i64::from(limit))
        .fetch_all(&mut session.connection)
        .await?;
    let numbers: Vec<i64> = groups.iter().map(|(.., last)| *last).collect();
    let sql = session.tables.sql(&format!("{COLUMNS} e.seq = ANY ($1)"));
    let last = sqlx::query(sql).bind(numbers).fetch_all(&mut session.connection).await?;
    Ok(rows::reasons(groups, &last.iter().map(rows::stored).collect::<sqlx::Result<Vec<_>>>()?))
}

pub(crate) async fn failed_attempts(
    session: &mut Session,
    key: DeliveryKey,
) -> sqlx::Result<Vec<FailedAttempt>> {
    let sql = session.tables.sql(
        "SELECT a.number::bigint, (extract(epoch FROM a.ended) * 1000000)::bigint, a.took_ms, a.error \
         FROM smartshape_inbox_failed_attempts a JOIN smartshape_inbox_events e ON e.seq = a.seq \
         WHERE e.key = $1 ORDER BY a.fence LIMIT 100",
    );
    let found: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sql).bind(key.as_bytes().as_slice()).fetch_all(&mut session.connection).await?;
    found.into_iter().map(rows::failed_attempt).collect()
}

pub(crate) async fn used_bytes(session: &mut Session) -> sqlx::Result<u64> {
    let bytes: i64 = sqlx::query_scalar(session.tables.sql("SELECT pg_total_relation_size('smartshape_inbox_events') + pg_total_relation_size('smartshape_inbox_bodies')"))
    .fetch_one(&mut session.connection)
    .await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
