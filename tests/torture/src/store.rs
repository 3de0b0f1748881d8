//! The store below the inbox, looked at directly.
//!
//! Triggers write down every change of an event's state, within the transaction that makes it. So the
//! order of what happened is the store's own, and no clock's.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

use crate::Error;

const FILE_AUDIT: &str = "
CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, key BLOB NOT NULL, old INTEGER,
    new INTEGER NOT NULL, fence INTEGER NOT NULL, attempts INTEGER NOT NULL);
CREATE TRIGGER audit_insert AFTER INSERT ON events BEGIN
    INSERT INTO audit (seq, key, new, fence, attempts) VALUES (NEW.seq, NEW.key, NEW.state, NEW.fence, NEW.attempts);
END;
CREATE TRIGGER audit_update AFTER UPDATE OF state, fence ON events BEGIN
    INSERT INTO audit (seq, key, old, new, fence, attempts)
        VALUES (NEW.seq, NEW.key, OLD.state, NEW.state, NEW.fence, NEW.attempts);
END;";

const SERVER_AUDIT: &str = "
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq bigint NOT NULL, key bytea NOT NULL,
    old bigint, new bigint NOT NULL, fence bigint NOT NULL, attempts bigint NOT NULL);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO audit (seq, key, old, new, fence, attempts)
        VALUES (NEW.seq, NEW.key, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.fence, NEW.attempts);
    RETURN NULL;
END $$;
CREATE TRIGGER audit_insert AFTER INSERT ON smartshape_inbox_events FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER audit_update AFTER UPDATE OF state, fence ON smartshape_inbox_events FOR EACH ROW EXECUTE FUNCTION audit();";

pub(crate) enum Store {
    File(PathBuf),
    Server {
        /// Holds a password.
        base: String,
        schema: String,
    },
}

/// A change that the store made; `old` is missing where the event arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) seq: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) old: Option<i64>,
    pub(crate) new: i64,
    pub(crate) fence: i64,
    pub(crate) attempts: i64,
}

/// An event as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) seq: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) uuid: String,
    pub(crate) state: i64,
    pub(crate) lost: i64,
    pub(crate) body: Option<Vec<u8>>,
}

/// Makes a value of each row that the same statement finds in either store; `events` and `bodies` stand for the tables'
/// names.
macro_rules! fetch {
    ($store:expr, $sql:expr, |$row:ident| $value:expr) => {{
        let mut found = Vec::new();
        match $store {
            Self::File(path) => {
                let mut connection = connect(path).await?;
                for $row in sqlx::query($sql).fetch_all(&mut connection).await? {
                    found.push($value);
                }
                connection.close().await?;
            }
            Self::Server { .. } => {
                let mut connection = PgConnection::connect(&$store.inbox_url()).await?;
                let sql = $sql
                    .replace("events", "smartshape_inbox_events")
                    .replace("bodies", "smartshape_inbox_bodies");
                for $row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await? {
                    found.push($value);
                }
                connection.close().await?;
            }
        }
        found
    }};
}

impl Store {
    /// A schema of its own on a server.
    pub(crate) async fn on_server(base: &str, schema: &str) -> Result<Self, Error> {
        let mut connection = PgConnection::connect(base).await?;
        let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(Self::Server { base: base.to_owned(), schema: schema.to_owned() })
    }

    /// What `INBOX` is set to.
    pub(crate) fn inbox_url(&self) -> String {
        match self {
            Self::File(path) => path.to_string_lossy().into_owned(),
            Self::Server { base, schema } => {
                let sign = if base.contains('?') { '&' } else { '?' };
                format!("{base}{sign}options=-csearch_path%3D{schema}")
            }
        }
    }

    /// From now on every change is written down. The tables must be there.
    pub(crate) async fn audit(&self) -> Result<(), Error> {
        match self {
            Self::File(path) => {
                let mut connection = connect(path).await?;
                sqlx::raw_sql(FILE_AUDIT).execute(&mut connection).await?;
                connection.close().await?;
            }
            Self::Server { .. } => self.execute(SERVER_AUDIT).await?,
        }
        Ok(())
    }

    pub(crate) async fn changes(&self) -> Result<Vec<Change>, Error> {
        let sql = "SELECT seq, key, old, new, fence, attempts FROM audit ORDER BY id";
        Ok(fetch!(self, sql, |row| Change {
            seq: row.try_get("seq")?,
            key: row.try_get("key")?,
            old: row.try_get("old")?,
            new: row.try_get("new")?,
            fence: row.try_get("fence")?,
            attempts: row.try_get("attempts")?,
        }))
    }

    /// Bodies come with events that are not completed only.
    pub(crate) async fn events(&self) -> Result<Vec<Event>, Error> {
        let sql = "SELECT e.seq, e.key, e.uuid, CAST(e.state AS bigint) AS state, CAST(e.lost AS bigint) AS lost, b.body \
                   FROM events e LEFT JOIN bodies b ON b.seq = e.seq AND e.state <> 2 ORDER BY e.seq";
        Ok(fetch!(self, sql, |row| Event {
            seq: row.try_get("seq")?,
            key: row.try_get("key")?,
            uuid: row.try_get("uuid")?,
            state: row.try_get("state")?,
            lost: row.try_get("lost")?,
            body: row.try_get("body")?,
        }))
    }

    /// Number of events that are waiting or running.
    pub(crate) async fn unfinished(&self) -> Result<i64, Error> {
        self.count("SELECT count(*) FROM events WHERE state <= 1").await
    }

    /// Number of leases that have not run out, on a server.
    pub(crate) async fn leases(&self) -> Result<i64, Error> {
        self.count("SELECT count(*) FROM events WHERE state = 1 AND due > now()").await
    }

    /// Whether a file has the inbox's tables.
    pub(crate) async fn has_tables(&self) -> Result<bool, Error> {
        Ok(self.count("SELECT count(*) FROM sqlite_master WHERE name = 'events'").await? > 0)
    }

    async fn count(&self, sql: &'static str) -> Result<i64, Error> {
        let counts: Vec<i64> = fetch!(self, sql, |row| row.try_get(0)?);
        Ok(counts.into_iter().sum())
    }

    /// Lets all leases run out, as time would. A file's worker does so at its start.
    pub(crate) async fn end_leases(&self) -> Result<(), Error> {
        match self {
            Self::File(_) => Ok(()),
            Self::Server { .. } => {
                // Those that a paused process has locked keep theirs.
                self.execute(
                    "UPDATE smartshape_inbox_events SET due = now() WHERE seq IN \
                     (SELECT seq FROM smartshape_inbox_events WHERE state = 1 FOR UPDATE SKIP LOCKED)",
                )
                .await
            }
        }
    }

    /// The faults that SQLite's integrity check finds in the file; `None` for a server.
    pub(crate) async fn damage(&self) -> Result<Option<String>, Error> {
        let Self::File(path) = self else { return Ok(None) };
        let mut connection = connect(path).await?;
        let found: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok((found != "ok").then_some(found))
    }

    pub(crate) async fn remove(self) -> Result<(), Error> {
        if let Self::Server { schema, .. } = &self {
            self.execute(format!("DROP SCHEMA {schema} CASCADE")).await?;
        }
        Ok(())
    }

    async fn execute(&self, sql: impl Into<String>) -> Result<(), Error> {
        let mut connection = PgConnection::connect(&self.inbox_url()).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

/// Only while the server has the file open: the last process to close it checkpoints and deletes the log.
async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    use sqlx::sqlite::SqliteConnectOptions;
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(30));
    SqliteConnection::connect_with(&options).await
}
