//! Which deliveries were handled already: the store's contract, and the store in memory.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::bounded::Bounded;
use crate::hashed::HashedMap;
use crate::lock::locked;
use crate::measure;

/// A century stands for every longer time: a clock panics when it is asked for the end of all time.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// The webhook of a secret that was given without a name.
pub(crate) const DEFAULT_WEBHOOK: &str = "default";

/// Identifies a delivery: a hash of its uuid, event name and owner, and of the webhook that it came by.
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
    /// Hashes the three fields, each with its length before it: the key of a delivery that came by the webhook `default`.
    #[must_use]
    pub fn new(uuid: &str, event: &str, owner: &str) -> Self {
        Self::of([uuid, event, owner].into_iter())
    }

    /// The key of a delivery that came by this webhook: that of the secret's name, unless
    /// [`NamedSecret::webhook`](crate::NamedSecret::webhook) named another one. For `default` it is that of [`new`](Self::new).
    ///
    /// ```
    /// use smartshape_webhook::DeliveryKey;
    ///
    /// let key = DeliveryKey::for_webhook("uploads", "43a57abb", "file_uploaded", "test@smartshape.io");
    /// assert_eq!(key.to_string(), "20f2590068e5bc5f83dcf4b4750b3d59");
    /// let default = DeliveryKey::for_webhook("default", "43a57abb", "file_uploaded", "test@smartshape.io");
    /// assert_eq!(default, DeliveryKey::new("43a57abb", "file_uploaded", "test@smartshape.io"));
    /// ```
    #[must_use]
    pub fn for_webhook(webhook: &str, uuid: &str, event: &str, owner: &str) -> Self {
        let webhook = Some(webhook).filter(|webhook| *webhook != DEFAULT_WEBHOOK);
        Self::of([uuid, event, owner].into_iter().chain(webhook))
    }

    fn of<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for field in fields {
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
/// answers, at once. An answer that takes longer than the receiver's `store_wait` (5 s by default)
/// counts as a failure, and its future is dropped; so does a panic.
pub trait SeenStore: Send + Sync + 'static {
    /// Claims `key`, atomically: of several askers one gets [`ClaimState::New`]. The claim ends by
    /// itself after `lease`, for a holder that crashed.
    fn claim(&self, key: DeliveryKey, holder: Holder, lease: Duration) -> StoreFuture<'_, ClaimState>;

    /// Records that the delivery was handled. Must hold from then on.
    fn complete(&self, key: DeliveryKey, holder: Holder) -> StoreFuture<'_, ()>;

    /// Gives the claim back, if `holder` still has it. A completion stands: it may have been recorded although its answer
    /// was late, and a release that came after it would let the delivery be handled again.
    ///
    /// A claim whose answer was late is given back, too, and may reach the store after its own release. It then stands until
    /// its lease ends, and the delivery is answered 503 that long; a store that orders what it is told has no such claims.
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
pub struct MemoryStore(Mutex<Claimable>);

#[derive(Debug)]
struct Claimable {
    claimed: HashedMap<DeliveryKey, (Holder, Instant)>,
    seen: Seen,
}

impl MemoryStore {
    /// Remembers the `capacity` deliveries that were completed last, each for `keep` (whole seconds).
    /// Beyond that it forgets by generations, so at most twice as many are there, and for at most twice as long.
    /// One at work is never forgotten.
    #[must_use]
    pub fn new(capacity: usize, keep: Duration) -> Self {
        let seen = Seen {
            done: Bounded::new(capacity),
            keep: keep.as_secs().try_into().unwrap_or(u32::MAX).max(1),
            born: Instant::now(),
            turned: 0,
        };
        Self(Mutex::new(Claimable { claimed: HashedMap::default(), seen }))
    }

    /// Claims are left behind: whoever takes the store over knows of its own.
    pub(crate) fn into_seen(self) -> Seen {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).seen
    }

    fn claim_now(&self, key: DeliveryKey, holder: Holder, lease: Duration, now: Instant) -> ClaimState {
        let mut store = locked(&self.0);
        if store.seen.get(key, now).is_some() {
            return ClaimState::Done;
        }
        if store.claimed.get(&key).is_some_and(|(_, end)| *end > now) {
            return ClaimState::InFlight;
        }
        store.claimed.insert(key, (holder, now + lease.min(FOREVER)));
        ClaimState::New
    }

    fn complete_now(&self, key: DeliveryKey, holder: Holder, now: Instant) {
        let mut store = locked(&self.0);
        store.unclaim(key, holder);
        store.seen.record(key, None, now);
    }

    fn release_now(&self, key: DeliveryKey, holder: Holder) {
        locked(&self.0).unclaim(key, holder);
    }
}

/// 100,000 deliveries for 24 hours.
impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(100_000, Duration::from_secs(24 * 60 * 60))
    }
}

