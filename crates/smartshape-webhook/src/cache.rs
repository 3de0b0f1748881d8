//! A generational cache: approximate LRU in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;

/// A fast hash suffices: these keys are hashes already, so nobody chooses their bits. (Addresses, the one exception,
/// are few.) The seed is random all the same, since the holder of a token can try uuids until their keys collide.
type Hasher = foldhash::fast::RandomState;

pub(crate) type HashedMap<K, V> = HashMap<K, V, Hasher>;

/// Two generations: an entry that is used moves into the hot one. When that is full it becomes the cold one, and the
/// entries of the previous cold one are evicted. So the `capacity` most recently used entries are always kept, at most
/// twice as many are, and a lookup reorders no list.
#[derive(Debug)]
pub(crate) struct GenerationalCache<K, V> {
    hot: HashedMap<K, V>,
    cold: HashedMap<K, V>,
    capacity: usize,
}

impl<K: Eq + Hash + Copy, V: Copy> GenerationalCache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { hot: HashedMap::default(), cold: HashedMap::default(), capacity: capacity.max(1) }
    }

    /// Returns the value, and the number of entries that its use evicted.
    pub(crate) fn get(&mut self, key: &K) -> Option<(V, usize)> {
        if let Some(value) = self.hot.get(key) {
            return Some((*value, 0));
        }
        let value = self.cold.remove(key)?;
        Some((value, self.insert(*key, value)))
    }

    /// Returns the value without counting as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<V> {
        self.hot.get(key).or_else(|| self.cold.get(key)).copied()
    }

    /// Returns the number of entries it evicted.
    pub(crate) fn insert(&mut self, key: K, value: V) -> usize {
        let evicted = if self.is_full() { self.rotate() } else { 0 };
        self.hot.insert(key, value);
        evicted
    }

    /// Whether the next insertion rotates.
    pub(crate) fn is_full(&self) -> bool {
        self.hot.len() >= self.capacity
    }

    /// Begins a new generation, and returns the number of entries evicted.
    pub(crate) fn rotate(&mut self) -> usize {
        std::mem::swap(&mut self.hot, &mut self.cold);
        let evicted = self.hot.len();
        // `clear` keeps the memory for the new generation.
        self.hot.clear();
        evicted
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hot.len() + self.cold.len()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.hot.retain(|_, value| keep(value));
        self.cold.retain(|_, value| keep(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_never_grows() {
        let mut map = GenerationalCache::new(8);
        let mut evicted = map.insert(0, "used");
        for key in 1..1000 {
            evicted += map.insert(key, "passing");
            let (value, more) = map.get(&0).unwrap();
            assert_eq!(value, "used");
            evicted += more;
            assert!(map.hot.len() + map.cold.len() <= 16);
        }
        assert_eq!(map.get(&1), None);
        assert_eq!(map.hot.len() + map.cold.len() + evicted, 1000, "none goes uncounted");
    }

    #[test]
    fn capacity_entries_used_in_turn_stay_cached() {
        let mut map = GenerationalCache::new(8);
        for key in 0..8 {
            map.insert(key, key);
        }
        for key in (0..8).cycle().take(100) {
            assert!(map.get(&key).is_some(), "{key}");
        }
    }

    #[test]
    fn retain_reaches_both_generations() {
        let mut map = GenerationalCache::new(2);
        for key in 0..4 {
            map.insert(key, key);
        }
        map.retain(|value| value % 2 == 0);
        let mut get = |key| map.get(&key).map(|(value, _)| value);
        assert_eq!((get(0), get(1), get(2), get(3)), (Some(0), None, Some(2), None));
    }
}
