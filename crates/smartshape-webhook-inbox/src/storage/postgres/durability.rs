//! Whether a server keeps what it acknowledges.

use sqlx::postgres::PgConnection;

use super::error;
use crate::error::{InboxError, InboxErrorKind};

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