impl Claimable {
    fn unclaim(&mut self, key: DeliveryKey, holder: Holder) {
        if self.claimed.get(&key).is_some_and(|(current, _)| *current == holder) {
            self.claimed.remove(&key);
        }
    }
}

/// A hash of a delivery's body, which tells most bodies of the same key apart.
pub(crate) type Fingerprint = std::num::NonZeroU32;

/// The completed deliveries. Forgetting them one by one, in order, would cost each new one a search for the oldest
/// in memory that no cache holds.
#[derive(Debug)]
pub(crate) struct Seen {
    done: Bounded<DeliveryKey, Option<Fingerprint>>,
    /// Seconds, as are the next ones, from `born`.
    keep: u32,
    born: Instant,
    /// When the young generation began.
    turned: u32,
}

impl Seen {
    pub(crate) fn get(&mut self, key: DeliveryKey, now: Instant) -> Option<Option<Fingerprint>> {
        self.make_room(now);
        self.done.peek(&key)
    }

    pub(crate) fn record(&mut self, key: DeliveryKey, body: Option<Fingerprint>, now: Instant) {
        self.make_room(now);
        self.done.insert(key, body);
    }

    /// Turns where time or capacity ask for it, so that what follows pushes nothing out.
    fn make_room(&mut self, now: Instant) {
        let second = now.duration_since(self.born).as_secs().try_into().unwrap_or(u32::MAX);
        let age = second.saturating_sub(self.turned);
        if self.done.is_full() {
            measure::keys_evicted(self.done.turn());
            self.turned = second;
        } else if age >= self.keep {
            self.done.turn();
            self.turned = second;
        }
        if age / 2 >= self.keep {
            self.done.turn();
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

    #[tokio::test]
    async fn a_release_does_not_undo_a_completion() {
        let store = MemoryStore::default();
        for holder in [Holder::new(1), Holder::new(2)] {
            assert_ne!(store.claim(key(1), holder, LEASE).await.unwrap(), ClaimState::InFlight);
            store.complete(key(1), Holder::new(1)).await.unwrap();
            store.release(key(1), holder).await.unwrap();
            assert_eq!(store.claim(key(1), Holder::new(3), LEASE).await.unwrap(), ClaimState::Done);
        }
    }

    fn complete(store: &MemoryStore, number: u32) {
        let holder = Holder::new(number.into());
        assert_eq!(store.claim_now(key(number), holder, LEASE, Instant::now()), ClaimState::New);
        store.complete_now(key(number), holder, Instant::now());
    }

    /// Those of the keys below `end` that are remembered.
    fn done(store: &MemoryStore, end: u32) -> Vec<u32> {
        let mut seen = locked(&store.0);
        (0..end).filter(|number| seen.seen.get(key(*number), Instant::now()).is_some()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_last_completed_and_whatever_is_at_work() {
        for last in 3..20 {
            let store = MemoryStore::new(3, Duration::from_secs(100));
            assert_eq!(store.claim_now(key(0), Holder::new(0), LEASE, Instant::now()), ClaimState::New);
            (1..=last).for_each(|number| complete(&store, number));
            assert_eq!(store.claim_now(key(0), Holder::new(9), LEASE, Instant::now()), ClaimState::InFlight);
            let done = done(&store, last + 1);
            assert!(done.ends_with(&[last - 2, last - 1, last]), "{done:?}");
            assert!(done.len() <= 6, "{done:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_for_the_time_that_was_asked_for_and_twice_as_long_at_most() {
        for idle in [0, 250] {
            let store = MemoryStore::new(100, Duration::from_secs(100));
            tokio::time::advance(Duration::from_secs(idle)).await;
            complete(&store, 0);
            tokio::time::advance(Duration::from_secs(99)).await;
            complete(&store, 1);
            assert_eq!(done(&store, 2), [0, 1]);
            tokio::time::advance(Duration::from_secs(99)).await;
            assert_eq!(done(&store, 2).last(), Some(&1));
            tokio::time::advance(Duration::from_secs(101)).await;
            assert_eq!(done(&store, 2), [0_u32; 0]);
            complete(&store, 2);
            tokio::time::advance(Duration::from_secs(200)).await;
            assert_eq!(done(&store, 3), [0_u32; 0], "nothing came meanwhile");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_generation_that_is_full_leaves_the_next_one_all_its_time() {
        let store = MemoryStore::new(2, Duration::from_secs(100));
        complete(&store, 0);
        tokio::time::advance(Duration::from_secs(60)).await;
        (1..=2).for_each(|number| complete(&store, number));
        tokio::time::advance(Duration::from_secs(45)).await;
        assert!(done(&store, 3).ends_with(&[1, 2]));
    }
}
