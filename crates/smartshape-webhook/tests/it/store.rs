//! A deduplication store of several receivers, as of several processes. A test may tell it what its calls do.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smartshape_webhook::{ClaimState, DedupStore, DeliveryKey, LeaseToken, StoreError, StoreFuture};

#[derive(Clone, Copy, Default)]
pub(crate) enum StoreBehavior {
    /// Keeps claims that never expire.
    #[default]
    Works,
    Returns(ClaimState),
    Fails,
    Hangs,
    Panics,
}

/// By key, with whether the delivery is completed.
type States = HashMap<DeliveryKey, (LeaseToken, bool)>;

#[derive(Clone, Default)]
pub(crate) struct Store {
    /// Claims, completions and releases.
    behavior: Arc<Mutex<[StoreBehavior; 3]>>,
    pub(crate) states: Arc<Mutex<States>>,
    pub(crate) claims: Arc<AtomicUsize>,
}

impl Store {
    pub(crate) fn set(&self, claim: StoreBehavior, complete: StoreBehavior, release: StoreBehavior) {
        *self.behavior.lock().unwrap() = [claim, complete, release];
    }

    async fn call(
        &self,
        which: usize,
        work: impl FnOnce(&mut States) -> ClaimState,
    ) -> Result<ClaimState, StoreError> {
        let behavior = self.behavior.lock().unwrap()[which];
        match behavior {
            StoreBehavior::Works => {
                let state = work(&mut self.states.lock().unwrap());
                tokio::task::yield_now().await;
                Ok(state)
            }
            StoreBehavior::Returns(state) => Ok(state),
            StoreBehavior::Fails => Err(StoreError::new("gone")),
            StoreBehavior::Hangs => pending().await,
            // Without the message that a panic prints.
            StoreBehavior::Panics => std::panic::resume_unwind(Box::new("on purpose")),
        }
    }
}

impl DedupStore for Store {
    fn claim(&self, key: DeliveryKey, lease_token: LeaseToken, _: Duration) -> StoreFuture<'_, ClaimState> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        Box::pin(self.call(0, move |states| match states.get(&key) {
            None => {
                states.insert(key, (lease_token, false));
                ClaimState::New
            }
            Some((_, true)) => ClaimState::Done,
            Some((_, false)) => ClaimState::InFlight,
        }))
    }

    fn complete(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        let complete = move |states: &mut States| {
            states.insert(key, (lease_token, true));
            ClaimState::Done
        };
        Box::pin(async move { self.call(1, complete).await.map(drop) })
    }

    fn release(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        let release = move |states: &mut States| {
            if states.get(&key).is_some_and(|(current, done)| *current == lease_token && !done) {
                states.remove(&key);
            }
            ClaimState::New
        };
        Box::pin(async move { self.call(2, release).await.map(drop) })
    }
}
