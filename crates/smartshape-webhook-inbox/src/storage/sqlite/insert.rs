//! Inserts a batch of events.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;

use smartshape_webhook::DeliveryKey;
use sqlx::Executor as _;
use sqlx::sqlite::{SqliteConnection, SqliteQueryResult};

use crate::event::NewEvent;
use crate::storage::rows::{decoded, parse_key};

/// Rows of one statement: the largest size that fits, and then the rest in one. A batch takes few statements, and few
/// different ones have to be prepared. SQLite's limit of parameters is higher.
const CHUNKS: [usize; 3] = [256, 128, 64];
const INSERT_EVENTS: &str = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, owner, secret, \
     traceparent, triggered, received, bytes, stored) VALUES";
const EVENT_ROW: &str = "(?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Inserts a batch, and returns whether each event is new. BEGIN and COMMIT are sent together with other statements,
/// since each call of SQLite's thread costs two context switches while the other senders wait.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    now: i64,
    events: Arc<[NewEvent]>,
) -> sqlx::Result<Vec<bool>> {
    let mut fresh = Vec::with_capacity(events.len());
    let mut rest = &*events;
    while !rest.is_empty() {
        let rows = CHUNKS.into_iter().find(|size| *size <= rest.len()).unwrap_or(rest.len());
        let (chunk, after) = rest.split_at(rows);
        let begin = if fresh.is_empty() { "BEGIN IMMEDIATE; " } else { "" };
        let seqs = insert_events(connection, now, chunk, begin).await?;
        insert_bodies(connection, chunk, &seqs, after.is_empty()).await?;
        fresh.extend(seqs.iter().map(Option::is_some));
        rest = after;
    }
    Ok(fresh)
}

/// Returns the sequence number of each new event.
async fn insert_events(
    connection: &mut SqliteConnection,
    now: i64,
    chunk: &[NewEvent],
    begin: &str,
) -> sqlx::Result<Vec<Option<i64>>> {
    let rows = vec![EVENT_ROW; chunk.len()].join(",");
    let sql = format!("{begin}{INSERT_EVENTS} {rows} ON CONFLICT (key) DO NOTHING");
    let mut events = sqlx::query(sqlx::AssertSqlSafe(sql));
    for event in chunk {
        events = events
            .bind(i64::from(event.version))
            .bind(event.key.as_bytes().as_slice())
            .bind(now)
            .bind(event.queue)
            .bind(event.name.as_str())
            .bind(event.file.as_str())
            .bind(event.uuid.as_str())
            .bind(event.owner.as_str())
            .bind(event.secret_name.as_deref())
            .bind(event.traceparent.as_deref())
            .bind(event.triggered_at.map(|time| time.as_microsecond()))
            .bind(event.received_at.as_microsecond())
            .bind(i64::try_from(event.body.len()).unwrap_or(i64::MAX))
            .bind(now);
    }
    let mut outcomes = connection.execute_many(events);
    let mut inserted = SqliteQueryResult::default();
    while let Some(outcome) = poll_fn(|context| outcomes.as_mut().poll_next(context)).await {
        inserted = outcome?;
    }
    drop(outcomes);
    let count = inserted.rows_affected();
    if count == chunk.len() as u64 {
        // When no row existed before, the seqs of one statement are consecutive.
        let first = inserted.last_insert_rowid() - count.cast_signed() + 1;
        return Ok((first..=inserted.last_insert_rowid()).map(Some).collect());
    }
    let seqs = latest(connection, count.cast_signed()).await?;
    Ok(chunk.iter().map(|event| seqs.get(&event.key).copied()).collect())
}

async fn insert_bodies(
    connection: &mut SqliteConnection,
    chunk: &[NewEvent],
    seqs: &[Option<i64>],
    commits: bool,
) -> sqlx::Result<()> {
    let count = seqs.iter().flatten().count();
    let mut sql = String::new();
    if count > 0 {
        sql = format!("INSERT INTO bodies (seq, body) VALUES {}; ", vec!["(?, ?)"; count].join(","));
    }
    if commits {
        sql += "COMMIT";
    }
    if sql.is_empty() {
        return Ok(());
    }
    let mut bodies = sqlx::query(sqlx::AssertSqlSafe(sql));
    for (number, event) in seqs.iter().zip(chunk) {
        if number.is_some() {
            bodies = bodies.bind(number).bind(event.body.as_ref());
        }
    }
    bodies.execute(connection).await.map(drop)
}

/// The seqs of the rows inserted last: numbers only increase, and this transaction is the only writer.
async fn latest(connection: &mut SqliteConnection, count: i64) -> sqlx::Result<HashMap<DeliveryKey, i64>> {
    let rows = sqlx::query("SELECT seq, key FROM events ORDER BY seq DESC LIMIT ?")
        .bind(count)
        .fetch_all(connection)
        .await?;
    let seqs = decoded(&rows, |row| Ok((parse_key(&row.bytes("key")?)?, row.number("seq")?)))?;
    Ok(seqs.into_iter().collect())
}
