//! The inbox's one statement on connections of its own, and nothing else.

use smartshape_webhook::Delivery;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::Outcome;
use crate::samples::file_hash;

const TABLES: &str = include_str!("../../../../crates/smartshape-webhook-inbox/migrations/postgres-0001.sql");

pub(crate) struct BarePostgres {
    pub(crate) connections: Vec<PgConnection>,
}

impl BarePostgres {
    pub(crate) async fn open(url: &str, connections: usize) -> Outcome<Self> {
        let options = url.parse::<PgConnectOptions>()?.disable_statement_logging();
        let mut bare = Self { connections: Vec::new() };
        for _ in 0..connections {
            bare.connections.push(options.connect().await?);
        }
        if let Some(connection) = bare.connections.first_mut() {
            sqlx::raw_sql(TABLES).execute(connection).await?;
        }
        Ok(bare)
    }

    pub(crate) async fn commit(connection: &mut PgConnection, group: &[Delivery]) -> Result<(), sqlx::Error> {
        macro_rules! column {
            ($delivery:ident => $value:expr) => {
                group.iter().map(|$delivery| $value).collect::<Vec<_>>()
            };
        }
        sqlx::query(
            "WITH given AS MATERIALIZED ( \
               SELECT nextval(pg_get_serial_sequence('smartshape_inbox_events', 'seq')) AS seq, g.* FROM \
                 unnest($1::int[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
                   $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bytea[]) \
                 AS g (version, key, file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, body)), \
             fresh AS ( \
               INSERT INTO smartshape_inbox_events (seq, version, key, state, due, file_hash, event, file, uuid, owner, secret, \
                 traceparent, triggered, received, bytes) \
               SELECT seq, version, key, 0, now(), file_hash, event, file, uuid, owner, secret, traceparent, triggered, received, \
                 length(body) FROM given ORDER BY key \
               ON CONFLICT (key) DO NOTHING RETURNING seq, key), \
             kept AS ( \
               INSERT INTO smartshape_inbox_bodies (seq, body) SELECT given.seq, given.body FROM fresh JOIN given USING (seq)) \
             SELECT key FROM fresh",
        )
        .bind(vec![1_i32; group.len()])
        .bind(column!(delivery => delivery.key().as_bytes().to_vec()))
        .bind(column!(delivery => file_hash(delivery)))
        .bind(column!(delivery => delivery.event_name()))
        .bind(column!(delivery => delivery.file().as_str()))
        .bind(column!(delivery => delivery.uuid()))
        .bind(column!(delivery => delivery.owner().to_string()))
        .bind(column!(delivery => delivery.secret_name()))
        .bind(column!(delivery => delivery.traceparent()))
        .bind(column!(delivery => delivery.triggered_at().map(|time| time.as_microsecond())))
        .bind(column!(delivery => delivery.received_at().as_microsecond()))
        .bind(column!(delivery => delivery.raw().as_ref()))
        .fetch_all(connection)
        .await
        .map(drop)
    }
}
