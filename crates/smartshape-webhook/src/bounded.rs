//! A map that holds the recently used entries, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: entries that are used move into the young one; when that is full it becomes
/// the old one, and what the old one still held is forgotten. So an entry stays for at least
/// half the capacity of newer ones, and looking up costs no list to reorder.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash + Copy, V: Copy> Bounded<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: capacity.div_ceil(2).max(1) }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(*value);
        }
        let value = self.old.remove(key)?;
        self.insert(*key, value);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
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
        map.insert(0, "used");
        for key in 1..1000 {
            map.insert(key, "passing");
            assert_eq!(map.get(&0), Some("used"));
            assert!(map.young.len() + map.old.len() <= 8);
        }
        assert_eq!(map.get(&1), None);
    }

    #[test]
    fn retain_reaches_both_generations() {
        let mut map = Bounded::new(4);
        for key in 0..4 {
            map.insert(key, key);
        }
        map.retain(|value| value % 2 == 0);
        assert_eq!((map.get(&0), map.get(&1), map.get(&2), map.get(&3)), (Some(0), None, Some(2), None));
    }
}
