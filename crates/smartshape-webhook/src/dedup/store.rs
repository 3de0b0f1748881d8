//! The interface to a store of claims and completions that several processes share.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::delivery::key::DeliveryKey;

/// Identifies one claim. Each claim has its own token, so that a late holder cannot complete or release a newer claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(u128);

impl LeaseToken {
    /// Makes a token from a number that no other claim has.
    #[must_use]
    pub fn new(number: u128) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u128 {
        self.0
    }
}

/// A store's response to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// The delivery is new, and now claimed by the caller.
    New,
    /// Another claim is in force.
    InFlight,
    /// The delivery is completed.
    Done,
}

/// A failure of the store. Its text goes to the log.
#[derive(Clone, Debug)]
pub struct StoreError(String);

impl StoreError {
    /// Makes an error from a message, which must not contain credentials.
    #[must_use]
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// The future that a [`DedupStore`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Stores which deliveries are claimed and which are completed, for several processes behind one URL.
///
/// A single receiver needs none: it keeps its completed deliveries in memory
/// ([`dedup_capacity`](crate::ReceiverBuilder::dedup_capacity), [`dedup_ttl`](crate::ReceiverBuilder::dedup_ttl)).
/// Duplicates wait in the receiver, so a store responds at once. A response that takes longer than 5 seconds
/// counts as a failure, and its future is dropped; so does a panic.
pub trait DedupStore: Send + Sync + 'static {
    /// Claims `key` atomically: of several concurrent callers, one gets [`ClaimState::New`]. The claim expires after
    /// `ttl`, in case its holder crashes.
    fn claim(&self, key: DeliveryKey, lease_token: LeaseToken, ttl: Duration) -> StoreFuture<'_, ClaimState>;

    /// Records that the delivery was handled. The record must be durable once the future resolves.
    fn complete(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()>;

    /// Releases the claim if `lease_token` still holds it. Must not undo a completion: a completion whose response came
    /// late may have been recorded, and a release after it would let the delivery be handled again.
    ///
    /// A claim whose response came late is released too, and may reach the store after its own release. It then holds
    /// until its TTL ends, and the delivery is rejected with 503 until then. A store that processes calls in order has
    /// no such claims.
    fn release(&self, key: DeliveryKey, lease_token: LeaseToken) -> StoreFuture<'_, ()>;
}
