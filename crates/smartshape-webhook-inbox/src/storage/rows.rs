//! Decoding and filters that both storages share.

use jiff::Timestamp;
use smartshape_webhook::DeliveryKey;
use sqlx::{ColumnIndex, Database, Decode, Encode, QueryBuilder, Row, Type};

use crate::event::{EventFilter, EventState, StoredEvent};

pub(super) fn key_of(bytes: &[u8]) -> Result<DeliveryKey, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| damaged("a key has not 16 bytes"))?;
    Ok(DeliveryKey::from_bytes(bytes))
}

pub(super) fn time_of(microseconds: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(microseconds).map_err(|error| sqlx::Error::Decode(error.into()))
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
        key: key_of(&row.try_get::<Vec<u8>, _>("key")?)?,
        state: EventState::from_number(row.try_get("state")?).ok_or_else(|| damaged("a state is unknown"))?,
        event: row.try_get("event")?,
        file: row.try_get("file")?,
        uuid: row.try_get("uuid")?,
        owner: row.try_get("owner")?,
        secret_name: row.try_get("secret")?,
        triggered_at: row.try_get::<Option<i64>, _>("triggered")?.map(time_of).transpose()?,
        received_at: time_of(row.try_get("received")?)?,
        body_bytes: u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0),
        attempts: count("attempts")?,
        lost_leases: count("lost")?,
        error: row.try_get("error")?,
    })
}

/// Appends the filter's conditions on the table `e`, its order and its limit.
pub(super) fn push_filter<DB>(query: &mut QueryBuilder<DB>, filter: &EventFilter)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    query.push("e.seq > ").push_bind(filter.after);
    if let Some(state) = filter.state {
        // Not bound as a parameter: the query planners would not see that their partial indexes apply.
        query.push(format_args!(" AND e.state = {}", state.number()));
        if state.number() <= 1 {
            query.push(" AND e.state <= 1");
        }
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
    query.push(" ORDER BY e.seq LIMIT ").push_bind(i64::from(filter.limit));
}

fn damaged(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
