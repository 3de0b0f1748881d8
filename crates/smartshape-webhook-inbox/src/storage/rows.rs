//! Decoding and filters that both storages share.

use std::time::Duration;

use super::MAX_EXAMINED;
use jiff::{SignedDuration, Timestamp};
use smartshape_webhook::DeliveryKey;
use sqlx::{ColumnIndex, Database, Decode, Encode, QueryBuilder, Row, Type};

use crate::activity::ActivityCounts;
use crate::event::{EventState, StoredEvent};
use crate::filter::EventFilter;
use crate::operations::{FailedAttempt, WorkerInfo};
use crate::reason::{DeadLetterReason, ReasonId, without_ids};
use crate::stats::{Count, InboxCounts, InboxStats};

pub(super) fn parse_key(bytes: &[u8]) -> Result<DeliveryKey, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| damaged("a key does not have 16 bytes"))?;
    Ok(DeliveryKey::from_bytes(bytes))
}

pub(super) fn timestamp_from_micros(microseconds: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(microseconds).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The time in so many milliseconds, by this machine's wall clock.
pub(super) fn from_now(milliseconds: i64) -> Timestamp {
    Timestamp::now().saturating_add(SignedDuration::from_millis(milliseconds)).unwrap_or(Timestamp::MAX)
}

/// Decodes a row of all columns; integers have 64 bits.
pub(super) fn stored<R>(row: &R) -> Result<StoredEvent, sqlx::Error>
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    let count = |column: &str| -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX))
    };
    Ok(StoredEvent {
        seq: row.try_get("seq")?,
        key: parse_key(&row.try_get::<Vec<u8>, _>("key")?)?,
        state: EventState::from_number(row.try_get("state")?).ok_or_else(|| damaged("a state is unknown"))?,
        event_name: row.try_get("event")?,
        file: row.try_get("file")?,
        uuid: row.try_get("uuid")?,
        owner: row.try_get("owner")?,
        secret_name: row.try_get("secret")?,
        triggered_at: row.try_get::<Option<i64>, _>("triggered")?.map(timestamp_from_micros).transpose()?,
        received_at: timestamp_from_micros(row.try_get("received")?)?,
        body_bytes: u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0),
        attempts: count("attempts")?,
        lost_leases: count("lost")?,
        error: row.try_get("error")?,
    })
}

/// Appends the filter's conditions on the table `e`, its order and its limit.
pub(crate) fn push_filter<DB>(query: &mut QueryBuilder<DB>, filter: &EventFilter)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    push_conditions(query, filter);
    push_order(query, filter);
    query.push(" LIMIT ").push_bind(i64::from(filter.limit));
}

pub(super) fn push_conditions<DB>(query: &mut QueryBuilder<DB>, filter: &EventFilter)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    push_scope(query, filter);
    if let Some(state) = filter.state {
        query.push(format_args!(" AND e.state = {}", state.number()));
    }
    if let Some(event) = &filter.event {
        query.push(" AND e.event = ").push_bind(event.clone());
    }
    if let Some(file) = &filter.file {
        query.push(" AND e.file = ").push_bind(file.clone());
    }
    if let Some(secret) = &filter.secret {
        query.push(" AND e.secret = ").push_bind(secret.clone());
    }
    if let Some(time) = filter.received_from {
        query.push(" AND e.received >= ").push_bind(time.as_microsecond());
    }
    if let Some(time) = filter.received_before {
        query.push(" AND e.received < ").push_bind(time.as_microsecond());
    }
    if let Some(key) = filter.key {
        query.push(" AND e.key = ").push_bind(key.as_bytes().to_vec());
    }
    if let Some(text) = &filter.text {
        query.push(" AND (e.file = ").push_bind(text.clone());
        query.push(" OR e.uuid = ").push_bind(text.clone());
        let pattern = format!(
            "%{}%",
            text.to_ascii_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
        );
        query.push(" OR lower(e.owner) LIKE ").push_bind(pattern.clone()).push(" ESCAPE '\\'");
        query.push(" OR lower(e.error) LIKE ").push_bind(pattern).push(" ESCAPE '\\')");
    }
}

/// Appends the conditions that an index covers. The state and the reason are not bound as parameters: the query planners
/// would not see that their partial indexes apply.
pub(super) fn push_scope<DB>(query: &mut QueryBuilder<DB>, filter: &EventFilter)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let seq = order_column(filter);
    query.push(seq).push(" > ").push_bind(filter.after);
    if filter.up_to < i64::MAX {
        query.push(" AND ").push(seq).push(" <= ").push_bind(filter.up_to);
    }
    match filter.state {
        Some(EventState::Waiting) => drop(query.push(" AND e.state <= 1")),
        Some(EventState::Running) => drop(query.push(" AND e.state = 1")),
        Some(EventState::DeadLetter) => drop(query.push(" AND e.state = 3")),
        Some(EventState::Completed) | None => {}
    }
    match filter.reason {
        Some(NO_REASON) => drop(query.push(" AND e.error_group IS NULL")),
        Some(reason) => drop(query.push(format_args!(" AND e.error_group = {}", reason.0))),
        None => {}
    }
}

pub(super) fn push_order<DB: Database>(query: &mut QueryBuilder<DB>, filter: &EventFilter) {
    query.push(" ORDER BY ").push(order_column(filter));
    if filter.newest_first {
        query.push(" DESC");
    }
}

