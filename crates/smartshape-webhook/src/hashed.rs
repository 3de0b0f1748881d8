//! Maps of keys that are hashes already.

use std::collections::HashMap;

/// A second strong hash would only cost time: nobody chooses the bits of these keys. (Addresses, the one
/// exception, are few.) The seed is random all the same, since whoever holds a token can try uuids
/// until their keys look alike.
type Hasher = foldhash::fast::RandomState;

pub(crate) type HashedMap<K, V> = HashMap<K, V, Hasher>;
