//! Connecting, refusing what is not durable, bringing the tables up to date.

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};

use super::{ACQUIRE, fault};
use crate::builder::InboxBuilder;
use crate::error::{InboxError, InboxErrorKind};

/// Each brings the schema from one version to the next.
const MIGRATIONS: [&str; 1] = [include_str!("../../../migrations/postgres-0001.sql")];
const SCHEMA: i64 = MIGRATIONS.len() as i64;
/// Any number that no other program locks: "inbox".
const MIGRATION_LOCK: i64 = 0x69_6e62_6f78;

/// The pool, and the channel for notifications: one for each database and schema.
pub(super) async fn open(
    url: &str,
    settings: &InboxBuilder,
    connections: u32,
) -> Result<(PgPool, String), InboxError> {
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        // The parser's own text may quote the URL, and so its password.
        let _ = error;
        InboxError::new(
            InboxErrorKind::Settings,
            "the inbox's postgres:// URL cannot be read: it is postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded",
        )
    })?;
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .connect_with(options.application_name("smartshape-inbox").disable_statement_logging())
        .await
        .map_err(fault::of)?;
    let mut connection = pool.acquire().await.map_err(fault::of)?;
    check_durability(&mut connection, settings.allow_asynchronous_commit).await?;
    migrate(&mut connection).await?;
    let channel = sqlx::query_scalar("SELECT 'smartshape_inbox_' || md5(coalesce(current_schema(), ''))")
        .fetch_one(&mut *connection)
        .await
        .map_err(fault::of)?;
    drop(connection);
    Ok((pool, channel))
}

async fn check_durability(connection: &mut PgConnection, allow: bool) -> Result<(), InboxError> {
    let (commit, fsync): (String, String) =
        sqlx::query_as("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
            .fetch_one(connection)
            .await
            .map_err(fault::of)?;
    let off = if commit == "off" {
        "synchronous_commit"
    } else if fsync == "off" {
        "fsync"
    } else {
        return Ok(());
    };
    if allow {
        tracing::warn!("PostgreSQL has {off} off: what the inbox acknowledges can be lost in a crash");
        return Ok(());
    }
    let text = format!(
        "PostgreSQL has {off} off, so what the inbox acknowledges can be lost in a crash: switch it on, \
         or allow that with danger_allow_asynchronous_commit"
    );
    Err(InboxError::new(InboxErrorKind::NotDurable, text))
}

async fn migrate(connection: &mut PgConnection) -> Result<(), InboxError> {
    // Looked at first without a lock, so that a user without the right to create tables can work.
    let version = schema(connection).await.map_err(fault::of)?;
    if version > SCHEMA {
        let needed = sqlx::query_scalar("SELECT value FROM smartshape_inbox_meta WHERE name = 'reads_from'")
            .fetch_one(connection)
            .await
            .map_err(fault::of)?;
        return super::super::check_schema(&"on PostgreSQL", needed, SCHEMA);
    }
    if version == SCHEMA {
        return Ok(());
    }
    migrate_locked(connection).await.map_err(fault::of)
}

async fn migrate_locked(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = sqlx::Connection::begin(connection).await?;
    // Of processes that start at once, one migrates and the others find it done.
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await?;
    let version = schema(&mut transaction).await?;
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        sqlx::raw_sql(*step).execute(&mut *transaction).await?;
    }
    sqlx::query("UPDATE smartshape_inbox_meta SET value = $1 WHERE name = 'schema'")
        .bind(SCHEMA)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// 0 where there are no tables.
async fn schema(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    // Reading a table makes the server look at what others have created meanwhile; `to_regclass` alone
    // answers what it answered before.
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE oid = to_regclass('smartshape_inbox_meta'))",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT value FROM smartshape_inbox_meta WHERE name = 'schema'")
        .fetch_one(connection)
        .await
}
