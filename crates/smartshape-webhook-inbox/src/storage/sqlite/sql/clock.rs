//! The storage's clock, as recorded in the file.

use sqlx::sqlite::SqliteConnection;

/// The latest time recorded in the file.
pub(crate) async fn latest(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let sql = "SELECT max(value, coalesce((SELECT stored FROM events ORDER BY seq DESC LIMIT 1), 0)) \
         FROM meta WHERE name = 'clock'";
    sqlx::query_scalar(sql).fetch_one(connection).await
}

/// Extends all leases by the time that the clock is advanced.
pub(crate) async fn extend_leases(connection: &mut SqliteConnection, advance: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE events SET due = due + ? WHERE state = 1")
        .bind(advance)
        .execute(connection)
        .await
        .map(drop)
}

pub(crate) async fn record_clock(connection: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE meta SET value = max(value, ?) WHERE name = 'clock'")
        .bind(now)
        .execute(connection)
        .await
        .map(drop)
}
