//! Whether a server keeps what it acknowledges, and what makes a statement wait until it does.

use sqlx::postgres::PgConnection;

use super::error;
use crate::error::{InboxError, InboxErrorKind};

/// Switches synchronous commit on for the statement, should a reload of the server's settings have switched it off, and
/// makes it wait for the standby also when it finds that all was stored before. What it found may not have reached the
/// standby: a commit whose wait is cancelled, or cut short by a restart, is visible at once. A transaction that writes
/// nothing to the log would not wait; the message is an empty record, which nobody reads.
pub(super) const DURABLE: &str = "durable AS MATERIALIZED (SELECT set_config('synchronous_commit', \
     CASE WHEN s.level <> 'off' THEN s.level ELSE 'on' END, true), pg_logical_emit_message(true, 'smartshape_inbox', '') \
     FROM (SELECT current_setting('synchronous_commit') AS level) s)";
pub(super) const AS_DURABLE_AS_SET: &str = "durable AS (SELECT true)";

pub(super) async fn check_durability(connection: &mut PgConnection, allow: bool) -> Result<(), InboxError> {
    let (commit, fsync): (String, String) =
        sqlx::query_as("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
            .fetch_one(connection)
            .await
            .map_err(error::from_sqlx)?;
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

/// A server that the URL does not name may replicate for all we know, so only several hosts are told.
pub(super) async fn warn_of_asynchronous_replication(
    connection: &mut PgConnection,
) -> Result<(), InboxError> {
    let (standbys, commit): (String, String) = sqlx::query_as(
        "SELECT pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
    .await
    .map_err(error::from_sqlx)?;
    if standbys.is_empty() || commit == "local" {
        tracing::warn!(
            "PostgreSQL acknowledges commits before a standby has them, so a failover can lose what the inbox has \
             acknowledged: set synchronous_standby_names, and synchronous_commit to on"
        );
    }
    Ok(())
}
