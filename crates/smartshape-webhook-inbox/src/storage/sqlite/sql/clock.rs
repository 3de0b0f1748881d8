//! The storage's clock, as the file has it.

use sqlx::sqlite::SqliteConnection;

/// When the newest event was stored.
pub(super) const NEWEST_STORED: &str = "coalesce((SELECT stored FROM events ORDER BY seq DESC LIMIT 1), 0)";

/// The file's time at `wall_clock`, no earlier than the newest event. In a read-only file of an older version, which
/// counted the time during which it was open, the time that was recorded last.
pub(crate) async fn time_at(connection: &mut SqliteConnection, wall_clock: i64) -> sqlx::Result<i64> {
    let sql = format!(
        "SELECT max({NEWEST_STORED}, coalesce((SELECT ? + value FROM meta WHERE name = 'clock_offset'), \
         (SELECT value FROM meta WHERE name = 'clock')))"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(wall_clock).fetch_one(connection).await
}

/// Extends all leases by the time that the clock is advanced.
pub(crate) async fn extend_leases(connection: &mut SqliteConnection, advance: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE events SET due = due + ? WHERE state = 1")
        .bind(advance)
        .execute(connection)
        .await
        .map(drop)
}
