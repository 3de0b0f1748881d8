//! Decoding and filters that both storages share.

use jiff::{SignedDuration, Timestamp};
use smartshape_webhook::DeliveryKey;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use sqlx::query::Query;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Encode, Row, Type};

use super::statement::Parameter::{Bytes, Number, Text};
use super::statement::{Columns, Decoded, Statement};
use super::{Attempt, Lease};
use crate::event::{EventState, StoredEvent};
use crate::filter::EventFilter;
use crate::reason::ReasonId;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl<R> Columns for R
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn number(&self, column: &str) -> Decoded<i64> {
        Ok(self.try_get(column)?)
    }

    fn optional_number(&self, column: &str) -> Decoded<Option<i64>> {
        Ok(self.try_get(column)?)
    }

    fn text(&self, column: &str) -> Decoded<String> {
        Ok(self.try_get(column)?)
    }

    fn optional_text(&self, column: &str) -> Decoded<Option<String>> {
        Ok(self.try_get(column)?)
    }

    fn bytes(&self, column: &str) -> Decoded<Vec<u8>> {
        Ok(self.try_get(column)?)
    }

    fn optional_bytes(&self, column: &str) -> Decoded<Option<Vec<u8>>> {
        Ok(self.try_get(column)?)
    }
}

/// The statement with the database's names of tables, and with its parameters.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn bound<DB>(statement: Statement, prefix: &str) -> Query<'static, DB, DB::Arguments>
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    let sql = statement.sql.replace("smartshape_inbox_", prefix);
    statement.parameters.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Number(number) => query.bind(number),
        Text(text) => query.bind(text),
        Bytes(bytes) => query.bind(bytes),
    })
}

/// Decodes all rows of a statement.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn decoded<R: Columns, T>(
    rows: &[R],
    decode: impl Fn(&dyn Columns) -> Decoded<T>,
) -> sqlx::Result<Vec<T>> {
    rows.iter().map(|row| decode(row).map_err(sqlx::Error::Decode)).collect()
}

pub(super) fn parse_key(bytes: &[u8]) -> Decoded<DeliveryKey> {
    let bytes = bytes.try_into().map_err(|_| "a key does not have 16 bytes")?;
    Ok(DeliveryKey::from_bytes(bytes))
}

pub(super) fn timestamp_from_micros(microseconds: i64) -> Decoded<Timestamp> {
    Ok(Timestamp::from_microsecond(microseconds)?)
}

/// The time in so many milliseconds, by this machine's wall clock.
pub(super) fn from_now(milliseconds: i64) -> Timestamp {
    Timestamp::now().saturating_add(SignedDuration::from_millis(milliseconds)).unwrap_or(Timestamp::MAX)
}

pub(super) fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

pub(super) fn lease(row: &dyn Columns) -> Decoded<Lease> {
    Ok(Lease { seq: row.number("seq")?, fence: row.number("fence")? })
}

/// Decodes an attempt, whose body is read by itself.
pub(super) fn attempt(row: &dyn Columns) -> Decoded<Attempt> {
    Ok(Attempt {
        lease: lease(row)?,
        key: parse_key(&row.bytes("key")?)?,
        number: u32::try_from(row.number("attempts")?).unwrap_or(u32::MAX),
        received_at: timestamp_from_micros(row.number("received")?)?,
        secret_name: row.optional_text("secret")?,
        traceparent: row.optional_text("traceparent")?,
        body: Ok(None),
    })
}

/// The columns of a [`StoredEvent`].
pub(super) const EVENT_COLUMNS: &str = "e.seq, e.key, CAST(e.state AS bigint) AS state, e.event, e.file, e.uuid, \
     e.owner, e.secret, e.triggered, e.received, e.bytes, CAST(e.attempts AS bigint) AS attempts, \
     CAST(e.lost AS bigint) AS lost, e.error";

