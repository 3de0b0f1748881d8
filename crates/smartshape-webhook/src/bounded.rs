//! A map that holds the recently used entries, in bounded memory.

use std::hash::Hash;

use crate::hashed::HashedMap;

/// Two generations: entries that are used move into the young one; when that is full it becomes
/// the old one, and what the old one still held is forgotten. So the `capacity` entries that were used
/// last are there for certain, at most twice as many in all, and looking up costs no list to reorder.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    young: HashedMap<K, V>,
    old: HashedMap<K, V>,
    capacity: usize,
}

impl<K: Eq + Hash + Copy, V: Copy> Bounded<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashedMap::default(), old: HashedMap::default(), capacity: capacity.max(1) }
    }

    /// The value, and how many entries its use pushed out.
    pub(crate) fn get(&mut self, key: &K) -> Option<(V, usize)> {
        if let Some(value) = self.young.get(key) {
            return Some((*value, 0));
        }
        let value = self.old.remove(key)?;
        Some((value, self.insert(*key, value)))
    }

    /// The value. Does not count as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Returns how many entries it pushed out.
    pub(crate) fn insert(&mut self, key: K, value: V) -> usize {
        let pushed_out = if self.is_full() { self.turn() } else { 0 };
        self.young.insert(key, value);
        pushed_out
    }

    /// Whether the next entry pushes out others.
    pub(crate) fn is_full(&self) -> bool {
        self.young.len() >= self.capacity
    }

    /// Begins a new generation, and returns how many entries of the old one were forgotten.
    pub(crate) fn turn(&mut self) -> usize {
        std::mem::swap(&mut self.young, &mut self.old);
        let forgotten = self.young.len();
        // Its memory serves the new generation.
        self.young.clear();
        forgotten
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| keep(value));
        self.old.retain(|_, value| keep(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_never_grows() {
        let mut map = Bounded::new(8);
        let mut pushed_out = map.insert(0, "used");
        for key in 1..1000 {
            pushed_out += map.insert(key, "passing");
            let (value, more) = map.get(&0).unwrap();
            assert_eq!(value, "used");
            pushed_out += more;
            assert!(map.young.len() + map.old.len() <= 16);
        }
        assert_eq!(map.get(&1), None);
        assert_eq!(map.young.len() + map.old.len() + pushed_out, 1000, "none goes uncounted");
    }

    #[test]
    fn as_many_as_the_capacity_used_in_turn_all_stay() {
        let mut map = Bounded::new(8);
        for key in 0..8 {
            map.insert(key, key);
        }
        for key in (0..8).cycle().take(100) {
            assert!(map.get(&key).is_some(), "{key}");
        }
    }

    #[test]
    fn retain_reaches_both_generations() {
        let mut map = Bounded::new(2);
        for key in 0..4 {
            map.insert(key, key);
        }
        map.retain(|value| value % 2 == 0);
        let mut get = |key| map.get(&key).map(|(value, _)| value);
        assert_eq!((get(0), get(1), get(2), get(3)), (Some(0), None, Some(2), None));
    }
}
