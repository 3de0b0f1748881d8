//! A deduplication store in the inbox's database, for processes that handle inline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{ClaimState, DedupStore, DeliveryKey, LeaseToken, StoreError, StoreFuture};

use super::connections::{Connections, retry_on_conflict};
use super::sql;

/// Maximum time for a call. A receiver does not wait for longer than 5 seconds.
const TIMEOUT: Duration = Duration::from_secs(4);

/// A [`DedupStore`] in the database of an inbox on PostgreSQL, made by [`Inbox::dedup_store`](crate::Inbox::dedup_store).
/// Cheap to clone.
#[derive(Clone)]
pub struct PostgresDedupStore {
    connections: Arc<Connections>,
    retention: Duration,
    allow_asynchronous_commit: bool,
}

impl PostgresDedupStore {
    pub(super) fn new(
        connections: Arc<Connections>,
        retention: Duration,
        allow_asynchronous_commit: bool,
    ) -> Self {
        Self { connections, retention, allow_asynchronous_commit }
    }
}

impl DedupStore for PostgresDedupStore {
    fn claim(&self, key: DeliveryKey, lease_token: LeaseToken, ttl: Duration) -> StoreFuture<'_, ClaimState> {
        Box::pin(async move {
            let run = || {
                self.connections
                    .run_within(TIMEOUT, async |session| sql::claim_key(session, key, lease_token, ttl).await)
            };
            retry_on_conflict(run).await.map_err(StoreError::new)
        })
    }

    fn complete(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let (retention, asynchronous) = (self.retention, self.allow_asynchronous_commit);
            let run = || {
                self.connections.run_within(TIMEOUT, async |session| {
                    sql::complete_key(session, key, lease_token, retention, asynchronous).await
                })
            };
            retry_on_conflict(run).await.map_err(StoreError::new)
        })
    }

    fn release(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let run = || {
                self.connections
                    .run_within(TIMEOUT, async |session| sql::release_key(session, key, lease_token).await)
            };
            retry_on_conflict(run).await.map_err(StoreError::new)
        })
    }
}

impl fmt::Debug for PostgresDedupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresDedupStore")
    }
}