pub(super) fn stored(row: &dyn Columns) -> Decoded<StoredEvent> {
    let small = |column| -> Decoded<u32> { Ok(u32::try_from(row.number(column)?).unwrap_or(u32::MAX)) };
    Ok(StoredEvent {
        seq: row.number("seq")?,
        key: parse_key(&row.bytes("key")?)?,
        state: EventState::from_number(row.number("state")?).ok_or("a state is unknown")?,
        event_name: row.text("event")?,
        file: row.text("file")?,
        uuid: row.text("uuid")?,
        owner: row.optional_text("owner")?,
        secret_name: row.optional_text("secret")?,
        triggered_at: row.optional_number("triggered")?.map(timestamp_from_micros).transpose()?,
        received_at: timestamp_from_micros(row.number("received")?)?,
        body_bytes: count(row.number("bytes")?),
        attempts: small("attempts")?,
        lost_leases: small("lost")?,
        error: row.optional_text("error")?,
    })
}

/// Appends the filter's conditions on the table `e`, its order and its limit.
pub(super) fn push_filter(statement: &mut Statement, filter: &EventFilter) {
    push_conditions(statement, filter);
    push_order(statement, filter);
    statement.push(" LIMIT ").push_bind(Number(filter.limit.into()));
}

pub(super) fn push_conditions(statement: &mut Statement, filter: &EventFilter) {
    push_scope(statement, filter);
    if let Some(state) = filter.state {
        statement.push(format_args!(" AND e.state = {}", state.number()));
    }
    for (column, value) in [("event", &filter.event), ("file", &filter.file), ("secret", &filter.secret)] {
        if let Some(value) = value {
            statement.push(format_args!(" AND e.{column} = ")).push_bind(Text(value.clone()));
        }
    }
    for (comparison, time) in [(">=", filter.received_from), ("<", filter.received_before)] {
        if let Some(time) = time {
            statement.push(format_args!(" AND e.received {comparison} "));
            statement.push_bind(Number(time.as_microsecond()));
        }
    }
    if let Some(key) = filter.key {
        statement.push(" AND e.key = ").push_bind(Bytes(key.as_bytes().to_vec()));
    }
    if let Some(text) = &filter.text {
        statement.push(" AND (e.file = ").push_bind(Text(text.clone()));
        statement.push(" OR e.uuid = ").push_bind(Text(text.clone()));
        let escaped = text.to_ascii_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        for column in ["owner", "error"] {
            statement.push(format_args!(" OR lower(e.{column}) LIKE "));
            statement.push_bind(Text(format!("%{escaped}%"))).push(" ESCAPE '\\'");
        }
        statement.push(")");
    }
}

/// Appends the conditions that an index covers. The state and the reason are not bound as parameters: the query
/// planners would not see that their partial indexes apply.
pub(super) fn push_scope(statement: &mut Statement, filter: &EventFilter) {
    let seq = order_column(filter);
    statement.push(seq).push(" > ").push_bind(Number(filter.after));
    if filter.up_to < i64::MAX {
        statement.push(" AND ").push(seq).push(" <= ").push_bind(Number(filter.up_to));
    }
    statement.push(match filter.state {
        Some(EventState::Waiting) => " AND e.state <= 1",
        Some(EventState::Running) => " AND e.state = 1",
        Some(EventState::DeadLetter) => " AND e.state = 3",
        Some(EventState::Completed) | None => "",
    });
    match filter.reason {
        Some(NO_REASON) => drop(statement.push(" AND e.error_group IS NULL")),
        Some(reason) => drop(statement.push(format_args!(" AND e.error_group = {}", reason.0))),
        None => {}
    }
}

pub(super) fn push_order(statement: &mut Statement, filter: &EventFilter) {
    statement.push(" ORDER BY ").push(order_column(filter));
    if filter.newest_first {
        statement.push(" DESC");
    }
}

/// Running events are few, and may be behind any number of waiting ones: they are sorted rather than looked for in the
/// order of their numbers.
fn order_column(filter: &EventFilter) -> &'static str {
    if filter.state == Some(EventState::Running) { "(e.seq + 0)" } else { "e.seq" }
}

/// Dead letters whose reason is not recorded yet.
pub(super) const NO_REASON: ReasonId = ReasonId(0);
