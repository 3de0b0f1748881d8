//! Group commits into the inbox's tables and nothing else.

use std::path::Path;
use std::time::Instant;

use smartshape_webhook::Delivery;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::Outcome;
use crate::samples::file_hash;

const TABLES: &str = include_str!("../../../../crates/smartshape-webhook-inbox/migrations/sqlite-0001.sql");
const EVENTS: &str = "INSERT INTO events (seq, version, key, state, due, file_hash, event, file, uuid, owner, secret, \
     traceparent, triggered, received, bytes, stored) VALUES ";
const EVENT_ROW: &str = "(?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const BODIES: &str = "INSERT INTO bodies (seq, body) VALUES ";
const BODY_ROW: &str = "(?, ?)";

pub(crate) struct BareSqlite {
    connection: SqliteConnection,
    opened: Instant,
    seq: i64,
    /// Of one size of group.
    statements: Option<(usize, String, String)>,
}

impl BareSqlite {
    pub(crate) async fn open(path: &Path) -> Outcome<Self> {
        let options =
            SqliteConnectOptions::new().filename(path).create_if_missing(true).disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        for setting in [
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA fullfsync = ON",
            "PRAGMA wal_autocheckpoint = 2000",
            "PRAGMA temp_store = MEMORY",
        ] {
            sqlx::query(setting).execute(&mut connection).await?;
        }
        sqlx::raw_sql(TABLES).execute(&mut connection).await?;
        Ok(Self { connection, opened: Instant::now(), seq: 0, statements: None })
    }

    pub(crate) async fn commit(&mut self, group: &[Delivery]) -> Result<(), sqlx::Error> {
        if self.statements.as_ref().is_none_or(|(size, ..)| *size != group.len()) {
            let rows = |row: &str| vec![row; group.len()].join(",");
            self.statements = Some((
                group.len(),
                EVENTS.to_owned() + &rows(EVENT_ROW),
                BODIES.to_owned() + &rows(BODY_ROW),
            ));
        }
        let Some((_, events, bodies)) = &self.statements else { return Ok(()) };
        let mut events = sqlx::query(sqlx::AssertSqlSafe(events.as_str()));
        let mut bodies = sqlx::query(sqlx::AssertSqlSafe(bodies.as_str()));
        let now = i64::try_from(self.opened.elapsed().as_millis()).unwrap_or(i64::MAX);
        for delivery in group {
            self.seq += 1;
            events = events
                .bind(self.seq)
                .bind(1_i64)
                .bind(delivery.key().as_bytes().to_vec())
                .bind(now)
                .bind(file_hash(delivery))
                .bind(delivery.event_name())
                .bind(delivery.file().as_str())
                .bind(delivery.uuid())
                .bind(delivery.owner().to_string())
                .bind(delivery.secret_name())
                .bind(delivery.traceparent())
                .bind(delivery.triggered_at().map(|time| time.as_microsecond()))
                .bind(delivery.received_at().as_microsecond())
                .bind(i64::try_from(delivery.raw().len()).unwrap_or(i64::MAX))
                .bind(now);
            bodies = bodies.bind(self.seq).bind(delivery.raw().as_ref());
        }
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        events.execute(&mut self.connection).await?;
        bodies.execute(&mut self.connection).await?;
        sqlx::query("COMMIT").execute(&mut self.connection).await.map(drop)
    }
}
