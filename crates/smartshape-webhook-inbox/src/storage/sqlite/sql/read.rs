//! Reads events, and counts them.

use std::collections::HashMap;

use bytes::Bytes;
use smartshape_webhook::DeliveryKey;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use super::json_array;
use super::maintenance::used_bytes;
use crate::event::{EventFilter, InboxCounts, InboxStats, MAX_EXAMINED, StoredDelivery, StoredEvent};
use crate::operations::FailedAttempt;
use crate::reason::DeadLetterReason;
use crate::storage::rows;
use crate::storage::sqlite::clock::span;

pub(super) async fn bodies(
    connection: &mut SqliteConnection,
    numbers: &[i64],
) -> sqlx::Result<HashMap<i64, Bytes>> {
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, body FROM bodies WHERE seq IN (SELECT value FROM json_each(?))")
            .bind(json_array(numbers))
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(seq, body)| (seq, body.into())).collect())
}

pub(crate) async fn failed_attempts(
    connection: &mut SqliteConnection,
    key: DeliveryKey,
) -> sqlx::Result<Vec<FailedAttempt>> {
    let sql = "SELECT a.number, a.ended, a.took_ms, a.error FROM failed_attempts a JOIN events e ON e.seq = a.seq \
         WHERE e.key = ? ORDER BY a.fence LIMIT 100";
    let found: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sql).bind(key.as_bytes().as_slice()).fetch_all(connection).await?;
    found.into_iter().map(rows::failed_attempt).collect()
}

pub(crate) async fn list(
    connection: &mut SqliteConnection,
    filter: EventFilter,
) -> sqlx::Result<Vec<StoredEvent>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM events e WHERE ");
    rows::push_filter(&mut query, &filter);
    query.build().fetch_all(connection).await?.iter().map(stored).collect()
}

pub(crate) async fn get(
    connection: &mut SqliteConnection,
    now: i64,
    key: DeliveryKey,
) -> sqlx::Result<Option<StoredDelivery>> {
    let Some(event) = list(connection, EventFilter::default().key(key)).await?.pop() else { return Ok(None) };
    let body = bodies(connection, &[event.seq]).await?.remove(&event.seq);
    let due: Option<i64> = sqlx::query_scalar("SELECT due FROM events WHERE seq = ? AND state = 0")
        .bind(event.seq)
        .fetch_optional(connection)
        .await?;
    let next_attempt_at = due.map(|due| rows::from_now(due - now));
    Ok(Some(StoredDelivery { event, body, next_attempt_at }))
}

fn stored(row: &SqliteRow) -> sqlx::Result<StoredEvent> {
    rows::stored(row)
}

pub(crate) async fn stats(connection: &mut SqliteConnection, now: i64) -> sqlx::Result<InboxStats> {
    // One scan of the index, without sorting what may be millions of rows.
    let (waiting, oldest, open, dead_letters): (i64, Option<i64>, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE state = 0), min(stored) FILTER (WHERE state = 0), count(*), \
         (SELECT count(*) FROM events WHERE state = 3) FROM events WHERE state <= 1",
    )
    .fetch_one(&mut *connection)
    .await?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(InboxStats {
        waiting: count(waiting),
        running: count(open - waiting),
        dead_letters: count(dead_letters),
        oldest_waiting: oldest.map(|oldest| span(oldest, now)),
        disk_bytes: used_bytes(connection).await?,
    })
}

pub(crate) async fn counts(connection: &mut SqliteConnection, now: i64) -> sqlx::Result<InboxCounts> {
    let (open, waiting, retrying, due): (i64, i64, i64, Option<i64>) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 0 AND due > ?1), \
         min(due) FILTER (WHERE state = 0) \
         FROM (SELECT state, due FROM events WHERE state <= 1 ORDER BY due LIMIT ?2)",
    )
    .bind(now)
    .bind(MAX_EXAMINED)
    .fetch_one(&mut *connection)
    .await?;
    let (dead_letters, stored): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM events WHERE state = 3 LIMIT ?1)), \
         coalesce((SELECT max(seq) FROM events) - (SELECT min(seq) FROM events) + 1, 0)",
    )
    .bind(MAX_EXAMINED)
    .fetch_one(&mut *connection)
    .await?;
    let disk_bytes = used_bytes(connection).await?;
    Ok(rows::counts(
        [open, waiting, retrying, dead_letters, stored],
        due.map(|due| span(due, now)),
        disk_bytes,
    ))
}

pub(crate) async fn nth(
    connection: &mut SqliteConnection,
    filter: EventFilter,
    skipped: u32,
) -> sqlx::Result<Option<i64>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT e.seq FROM events e WHERE ");
    rows::push_nth(&mut query, &filter, skipped);
    query.build_query_scalar().fetch_optional(connection).await
}

pub(crate) async fn count_by_event(
    connection: &mut SqliteConnection,
    filter: EventFilter,
) -> sqlx::Result<Vec<(String, u64)>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT e.event, count(*) FROM events e WHERE ");
    rows::push_conditions(&mut query, &filter);
    query.push(rows::BY_EVENT);
    let counted: Vec<(String, i64)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows::by_event(counted))
}

pub(crate) async fn reasons(
    connection: &mut SqliteConnection,
    limit: u32,
) -> sqlx::Result<Vec<DeadLetterReason>> {
    let groups: Vec<(Option<i64>, i64, i64)> = sqlx::query_as(
        "SELECT error_group, count(*), max(seq) FROM (SELECT error_group, seq FROM events WHERE state = 3 \
         ORDER BY error_group, seq LIMIT ?1) GROUP BY error_group ORDER BY 2 DESC, 3 DESC LIMIT ?2",
    )
    .bind(MAX_EXAMINED)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let numbers: Vec<i64> = groups.iter().map(|(.., last)| *last).collect();
    let last = sqlx::query("SELECT * FROM events WHERE seq IN (SELECT value FROM json_each(?))")
        .bind(json_array(&numbers))
        .fetch_all(connection)
        .await?;
    Ok(rows::reasons(groups, &last.iter().map(stored).collect::<sqlx::Result<Vec<_>>>()?))
}
