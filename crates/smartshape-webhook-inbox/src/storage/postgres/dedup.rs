//! A deduplication store in the inbox's database, for processes that handle inline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{ClaimState, DedupStore, DeliveryKey, LeaseToken, StoreError, StoreFuture};

use super::connections::{Connections, Session, retry_on_conflict};
use super::durability::{AS_DURABLE_AS_SET, DURABLE};
use crate::storage::milliseconds;

/// Maximum time for a call. A receiver does not wait for longer than 5 seconds.
const TIMEOUT: Duration = Duration::from_secs(4);

/// A [`DedupStore`] in the database of an inbox on PostgreSQL, made by
/// [`Inbox::dedup_store`](crate::Inbox::dedup_store). Cheap to clone.
#[derive(Clone)]
pub struct PostgresDedupStore {
    pub(super) connections: Arc<Connections>,
    pub(super) retention: Duration,
    pub(super) allow_asynchronous_commit: bool,
}

impl PostgresDedupStore {
    async fn run<T>(
        &self,
        statements: impl AsyncFn(&mut Session) -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        let run = retry_on_conflict(|| self.connections.run_within(TIMEOUT, &statements));
        run.await.map_err(StoreError::new)
    }
}

impl DedupStore for PostgresDedupStore {
    fn claim(&self, key: DeliveryKey, lease_token: LeaseToken, ttl: Duration) -> StoreFuture<'_, ClaimState> {
        Box::pin(self.run(async move |session| {
            let sql = session.tables.sql(
                "INSERT INTO smartshape_inbox_dedup AS d (key, token, expires) VALUES ($1, $2, now() + $3 * interval '1 ms') \
                 ON CONFLICT (key) DO UPDATE SET token = excluded.token, expires = excluded.expires WHERE d.expires <= now()",
            );
            let claim = sqlx::query(sql)
                .bind(key.as_bytes().as_slice())
                .bind(token_bytes(lease_token))
                .bind(milliseconds(ttl));
            if claim.execute(&mut session.connection).await?.rows_affected() == 1 {
                return Ok(ClaimState::New);
            }
            let sql = session.tables.sql("SELECT token IS NULL FROM smartshape_inbox_dedup WHERE key = $1");
            let done = sqlx::query_scalar(sql).bind(key.as_bytes().as_slice());
            let done = done.fetch_optional(&mut session.connection).await?;
            // A claim that was released in between is in flight until the next look.
            Ok(if done == Some(true) { ClaimState::Done } else { ClaimState::InFlight })
        }))
    }

    /// Leaves the row alone if another claim has followed. Deletes up to two expired rows, so that as many go as come.
    fn complete(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        let retention = milliseconds(self.retention);
        let durable = if self.allow_asynchronous_commit { AS_DURABLE_AS_SET } else { DURABLE };
        Box::pin(self.run(async move |session| {
            let sql = session.tables.sql(&format!(
                "WITH {durable}, old AS MATERIALIZED (SELECT key FROM smartshape_inbox_dedup WHERE expires <= now() AND key <> $1 \
                   ORDER BY expires LIMIT 2 FOR UPDATE SKIP LOCKED), \
                 gone AS (DELETE FROM smartshape_inbox_dedup d USING old WHERE d.key = old.key) \
                 INSERT INTO smartshape_inbox_dedup AS d (key, token, expires) \
                 SELECT $1, NULL, now() + $3 * interval '1 ms' FROM durable \
                 ON CONFLICT (key) DO UPDATE SET token = NULL, expires = excluded.expires WHERE d.token = $2"
            ));
            let complete = sqlx::query(sql)
                .bind(key.as_bytes().as_slice())
                .bind(token_bytes(lease_token))
                .bind(retention);
            complete.execute(&mut session.connection).await.map(drop)
        }))
    }

    fn release(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        Box::pin(self.run(async move |session| {
            let sql = session.tables.sql("DELETE FROM smartshape_inbox_dedup WHERE key = $1 AND token = $2");
            let release = sqlx::query(sql).bind(key.as_bytes().as_slice()).bind(token_bytes(lease_token));
            release.execute(&mut session.connection).await.map(drop)
        }))
    }
}

fn token_bytes(token: LeaseToken) -> Vec<u8> {
    token.number().to_be_bytes().to_vec()
}

impl fmt::Debug for PostgresDedupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresDedupStore")
    }
}
