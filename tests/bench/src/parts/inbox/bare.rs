//! The databases' own limit: group commits of the inbox's rows into the tables of schema 1, without the triggers and
//! indexes that later migrations add: a lower bound of what a commit costs.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use smartshape_webhook::Delivery;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, PgConnection, QueryBuilder};

use super::engine::Engine;
use crate::Result;

const SQLITE: &str =
    include_str!("../../../../../crates/smartshape-webhook-inbox/migrations/sqlite-0001.sql");
const POSTGRES: &str =
    include_str!("../../../../../crates/smartshape-webhook-inbox/migrations/postgres-0001.sql");
/// The pragmas of the inbox.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = 2000";
/// Number of connections that the inbox uses at once for storing.
const CONNECTIONS: usize = 4;

/// Connections to one database; SQLite has one.
pub(super) struct BareLoop(Vec<Connection>);

enum Connection {
    Sqlite(SqliteConnection, i64),
    Postgres(PgConnection),
}

impl BareLoop {
    pub(super) async fn open(engine: &Engine, url: &str) -> Result<Self> {
        if matches!(engine, Engine::Sqlite) {
            let options = SqliteConnectOptions::new().filename(url).create_if_missing(true);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::raw_sql(PRAGMAS).execute(&mut connection).await?;
            sqlx::raw_sql(SQLITE).execute(&mut connection).await?;
            return Ok(Self(vec![Connection::Sqlite(connection, 0)]));
        }
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(PgConnection::connect(url).await?);
        }
        sqlx::raw_sql(POSTGRES).execute(&mut connections[0]).await?;
        Ok(Self(connections.into_iter().map(Connection::Postgres).collect()))
    }

    /// Rows a second, with as many rows in flight as there are senders.
    pub(super) async fn rate(&mut self, senders: usize, rows: &[Delivery], slice: Duration) -> Result<f64> {
        let used = senders.min(self.0.len());
        let (started_at, parts) = (Instant::now(), rows.chunks(rows.len() / used));
        let committed = self.0.iter_mut().zip(parts).take(used).map(async |(connection, rows)| {
            let mut committed = 0;
            for group in rows.chunks_exact(senders / used) {
                match connection {
                    Connection::Sqlite(connection, seq) => commit_sqlite(connection, seq, group).await?,
                    Connection::Postgres(connection) => commit_postgres(connection, group).await?,
                }
                committed += group.len();
                if started_at.elapsed() >= slice {
                    break;
                }
            }
            Ok::<_, sqlx::Error>(committed)
        });
        let committed: usize = try_join_all(committed).await?.into_iter().sum();
        Ok(committed as f64 / started_at.elapsed().as_secs_f64())
    }
}

async fn commit_sqlite(
    connection: &mut SqliteConnection,
    seq: &mut i64,
    group: &[Delivery],
) -> sqlx::Result<()> {
    let first = *seq + 1;
    *seq += group.len() as i64;
    let mut events = QueryBuilder::new(
        "INSERT INTO events (version, state, due, stored, key, event, file, uuid, owner, seq, file_hash, received, bytes) ",
    );
    events.push_values((first..).zip(group), |mut row, (seq, delivery)| {
        row.push("1, 0, 0, 0").push_bind(delivery.key().as_bytes().to_vec());
        row.push_bind(delivery.event_name()).push_bind(delivery.file().as_str()).push_bind(delivery.uuid());
        row.push_bind(delivery.owner().to_string()).push_bind(seq).push_bind(seq / 10);
        row.push_bind(seq).push_bind(delivery.raw().len() as i64);
    });
    let mut bodies = QueryBuilder::new("INSERT INTO bodies (seq, body) ");
    bodies.push_values((first..).zip(group), |mut row, (seq, delivery)| {
        row.push_bind(seq).push_bind(delivery.raw().as_ref());
    });
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    events.build().execute(&mut *transaction).await?;
    bodies.build().execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn commit_postgres(connection: &mut PgConnection, group: &[Delivery]) -> sqlx::Result<()> {
    let texts = |text: fn(&Delivery) -> String| group.iter().map(text).collect::<Vec<_>>();
    sqlx::query(
        "WITH given AS MATERIALIZED (
           SELECT nextval(pg_get_serial_sequence('smartshape_inbox_events', 'seq')) AS seq, g.*
             FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
               AS g (key, event, file, uuid, owner, body)),
         events AS (
           INSERT INTO smartshape_inbox_events
               (seq, version, key, state, due, file_hash, event, file, uuid, owner, received, bytes)
             SELECT seq, 1, key, 0, now(), seq / 10, event, file, uuid, owner, seq, length(body) FROM given)
         INSERT INTO smartshape_inbox_bodies (seq, body) SELECT seq, body FROM given",
    )
    .bind(group.iter().map(|delivery| delivery.key().as_bytes().to_vec()).collect::<Vec<_>>())
    .bind(texts(|delivery| delivery.event_name().to_owned()))
    .bind(texts(|delivery| delivery.file().to_string()))
    .bind(texts(|delivery| delivery.uuid().to_owned()))
    .bind(texts(|delivery| delivery.owner().to_string()))
    .bind(group.iter().map(|delivery| delivery.raw().to_vec()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}
