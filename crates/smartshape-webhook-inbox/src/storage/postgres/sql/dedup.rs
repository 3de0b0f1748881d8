//! Claims deliveries that are handled without being stored.

use std::time::Duration;

use smartshape_webhook::{ClaimState, DeliveryKey, LeaseToken};

use super::{AS_DURABLE_AS_SET, DURABLE};
use crate::storage::milliseconds;
use crate::storage::postgres::connections::Session;

/// Claims a delivery that is handled without being stored.
pub(crate) async fn claim_key(
    session: &mut Session,
    key: DeliveryKey,
    token: LeaseToken,
    ttl: Duration,
) -> sqlx::Result<ClaimState> {
    let sql = session.tables.sql(
        "INSERT INTO smartshape_inbox_dedup AS d (key, token, expires) VALUES ($1, $2, now() + $3 * interval '1 ms') \
         ON CONFLICT (key) DO UPDATE SET token = excluded.token, expires = excluded.expires WHERE d.expires <= now()",
    );
    let claimed =
        sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(number(token)).bind(milliseconds(ttl));
    if claimed.execute(&mut session.connection).await?.rows_affected() == 1 {
        return Ok(ClaimState::New);
    }
    let sql = session.tables.sql("SELECT token IS NULL FROM smartshape_inbox_dedup WHERE key = $1");
    let done = sqlx::query_scalar(sql)
        .bind(key.as_bytes().as_slice())
        .fetch_optional(&mut session.connection)
        .await?;
    // A claim that was released in between is in flight until the next look.
    Ok(if done == Some(true) { ClaimState::Done } else { ClaimState::InFlight })
}

/// Records that a claimed delivery was handled, unless another claim has followed. Deletes up to two expired rows, so
/// that as many go as come.
pub(crate) async fn complete_key(
    session: &mut Session,
    key: DeliveryKey,
    token: LeaseToken,
    retention: Duration,
    asynchronous: bool,
) -> sqlx::Result<()> {
    let durable = if asynchronous { AS_DURABLE_AS_SET } else { DURABLE };
    let sql = session.tables.sql(&format!(
        "WITH {durable}, old AS MATERIALIZED (SELECT key FROM smartshape_inbox_dedup WHERE expires <= now() AND key <> $1 \
           ORDER BY expires LIMIT 2 FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM smartshape_inbox_dedup d USING old WHERE d.key = old.key) \
         INSERT INTO smartshape_inbox_dedup AS d (key, token, expires) \
         SELECT $1, NULL, now() + $3 * interval '1 ms' FROM durable \
         ON CONFLICT (key) DO UPDATE SET token = NULL, expires = excluded.expires WHERE d.token = $2"
    ));
    let completed = sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(number(token));
    completed.bind(milliseconds(retention)).execute(&mut session.connection).await.map(drop)
}

pub(crate) async fn release_key(
    session: &mut Session,
    key: DeliveryKey,
    token: LeaseToken,
) -> sqlx::Result<()> {
    let sql = session.tables.sql("DELETE FROM smartshape_inbox_dedup WHERE key = $1 AND token = $2");
    let released = sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(number(token));
    released.execute(&mut session.connection).await.map(drop)
}

fn number(token: LeaseToken) -> Vec<u8> {
    token.number().to_be_bytes().to_vec()
}
