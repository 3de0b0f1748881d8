//! The databases' own limit: group commits of the inbox's rows into the tables of schema 1, without the triggers and
//! indexes that later migrations add: a lower bound of what a commit costs.

use std::time::{Duration, Instant};

use smartshape_webhook::Delivery;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, QueryBuilder};
use tokio::task::JoinSet;

use super::engine::Engine;
use crate::Result;

const SQLITE: &str =
    include_str!("../../../../../crates/smartshape-webhook-inbox/migrations/sqlite-0001.sql");
const POSTGRES: &str =
    include_str!("../../../../../crates/smartshape-webhook-inbox/migrations/postgres-0001.sql");
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
            let options = SqliteConnectOptions::new()
                .filename(url)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("fullfsync", "ON")
                .pragma("wal_autocheckpoint", "2000")
                .disable_statement_logging();
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::raw_sql(SQLITE).execute(&mut connection).await?;
            return Ok(Self(vec![Connection::Sqlite(connection, 0)]));
        }
        let options = url.parse::<PgConnectOptions>()?.disable_statement_logging();
        let mut connection = options.connect().await?;
        sqlx::raw_sql(POSTGRES).execute(&mut connection).await?;
        let mut connections = vec![Connection::Postgres(connection)];
        while connections.len() < CONNECTIONS {
            connections.push(Connection::Postgres(options.connect().await?));
        }
        Ok(Self(connections))
    }

    /// Rows a second, with as many rows in flight as there are senders.
    pub(super) async fn rate(&mut self, senders: usize, rows: &[Delivery], slice: Duration) -> Result<f64> {
        let used = senders.min(self.0.len());
        let (started_at, mut committed) = (Instant::now(), 0);
        let mut tasks = JoinSet::new();
        for (mut connection, rows) in self.0.drain(..used).zip(rows.chunks(rows.len() / used)) {
            let rows = rows.to_vec();
            tasks.spawn(async move {
                let mut committed = 0;
                for group in rows.chunks_exact(senders / used) {
                    match &mut connection {
                        Connection::Sqlite(connection, seq) => commit_sqlite(connection, seq, group).await?,
                        Connection::Postgres(connection) => commit_postgres(connection, group).await?,
                    }
                    committed += group.len();
                    if started_at.elapsed() >= slice {
                        break;
                    }
                }
                Ok::<_, sqlx::Error>((connection, committed))
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            let (connection, rows) = outcome??;
            self.0.push(connection);
            committed += rows;
        }
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
        "INSERT INTO events (seq, version, key, state, due, file_hash, event, file, uuid, owner, received, bytes, stored) ",
    );
    events.push_values((first..).zip(group), |mut row, (seq, delivery)| {
        row.push_bind(seq)
            .push("1")
            .push_bind(delivery.key().as_bytes().to_vec())
            .push("0, 0")
            .push_bind(seq / 10);
        row.push_bind(delivery.event_name()).push_bind(delivery.file().as_str()).push_bind(delivery.uuid());
        row.push_bind(delivery.owner().to_string())
            .push_bind(seq)
            .push_bind(delivery.raw().len() as i64)
            .push("0");
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
         fresh AS (
           INSERT INTO smartshape_inbox_events
               (seq, version, key, state, due, file_hash, event, file, uuid, owner, received, bytes)
             SELECT seq, 1, key, 0, now(), seq / 10, event, file, uuid, owner, seq, length(body) FROM given ORDER BY key
             ON CONFLICT (key) DO NOTHING RETURNING seq)
         INSERT INTO smartshape_inbox_bodies (seq, body) SELECT seq, given.body FROM fresh JOIN given USING (seq)",
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