/// Running events are few, and may be behind any number of waiting ones: they are sorted rather than looked for in the
/// order of their numbers.
fn order_column(filter: &EventFilter) -> &'static str {
    if filter.state == Some(EventState::Running) { "(e.seq + 0)" } else { "e.seq" }
}

/// Dead letters whose reason is not recorded yet.
pub(super) const NO_REASON: ReasonId = ReasonId(0);

/// Joins reasons (id, number of dead letters, latest one) with the latest events.
pub(super) fn reasons(
    counted: Vec<(Option<i64>, i64, i64)>,
    latest: &[StoredEvent],
) -> Vec<DeadLetterReason> {
    // A dead letter that was replayed or purged between the two statements leaves its reason out.
    let reason = |(reason, count, seq): (Option<i64>, i64, i64)| {
        let last = latest.iter().find(|event| event.seq == seq)?;
        Some(DeadLetterReason {
            id: reason.map_or(NO_REASON, ReasonId),
            text: without_ids(last.error.as_deref().unwrap_or_default()),
            dead_letters: u64::try_from(count).unwrap_or(0),
            last_seq: seq,
            last_event_name: last.event_name.clone(),
            last_received_at: last.received_at,
        })
    };
    counted.into_iter().filter_map(reason).collect()
}

/// Appends the conditions of [`StorageAdmin::seq_after`](super::StorageAdmin::seq_after).
pub(crate) fn push_seq_after<DB>(query: &mut QueryBuilder<DB>, filter: &EventFilter, skipped: u32)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    push_scope(query, filter);
    push_order(query, filter);
    query.push(" LIMIT 1 OFFSET ").push_bind(i64::from(skipped));
}

/// The end of the statement for [`StorageAdmin::count_by_event`](super::StorageAdmin::count_by_event).
pub(super) const BY_EVENT: &str = " GROUP BY e.event ORDER BY 2 DESC, 1 LIMIT 100";

pub(super) fn by_event(counted: Vec<(String, i64)>) -> Vec<(String, u64)> {
    counted.into_iter().map(|(event, count)| (event, u64::try_from(count).unwrap_or(0))).collect()
}

pub(super) fn stats(
    (waiting, open, dead_letters): (i64, i64, i64),
    oldest_waiting: Option<Duration>,
    disk_bytes: u64,
) -> InboxStats {
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    let (waiting, running, dead_letters) = (count(waiting), count(open - waiting), count(dead_letters));
    InboxStats { waiting, running, dead_letters, oldest_waiting, disk_bytes }
}

/// Numbers of rows, the first four of them counted up to a limit.
pub(super) struct CountedRows {
    pub(super) open: i64,
    pub(super) waiting: i64,
    pub(super) retrying: i64,
    pub(super) dead_letters: i64,
    pub(super) stored: i64,
}

impl CountedRows {
    pub(super) fn into_counts(self, overdue: Option<Duration>, disk_bytes: u64) -> InboxCounts {
        // When not all open events were counted, none of their numbers is exact.
        let part = |count: i64| match counted(self.open) {
            Count::AtLeast(_) => Count::AtLeast(u64::try_from(count).unwrap_or(0)),
            Count::Exactly(_) => counted(count),
        };
        InboxCounts {
            waiting: part(self.waiting),
            retrying: part(self.retrying),
            running: part(self.open - self.waiting),
            dead_letters: counted(self.dead_letters),
            stored: u64::try_from(self.stored).unwrap_or(0),
            overdue: overdue.filter(|overdue| !overdue.is_zero()),
            disk_bytes,
        }
    }
}

/// The count of a query that stops at [`MAX_EXAMINED`] rows.
fn counted(rows: i64) -> Count {
    let count = u64::try_from(rows).unwrap_or(0);
    if count < u64::from(MAX_EXAMINED) { Count::Exactly(count) } else { Count::AtLeast(count) }
}

/// Number, end, run time and error.
pub(super) fn failed_attempt(
    (number, ended, took, error): (i64, i64, i64, String),
) -> Result<FailedAttempt, sqlx::Error> {
    Ok(FailedAttempt {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        ended_at: timestamp_from_micros(ended)?,
        took: Duration::from_millis(u64::try_from(took).unwrap_or(0)),
        error,
    })
}

/// The slot's number, then its counts in the order of [`ActivityCounts`].
pub(super) type ActivityRow = (i64, i64, i64, i64, i64, i64, i64, i64, i64);

pub(super) fn activity(row: ActivityRow) -> (i64, ActivityCounts) {
    let counts = ActivityCounts {
        stored: row.1,
        completed: row.2,
        retried: row.3,
        dead_letters: row.4,
        handler_ms: row.5,
        max_handler_ms: row.6,
        max_waiting: row.7,
        max_overdue_ms: row.8,
    };
    (row.0, counts)
}

/// Host, process id, version, concurrency, number of running attempts, start, last report.
pub(super) type WorkerRow = (String, i64, String, i64, i64, i64, i64);

pub(super) fn worker(
    (host, pid, version, concurrency, running, started, seen): WorkerRow,
) -> Result<WorkerInfo, sqlx::Error> {
    Ok(WorkerInfo {
        host,
        pid: u32::try_from(pid).unwrap_or(0),
        version,
        concurrency: u64::try_from(concurrency).unwrap_or(0),
        running: u64::try_from(running).unwrap_or(0),
        started_at: timestamp_from_micros(started)?,
        seen_at: timestamp_from_micros(seen)?,
    })
}

fn damaged(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
