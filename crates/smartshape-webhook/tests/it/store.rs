//! A deduplication store of several receivers, as of several processes. A test may tell it what its calls do.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smartshape_webhook::{ClaimState, DedupStore, DeliveryKey, LeaseToken, StoreError, StoreFuture};
use tokio::time::Instant;

use crate::random::Random;

/// No test lasts longer. A longer time could overflow.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StoreBehavior {
    #[default]
    Works,
    /// Works, and yields at random before and after.
    Late,
    /// Late, and sometimes fails: before it commits, or afterwards, when its response is lost.
    Unreliable,
    Returns(ClaimState),
    Fails,
    Hangs,
    Panics,
}

/// Maps a delivery's key to the token and the end of its claim; the end is `None` once the delivery is completed.
type States = HashMap<DeliveryKey, (LeaseToken, Option<Instant>)>;

#[derive(Clone, Default)]
pub(crate) struct Store {
    /// Claims, completions and releases.
    behavior: Arc<Mutex<[StoreBehavior; 3]>>,
    pub(crate) states: Arc<Mutex<States>>,
    pub(crate) claims: Arc<AtomicUsize>,
    random: Arc<Random>,
}

impl Store {
    /// A store whose random choices are these.
    pub(crate) fn with_random(random: Arc<Random>) -> Self {
        Self { random, ..Self::default() }
    }

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
            StoreBehavior::Late | StoreBehavior::Unreliable => {
                let fails = || behavior == StoreBehavior::Unreliable && self.random.one_in(8);
                self.random.yield_randomly().await;
                if fails() {
                    return Err(StoreError::new("out of reach"));
                }
                let state = work(&mut self.states.lock().unwrap());
                self.random.yield_randomly().await;
                if fails() { Err(StoreError::new("the response was lost")) } else { Ok(state) }
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
    fn claim(&self, key: DeliveryKey, lease_token: LeaseToken, ttl: Duration) -> StoreFuture<'_, ClaimState> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        Box::pin(self.call(0, move |states| match states.get(&key) {
            Some((_, None)) => ClaimState::Done,
            Some((_, Some(end))) if *end > Instant::now() => ClaimState::InFlight,
            _ => {
                states.insert(key, (lease_token, Some(Instant::now() + ttl.min(MAX_TTL))));
                ClaimState::New
            }
        }))
    }

    fn complete(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        let complete = move |states: &mut States| {
            states.insert(key, (lease_token, None));
            ClaimState::Done
        };
        Box::pin(async move { self.call(1, complete).await.map(drop) })
    }

    fn release(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()> {
        let release = move |states: &mut States| {
            if states.get(&key).is_some_and(|(current, end)| *current == lease_token && end.is_some()) {
                states.remove(&key);
            }
            ClaimState::New
        };
        Box::pin(async move { self.call(2, release).await.map(drop) })
    }
}
