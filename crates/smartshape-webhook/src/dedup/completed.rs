//! The deliveries that this process has completed.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::GenerationalCache;
use crate::delivery::key::DeliveryKey;

/// A hash of a delivery's body, which tells most bodies with the same key apart.
pub(crate) type Fingerprint = NonZeroU32;

/// Recently completed deliveries, in bounded memory and for a bounded time.
///
/// Expires by generation: the `capacity` keys completed last are kept for `ttl` at least, at most twice as many are
/// kept, and for at most twice as long. Expiring them one by one, in order, would cost each delivery a lookup of the
/// oldest key in memory that is in no CPU cache.
#[derive(Debug)]
pub(super) struct CompletedKeys {
    keys: GenerationalCache<DeliveryKey, Fingerprint>,
    /// Time to live in whole seconds.
    ttl: u32,
    created: Instant,
    /// When the hot generation began, in whole seconds after `created`.
    rotated: u32,
}

impl CompletedKeys {
    pub(super) fn new(capacity: usize, ttl: Duration, now: Instant) -> Self {
        let ttl = ttl.as_secs().try_into().unwrap_or(u32::MAX).max(1);
        Self { keys: GenerationalCache::new(capacity), ttl, created: now, rotated: 0 }
    }

    /// Expects that [`expire`](Self::expire) was called.
    pub(super) fn get(&self, key: DeliveryKey) -> Option<Fingerprint> {
        self.keys.peek(&key)
    }

    /// Expects that [`expire`](Self::expire) was called.
    pub(super) fn insert(&mut self, key: DeliveryKey, body: Fingerprint) {
        self.keys.insert(key, body);
    }

    /// Rotates the generations where time or capacity require it, so that the following insertion evicts nothing.
    /// Returns how many keys were evicted for lack of capacity.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut evicted = 0;
        let second = now.duration_since(self.created).as_secs().try_into().unwrap_or(u32::MAX);
        let age = second.saturating_sub(self.rotated);
        if self.keys.is_full() {
            evicted = self.keys.rotate();
            self.rotated = second;
        } else if age >= self.ttl {
            self.keys.rotate();
            self.rotated = second;
        }
        if age / 2 >= self.ttl {
            self.keys.rotate();
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: Fingerprint = Fingerprint::MIN;

    fn key(number: u32) -> DeliveryKey {
        DeliveryKey::new(&number.to_string(), "file_uploaded", "someone")
    }

    fn new(capacity: usize) -> CompletedKeys {
        CompletedKeys::new(capacity, Duration::from_secs(100), Instant::now())
    }

    fn insert(completed: &mut CompletedKeys, number: u32) {
        completed.expire(Instant::now());
        assert_eq!(completed.get(key(number)), None);
        completed.insert(key(number), BODY);
    }

    /// The numbers below `end` whose keys are there.
    fn present(completed: &mut CompletedKeys, end: u32) -> Vec<u32> {
        completed.expire(Instant::now());
        (0..end).filter(|number| completed.get(key(*number)).is_some()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn completed_keys_keep_the_most_recent() {
        for last in 3..20 {
            let mut completed = new(3);
            (0..=last).for_each(|number| insert(&mut completed, number));
            let present = present(&mut completed, last + 1);
            assert!(present.ends_with(&[last - 2, last - 1, last]), "{present:?}");
            assert!(present.len() <= 6, "{present:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn completed_keys_live_for_the_ttl_and_at_most_twice_as_long() {
        for idle in [0, 250] {
            let mut completed = new(100);
            tokio::time::advance(Duration::from_secs(idle)).await;
            insert(&mut completed, 0);
            tokio::time::advance(Duration::from_secs(99)).await;
            insert(&mut completed, 1);
            assert_eq!(present(&mut completed, 2), [0, 1]);
            tokio::time::advance(Duration::from_secs(99)).await;
            assert_eq!(present(&mut completed, 2).last(), Some(&1));
            tokio::time::advance(Duration::from_secs(101)).await;
            assert_eq!(present(&mut completed, 2), [0_u32; 0]);
            insert(&mut completed, 2);
            tokio::time::advance(Duration::from_secs(200)).await;
            assert_eq!(present(&mut completed, 3), [0_u32; 0], "nothing came meanwhile");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn full_generation_leaves_the_next_one_its_whole_ttl() {
        let mut completed = new(2);
        insert(&mut completed, 0);
        tokio::time::advance(Duration::from_secs(60)).await;
        (1..=2).for_each(|number| insert(&mut completed, number));
        tokio::time::advance(Duration::from_secs(45)).await;
        assert!(present(&mut completed, 3).ends_with(&[1, 2]));
    }
}
