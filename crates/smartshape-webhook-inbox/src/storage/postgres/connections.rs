//! A connection pool for the inbox's own statements. Each statement has a timeout, here and at the server: a server
//! does not notice that a client has closed its connection before it has a result to send.
//!
//! sqlx's own pool pings a connection before and after each use, and waits for the second ping without a timeout.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::servers::{Primary, Servers};
use super::{durability, error};
use crate::error::{InboxError, InboxErrorKind};
use crate::lock::locked;
use crate::storage::rows;
use crate::storage::statement::Statement;

/// A connection that was idle for longer is pinged before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// Maximum time for that ping. Shorter than the statement timeout, which leaves time for a new connection.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of tries while a statement meets a serialization failure or a deadlock.
const MAX_TRIES: u32 = 5;
const PAUSE_BEFORE_REPEATING: Duration = Duration::from_millis(50);

/// The server probes a silent client after 15 s, every 5 s, and closes its session after 30 s. By default it keeps the
/// locks of a lost client for two hours.
pub(super) const KEEPALIVE: &str = "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; \
     SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000";

/// The qualified names of the inbox's tables. Statements name them without schema; [`sql`](Self::sql) adds it.
#[derive(Clone)]
pub(crate) struct Tables(Arc<str>);

impl Tables {
    pub(super) fn in_schema(schema: &str) -> Self {
        Self(format!("\"{}\".smartshape_inbox_", schema.replace('"', "\"\"")).into())
    }

    pub(super) fn bound(&self, statement: Statement) -> Query<'static, sqlx::Postgres, PgArguments> {
        rows::bound(statement, &self.0)
    }

    pub(super) fn sql(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace("smartshape_inbox_", &self.0))
    }
}

/// Opens connections for the inbox's own statements.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) servers: Servers,
    pub(super) tables: Tables,
    pub(super) statement_timeout: Duration,
    pub(super) allow_asynchronous_commit: bool,
    pub(super) read_only: bool,
}

impl Connector {
    async fn connect(&self) -> Result<Session, InboxError> {
        let (connection, primary) = self.servers.connect().await?;
        self.prepare(connection, primary).await
    }

    /// Overrides settings of the role and the database that would change the meaning or speed of our statements.
    pub(super) async fn prepare(
        &self,
        mut connection: PgConnection,
        server: Primary,
    ) -> Result<Session, InboxError> {
        let timeout = milliseconds(self.statement_timeout);
        // A statement that waits for a lock in vain can be retried without the row within the statement timeout.
        let lock_timeout = (timeout / 4).max(1);
        // The search path has no schema in which other roles may create functions or operators: one with a better
        // matching signature would be preferred to PostgreSQL's own, and run as our role. JIT would take a second at
        // each claim once many events wait, for statements that read a few rows. With bitmap scans, a server that has
        // not analyzed the table yet would read all events that are due, for each claim of one.
        let settings = format!(
            "SET search_path = pg_catalog, pg_temp; SET jit = off; SET enable_bitmapscan = off; \
             SET default_transaction_isolation = 'read committed'; \
             SET lock_timeout = {lock_timeout}; SET statement_timeout = {timeout}; \
             SET idle_in_transaction_session_timeout = {timeout}; SET default_transaction_read_only = {}; {KEEPALIVE}",
            if self.read_only { "on" } else { "DEFAULT" }
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await.map_err(error::from_sqlx)?;
        if !self.read_only {
            durability::check_durability(&mut connection, self.allow_asynchronous_commit).await?;
        }
        let (tables, statement_timeout) = (self.tables.clone(), self.statement_timeout);
        Ok(Session { connection, server, tables, statement_timeout })
    }
}

/// The value of a setting of the server, where 0 means no timeout.
pub(super) fn milliseconds(timeout: Duration) -> u128 {
    timeout.as_millis().max(1)
}

/// A prepared connection.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    server: Primary,
    pub(super) tables: Tables,
    /// The timeout that is set at the server.
    statement_timeout: Duration,
}

impl Session {
    pub(super) async fn set_statement_timeout(&mut self, timeout: Duration) -> sqlx::Result<()> {
        if self.statement_timeout != timeout {
            let setting = format!("SET statement_timeout = {}", milliseconds(timeout));
            sqlx::raw_sql(AssertSqlSafe(setting)).execute(&mut self.connection).await?;
            self.statement_timeout = timeout;
        }
        Ok(())
    }
}

