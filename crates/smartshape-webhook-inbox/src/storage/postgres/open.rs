//! Opens the database: rejects servers that are not durable, and migrates the tables.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use super::connections::{CONNECT_TIMEOUT, Connector, Session, Tables, timed_out};
use super::servers::Servers;
use super::{MAX_STATEMENT_TIMEOUT, durability, error, url};
use crate::error::{InboxError, InboxErrorKind};
use crate::storage::StorageOptions;

/// Each migrates the schema to the next version.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../../migrations/postgres-0001.sql"),
    include_str!("../../../migrations/postgres-0002.sql"),
    include_str!("../../../migrations/postgres-0003.sql"),
    include_str!("../../../migrations/postgres-0004.sql"),
    include_str!("../../../migrations/postgres-0005.sql"),
    include_str!("../../../migrations/postgres-0006.sql"),
];
const SCHEMA: i64 = MIGRATIONS.len() as i64;
/// Maximum number of attempts while other processes migrate at the same time.
const MAX_ATTEMPTS: u32 = 5;

/// Returns what opens connections; the channel for notifications, of which each database and schema has its own; and
/// the version of the tables, which is older than ours only if the database was opened read-only.
pub(super) async fn open(
    url: &str,
    options: &StorageOptions,
) -> Result<(Connector, String, i64), InboxError> {
    let hosts = url::hosts(url)?.into_iter();
    let hosts = hosts.map(|host| host.application_name("smartshape-inbox").disable_statement_logging());
    let servers = Servers::new(hosts.collect(), options.read_only, options.allow_untested_server);
    let opened = timeout(CONNECT_TIMEOUT, async {
        let (mut connection, primary) = servers.connect().await?;
        let schema = check_database(&mut connection).await?;
        if servers.are_several() && !options.read_only {
            durability::warn_of_asynchronous_replication(&mut connection).await?;
        }
        let connect = Connector {
            servers,
            tables: Tables::in_schema(&schema),
            statement_timeout: options.store_timeout.saturating_mul(2).min(MAX_STATEMENT_TIMEOUT),
            allow_asynchronous_commit: options.allow_asynchronous_commit,
            read_only: options.read_only,
        };
        let session = connect.prepare(connection, primary).await?;
        Ok((connect, session, schema))
    });
    let (connect, mut session, schema) = opened.await.unwrap_or_else(|_| Err(timed_out(CONNECT_TIMEOUT)))?;
    // A migration may rewrite many rows, and waits for other processes that migrate.
    let migrated = timeout(super::ADMIN_TIMEOUT, async {
        session.set_statement_timeout(super::ADMIN_TIMEOUT).await.map_err(error::from_sqlx)?;
        migrate(&mut session, &schema, options.read_only).await
    });
    let version = migrated.await.unwrap_or_else(|_| Err(timed_out(super::ADMIN_TIMEOUT)))?;
    let channel = sqlx::query_scalar("SELECT 'smartshape_inbox_' || md5($1)").bind(schema);
    let channel = timeout(CONNECT_TIMEOUT, channel.fetch_one(&mut session.connection)).await;
    let channel = channel.map_err(|_| timed_out(CONNECT_TIMEOUT))?.map_err(error::from_sqlx)?;
    Ok((connect, channel, version))
}

