//! Connections that run the inbox's own statements. No statement waits without a limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{fault, open};
use crate::error::{InboxError, InboxErrorKind};

/// A connection that was idle for longer is pinged before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// Maximum time for that ping, and for connecting. Shorter than any statement's limit, so that the rest of
/// the limit is left for a new connection.
pub(super) const PING: Duration = Duration::from_secs(1);
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Where the server looks for a client that has gone silent: after 15 s, every 5 s, and gives up after 30 s.
/// Without these it keeps the locks of a lost client for two hours.
const NOTICE_LOST_CLIENTS: &str = "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; \
     SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000";

/// The inbox's tables, with their schema. Statements name them without; [`sql`](Self::sql) adds it.
#[derive(Clone)]
pub(crate) struct Tables(Arc<str>);

impl Tables {
    pub(super) fn of(schema: &str) -> Self {
        Self(format!("\"{}\".smartshape_inbox_", schema.replace('"', "\"\"")).into())
    }

    pub(super) fn sql(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace("smartshape_inbox_", &self.0))
    }
}

/// How a connection for the inbox's own statements is made.
#[derive(Clone)]
pub(super) struct Connect {
    pub(super) options: PgConnectOptions,
    pub(super) tables: Tables,
    pub(super) limit: Duration,
    pub(super) allow_asynchronous_commit: bool,
    pub(super) read_only: bool,
}

impl Connect {
    async fn connect(&self) -> Result<Session, InboxError> {
        let connection = self.options.connect().await.map_err(fault::of)?;
        self.prepare(connection).await
    }

    /// Pins what other roles, or the settings of role and database, could otherwise decide for our statements.
    pub(super) async fn prepare(&self, mut connection: PgConnection) -> Result<Session, InboxError> {
        let limit = self.limit.as_millis();
        // So that what waits for a lock can still be done otherwise, within the time that a worker waits.
        let lock_limit = (limit / 4).max(1);
        // No schema in which others may create functions or operators: one with a better matching
        // signature would be preferred to PostgreSQL's own, and run as us. And no compilation of plans, which takes
        // a second at each claim once many events wait, for statements that read a few rows.
        let settings = format!(
            "SET search_path = pg_catalog, pg_temp; SET jit = off; SET default_transaction_isolation = 'read committed'; \
             SET lock_timeout = {lock_limit}; SET idle_in_transaction_session_timeout = {limit}; \
             SET default_transaction_read_only = {}; {NOTICE_LOST_CLIENTS}",
            if self.read_only { "on" } else { "DEFAULT" }
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await.map_err(fault::of)?;
        if !self.read_only {
            open::check_durability(&mut connection, self.allow_asynchronous_commit).await?;
        }
        Ok(Session { connection, tables: self.tables.clone() })
    }
}

/// For a transactional handler's connection, which otherwise keeps the settings of its user.
pub(super) async fn prepare_for_handlers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(NOTICE_LOST_CLIENTS).execute(connection).await.map(drop)
}

/// A prepared connection.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    pub(super) tables: Tables,
}

/// A number of connections that are made when they are needed. sqlx's own pool pings before and after each
/// use, and waits for the second ping without a limit.
pub(super) struct Connections {
    connect: Connect,
    permits: Semaphore,
    idle: Mutex<Vec<(Session, Instant)>>,
}

impl Connections {
    pub(super) fn new(connect: Connect, connections: u32) -> Self {
        Self { connect, permits: Semaphore::new(connections as usize), idle: Mutex::default() }
    }

    /// Runs statements on a connection, within the limit of one statement. A connection on which they fail
    /// or take longer is closed.
    pub(super) async fn run<T>(
        &self,
        statements: impl AsyncFnOnce(&mut Session) -> Result<T, sqlx::Error>,
    ) -> Result<T, InboxError> {
        self.run_within(self.connect.limit, statements).await
    }

    pub(super) async fn run_within<T>(
        &self,
        limit: Duration,
        statements: impl AsyncFnOnce(&mut Session) -> Result<T, sqlx::Error>,
    ) -> Result<T, InboxError> {
        let mut sent = false;
        let outcome = timeout(limit, async {
            let permit = self.permits.acquire().await.map_err(|_| fault::of(sqlx::Error::PoolClosed))?;
            let mut session = self.session().await?;
            sent = true;
            let outcome = statements(&mut session).await.map_err(fault::of)?;
            self.idle().push((session, Instant::now()));
            drop(permit);
            Ok(outcome)
        });
        let outcome = outcome.await;
        outcome.unwrap_or_else(|_| {
            // The others may be as dead as this one. Who only waited for a connection knows nothing of them.
            if sent {
                self.idle().clear();
            }
            Err(silent(limit))
        })
    }

    async fn session(&self) -> Result<Session, InboxError> {
        while let Some((mut session, since)) = self.next() {
            if since.elapsed() < TRUSTED {
                return Ok(session);
            }
            match timeout(PING, session.connection.ping()).await {
                Ok(Ok(())) => return Ok(session),
                Ok(Err(_)) => {}
                Err(_) => self.idle().clear(),
            }
        }
        timeout(CONNECT, self.connect.connect()).await.unwrap_or_else(|_| Err(silent(CONNECT)))
    }

    fn next(&self) -> Option<(Session, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Session, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn silent(limit: Duration) -> InboxError {
    let text = format!("inbox on PostgreSQL: the server did not answer within {} ms", limit.as_millis());
    InboxError::new(InboxErrorKind::Unavailable, text)
}