/// A bounded number of connections, opened when they are needed.
pub(super) struct Connections {
    pub(super) connect: Connector,
    /// Drives the sockets, which all runtimes use. The caller's runtime may stand still, as an actix-web worker does
    /// while a handler blocks its thread.
    runtime: Handle,
    permits: Semaphore,
    idle: Mutex<Vec<(Session, Instant)>>,
}

impl Connections {
    pub(super) fn new(connect: Connector, connections: u32) -> Self {
        Self {
            connect,
            runtime: Handle::current(),
            permits: Semaphore::new(connections as usize),
            idle: Mutex::default(),
        }
    }

    /// Runs statements on a connection within the statement timeout. A connection on which they fail
    /// or time out is closed.
    pub(super) async fn run<T>(
        &self,
        statements: impl AsyncFnOnce(&mut Session) -> sqlx::Result<T>,
    ) -> Result<T, InboxError> {
        self.run_within(self.connect.statement_timeout, statements).await
    }

    pub(super) async fn run_within<T>(
        &self,
        limit: Duration,
        statements: impl AsyncFnOnce(&mut Session) -> sqlx::Result<T>,
    ) -> Result<T, InboxError> {
        let mut sent = false;
        let result = timeout(limit, async {
            let permit =
                self.permits.acquire().await.map_err(|_| error::from_sqlx(sqlx::Error::PoolClosed))?;
            let mut session = self.session().await?;
            sent = true;
            session.set_statement_timeout(limit).await.map_err(error::from_sqlx)?;
            let value = statements(&mut session).await.map_err(error::from_sqlx)?;
            // A commit that took until another server had taken over is lost with this one, and is not acknowledged.
            if self.connect.servers.is_former(session.server) {
                let text = "inbox on PostgreSQL: another server has become the primary; what this one committed may be lost";
                return Err(InboxError::new(InboxErrorKind::Unavailable, text));
            }
            locked(&self.idle).push((session, Instant::now()));
            drop(permit);
            Ok(value)
        });
        result.await.unwrap_or_else(|_| {
            // The idle connections may be dead too. A caller that only waited for a connection cannot tell.
            if sent {
                locked(&self.idle).clear();
            }
            Err(timed_out(limit))
        })
    }

    async fn session(&self) -> Result<Session, InboxError> {
        while let Some((mut session, since)) = self.next() {
            if self.connect.servers.is_former(session.server) {
                continue;
            }
            if since.elapsed() < PING_AFTER_IDLE {
                return Ok(session);
            }
            match timeout(PING_TIMEOUT, session.connection.ping()).await {
                Ok(Ok(())) => return Ok(session),
                Ok(Err(_)) => {}
                Err(_) => locked(&self.idle).clear(),
            }
        }
        let connect = self.connect.clone();
        let connect = async move {
            timeout(CONNECT_TIMEOUT, connect.connect())
                .await
                .unwrap_or_else(|_| Err(timed_out(CONNECT_TIMEOUT)))
        };
        // Aborted when this future is dropped, since its permit is then another caller's.
        let mut connecting = JoinSet::new();
        connecting.spawn_on(connect, &self.runtime);
        let connected = connecting.join_next().await.transpose();
        let ended = |error| InboxError::new(InboxErrorKind::Unavailable, error);
        connected.map_err(ended)?.unwrap_or_else(|| Err(timed_out(CONNECT_TIMEOUT)))
    }

    fn next(&self) -> Option<(Session, Instant)> {
        locked(&self.idle).pop()
    }
}

/// Runs statements again after a serialization failure or a deadlock.
pub(super) async fn retry_on_conflict<T, F>(run: impl Fn() -> F) -> Result<T, InboxError>
where
    F: Future<Output = Result<T, InboxError>>,
{
    let mut tries = 1;
    loop {
        match run().await {
            Err(error) if tries < MAX_TRIES && error::is_conflict(&error) => {
                // Another connection repeats them, and skips rows that the failed transaction still has locked.
                tokio::time::sleep(PAUSE_BEFORE_REPEATING * tries).await;
                tries += 1;
            }
            result => return result,
        }
    }
}

pub(super) fn timed_out(limit: Duration) -> InboxError {
    let text = format!("inbox on PostgreSQL: the server did not respond within {} ms", limit.as_millis());
    InboxError::new(InboxErrorKind::Unavailable, text)
}