/// Rejects databases that the inbox cannot use, and returns the tables' schema: where they are, or else the
/// first one of the search path. All names are qualified, since other roles may create objects in the search path.
async fn check_database(connection: &mut PgConnection) -> Result<String, InboxError> {
    let (encoding, schema, open, foreign): (String, Option<String>, bool, bool) = sqlx::query_as(
        "SELECT pg_catalog.current_setting('server_encoding'), n.nspname::pg_catalog.text, \
           coalesce((SELECT pg_catalog.bool_or(a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
             AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'::pg_catalog.text) FROM pg_catalog.aclexplode(n.nspacl) a), false), \
           coalesce(NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'::pg_catalog.text), false) \
         FROM (SELECT 1) AS one \
         LEFT JOIN pg_catalog.pg_class c \
           ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('smartshape_inbox_meta'::pg_catalog.text)::pg_catalog.oid \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
           OR (c.oid IS NULL AND n.nspname OPERATOR(pg_catalog.=) pg_catalog.current_schema())",
    )
    .fetch_one(connection)
    .await
    .map_err(error::from_sqlx)?;
    if !["UTF8", "SQL_ASCII"].contains(&&*encoding) {
        let text = format!(
            "the database's encoding is {encoding}, which cannot store every event: create one with ENCODING 'UTF8'"
        );
        return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
    }
    let Some(schema) = schema else {
        let text = "no schema of the search path exists: create one, and name it with `?options=-csearch_path%3DNAME`";
        return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
    };
    if schema.contains(['\'', '\\']) {
        let text = "the inbox's schema must not have a quote or a backslash in its name: name another one";
        return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
    }
    if open && foreign {
        let text = format!(
            "the tables in schema {schema:?} belong to another role, and every role may create there, triggers of such \
             tables included: REVOKE CREATE ON SCHEMA {schema:?} FROM PUBLIC, or give the inbox a schema of its own"
        );
        return Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
    }
    Ok(schema)
}

/// Returns the version of the tables.
async fn migrate(session: &mut Session, schema: &str, read_only: bool) -> Result<i64, InboxError> {
    for attempt in 1.. {
        // Read without a lock, so that a user without the right to create tables can use the inbox.
        let version = version(session).await.map_err(error::from_sqlx)?;
        if version > SCHEMA {
            let needed = sqlx::query_scalar(
                session.tables.sql("SELECT value FROM smartshape_inbox_meta WHERE name = 'reads_from'"),
            )
            .fetch_one(&mut session.connection)
            .await
            .map_err(error::from_sqlx)?;
            super::super::check_schema(&"on PostgreSQL", needed, SCHEMA)?;
            return Ok(version);
        }
        if version == SCHEMA || read_only && version > 0 {
            return Ok(version);
        }
        if read_only {
            let text =
                "there is no inbox in this database and schema: check the URL, or let the receiver create it";
            return Err(InboxError::new(InboxErrorKind::NotAnInbox, text));
        }
        match step(session, schema, version).await {
            Ok(()) => {}
            // Another process was first: its result is read again.
            Err(error) if attempt < MAX_ATTEMPTS && exists_already(&error) => {}
            Err(error) => return Err(error::from_sqlx(error)),
        }
    }
    Ok(SCHEMA)
}

/// Migrates by one version, or does nothing when another process did. Takes no lock that others could hold: the
/// tables' names, and later the row of the version, let only one process migrate.
async fn step(session: &mut Session, schema: &str, version: i64) -> sqlx::Result<()> {
    let Some(migration) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version)) else {
        return Ok(());
    };
    let mut transaction = session.connection.begin().await?;
    if version > 0 {
        // Waits as long as the statement timeout allows: only another process that migrates locks the row.
        sqlx::raw_sql("SET LOCAL lock_timeout = 0").execute(&mut *transaction).await?;
        let claim = session
            .tables
            .sql("UPDATE smartshape_inbox_meta SET value = $1 + 1 WHERE name = 'schema' AND value = $1");
        if sqlx::query(claim).bind(version).execute(&mut *transaction).await?.rows_affected() == 0 {
            return transaction.rollback().await;
        }
    }
    // While it waits for a lock, all inserts wait behind it, so it gives up soon, and opening is retried.
    let settings = format!(
        "SET LOCAL search_path = \"{}\", pg_temp; SET LOCAL lock_timeout = '2s'",
        schema.replace('"', "\"\"")
    );
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut *transaction).await?;
    sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// A table, column, index or row was created by another transaction meanwhile.
fn exists_already(error: &sqlx::Error) -> bool {
    error::code(error).is_some_and(|code| ["42P07", "42701", "42710", "23505"].contains(&&*code))
}

/// The version of the schema; 0 when there are no tables.
async fn version(session: &mut Session) -> sqlx::Result<i64> {
    let read = session.tables.sql("SELECT value FROM smartshape_inbox_meta WHERE name = 'schema'");
    let version = sqlx::query_scalar(read).fetch_one(&mut session.connection).await;
    match version {
        Err(error) if error::code(&error).as_deref() == Some("42P01") => Ok(0),
        version => version,
    }
}
