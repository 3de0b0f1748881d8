//! Which deliveries were handled already: the store's contract, and the store in memory.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::hashed::{HashedMap, HashedSet};
use crate::lock::locked;
use crate::measure;

/// A century stands for every longer time: a clock panics when it is asked for the end of all time.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// Identifies a delivery: a hash of its uuid, event name and owner.
///
/// SmartShape's manual documents `uuid` as unique per event, and does not say whether a retry
/// repeats it; no other field could serve. The same fields give the same key in every version of
/// this crate, so its text form is fit for a unique index.
///
/// ```
/// use smartshape_webhook::DeliveryKey;
///
/// let key = DeliveryKey::new("43a57abb", "file_uploaded", "test@smartshape.io");
/// assert_eq!(key.to_string(), "b767e0fe6dc96a0aafb9392a8f1a5772");
/// assert_ne!(key, DeliveryKey::new("43a57ab", "bfile_uploaded", "test@smartshape.io"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey([u8; 16]);

impl DeliveryKey {
    /// Hashes the three fields, each with its length before it.
    #[must_use]
    pub fn new(uuid: &str, event: &str, owner: &str) -> Self {
        let mut hash = Sha256::new();
        for field in [uuid, event, owner] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }

    /// The key of these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key's 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryKey({self})")
    }
}

/// Reads 32 hexadecimal digits.
///
/// ```
/// use smartshape_webhook::DeliveryKey;
///
/// let key: DeliveryKey = "b767e0fe6dc96a0aafb9392a8f1a5772".parse()?;
/// assert_eq!(key.to_string(), "b767e0fe6dc96a0aafb9392a8f1a5772");
/// assert!("b767".parse::<DeliveryKey>().is_err());
/// # Ok::<(), smartshape_webhook::KeyError>(())
/// ```
impl std::str::FromStr for DeliveryKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| KeyError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// The text is not the key of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delivery's key has 32 hexadecimal digits")
    }
}

impl std::error::Error for KeyError {}

/// Who holds a claim. Each claim has its own, so that a late holder cannot end a newer claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(u128);

impl Holder {
    /// From a number that no other claim has.
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

/// What a store answers to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// The delivery is new, and now claimed by the asker.
    New,
    /// Another holder's claim stands.
    InFlight,
    /// The delivery was completed.
    Done,
}

/// The store failed; the text is for the log.
#[derive(Clone, Debug)]
pub struct StoreError(String);

impl StoreError {
    /// Says what failed, without credentials.
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

/// The future that a [`SeenStore`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Remembers which deliveries are claimed and which were completed.
///
/// One receiver alone is served well by [`MemoryStore`], the default. Several processes that share
/// a URL share a store of their own. The receiver keeps duplicates waiting by itself; a store only
/// answers, at once.
pub trait SeenStore: Send + Sync + 'static {
    /// Claims `key`, atomically: of several askers one gets [`ClaimState::New`]. The claim ends by
    /// itself after `lease`, for a holder that crashed.
    fn claim(&self, key: DeliveryKey, holder: Holder, lease: Duration) -> StoreFuture<'_, ClaimState>;

    /// Records that the delivery was handled. Must hold from then on.
    fn complete(&self, key: DeliveryKey, holder: Holder) -> StoreFuture<'_, ()>;

    /// Gives the claim back, if `holder` still has it.
    fn release(&self, key: DeliveryKey, holder: Holder) -> StoreFuture<'_, ()>;
}

/// Remembers in memory, and so forgets at a restart: a delivery that is repeated afterwards is
/// handled again.
///
/// ```
/// use std::time::Duration;
/// use smartshape_webhook::{ClaimState, DeliveryKey, Holder, MemoryStore, SeenStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = MemoryStore::default();
/// let key = DeliveryKey::new("43a57abb", "file_uploaded", "test@smartshape.io");
/// let lease = Duration::from_secs(60);
/// assert_eq!(store.claim(key, Holder::new(1), lease).await?, ClaimState::New);
/// assert_eq!(store.claim(key, Holder::new(2), lease).await?, ClaimState::InFlight);
/// store.complete(key, Holder::new(1)).await?;
/// assert_eq!(store.claim(key, Holder::new(2), lease).await?, ClaimState::Done);
/// # Ok::<(), smartshape_webhook::StoreError>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<Seen>,
    capacity: usize,
    keep_secs: u32,
    born: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    claimed: HashedMap<DeliveryKey, (Holder, Instant)>,
    done: HashedSet<DeliveryKey>,
    /// The completed keys, oldest first, with the second of their completion.
    order: VecDeque<(DeliveryKey, u32)>,
}

impl MemoryStore {
    /// Remembers at most `capacity` completed deliveries, each for `keep` (whole seconds).
    /// The oldest is forgotten first; one at work never is.
    #[must_use]
    pub fn new(capacity: usize, keep: Duration) -> Self {
        Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            keep_secs: keep.as_secs().try_into().unwrap_or(u32::MAX),
            born: Instant::now(),
        }
    }

    pub(crate) fn claim_now(
        &self,
        key: DeliveryKey,
        holder: Holder,
        lease: Duration,
        now: Instant,
    ) -> ClaimState {
        let mut seen = locked(&self.state);
        seen.forget_older_than(self.second(now).saturating_sub(self.keep_secs));
        if seen.done.contains(&key) {
            return ClaimState::Done;
        }
        if seen.claimed.get(&key).is_some_and(|(_, end)| *end > now) {
            return ClaimState::InFlight;
        }
        seen.claimed.insert(key, (holder, now + lease.min(FOREVER)));
        ClaimState::New
    }

    pub(crate) fn complete_now(&self, key: DeliveryKey, holder: Holder, now: Instant) {
        let second = self.second(now);
        let mut seen = locked(&self.state);
        seen.unclaim(key, holder);
        if seen.done.insert(key) {
            seen.order.push_back((key, second));
        }
        let too_many = seen.order.len().saturating_sub(self.capacity);
        for _ in 0..too_many {
            seen.forget_oldest();
        }
        drop(seen);
        measure::keys_evicted(too_many);
    }

    pub(crate) fn release_now(&self, key: DeliveryKey, holder: Holder) {
        locked(&self.state).unclaim(key, holder);
    }

    fn second(&self, now: Instant) -> u32 {
        now.duration_since(self.born).as_secs().try_into().unwrap_or(u32::MAX)
    }
}

/// 100,000 deliveries for 24 hours.
impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(100_000, Duration::from_secs(24 * 60 * 60))
    }
}

impl Seen {
    fn unclaim(&mut self, key: DeliveryKey, holder: Holder) {
        if self.claimed.get(&key).is_some_and(|(current, _)| *current == holder) {
            self.claimed.remove(&key);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((key, _)) = self.order.pop_front() {
            self.done.remove(&key);
        }
    }

    fn forget_older_than(&mut self, second: u32) {
        while self.order.front().is_some_and(|(_, completed)| *completed < second) {
            self.forget_oldest();
        }
    }
}

impl SeenStore for MemoryStore {
    fn claim(&self, key: DeliveryKey, holder: Holder, lease: Duration) -> StoreFuture<'_, ClaimState> {
        Box::pin(std::future::ready(Ok(self.claim_now(key, holder, lease, Instant::now()))))
    }

    fn complete(&self, key: DeliveryKey, holder: Holder) -> StoreFuture<'_, ()> {
        self.complete_now(key, holder, Instant::now());
        Box::pin(std::future::ready(Ok(())))
    }

    fn release(&self, key: DeliveryKey, holder: Holder) -> StoreFuture<'_, ()> {
        self.release_now(key, holder);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    fn key(number: u32) -> DeliveryKey {
        DeliveryKey::new(&number.to_string(), "file_uploaded", "someone")
    }

    #[tokio::test(start_paused = true)]
    async fn a_crashed_holder_loses_its_claim_with_the_lease() {
        let store = MemoryStore::default();
        let (crashed, next) = (Holder::new(1), Holder::new(2));
        assert_eq!(store.claim_now(key(1), crashed, LEASE, Instant::now()), ClaimState::New);
        tokio::time::advance(LEASE).await;
        assert_eq!(store.claim_now(key(1), next, LEASE, Instant::now()), ClaimState::New);
        store.release_now(key(1), crashed);
        assert_eq!(
            store.claim_now(key(1), Holder::new(3), LEASE, Instant::now()),
            ClaimState::InFlight,
            "late release ends nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_the_oldest_completed_and_never_one_at_work() {
        let store = MemoryStore::new(2, Duration::from_secs(100));
        assert_eq!(store.claim_now(key(0), Holder::new(0), LEASE, Instant::now()), ClaimState::New);
        for number in 1..=3 {
            let holder = Holder::new(number.into());
            assert_eq!(store.claim_now(key(number), holder, LEASE, Instant::now()), ClaimState::New);
            store.complete_now(key(number), holder, Instant::now());
        }
        assert_eq!(store.claim_now(key(0), Holder::new(9), LEASE, Instant::now()), ClaimState::InFlight);
        assert_eq!(store.claim_now(key(3), Holder::new(9), LEASE, Instant::now()), ClaimState::Done);
        assert_eq!(store.claim_now(key(2), Holder::new(9), LEASE, Instant::now()), ClaimState::Done);
        assert_eq!(
            store.claim_now(key(1), Holder::new(9), LEASE, Instant::now()),
            ClaimState::New,
            "pushed out by the capacity"
        );
        tokio::time::advance(Duration::from_secs(101)).await;
        assert_eq!(
            store.claim_now(key(3), Holder::new(9), LEASE, Instant::now()),
            ClaimState::New,
            "kept for 100 s"
        );
    }
}
