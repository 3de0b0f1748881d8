//! An endpoint as one could write it for oneself: it knows one token, and limits, counts and logs nothing.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use smartshape_webhook::{DeliveryKey, Envelope};

use super::{SECRET, Spec};

pub(super) struct Endpoint {
    capacity: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    token: Option<String>,
    young: Keys,
    old: Keys,
}

/// The keys are hashes already.
type Keys = HashSet<DeliveryKey, foldhash::fast::RandomState>;

impl Endpoint {
    pub(super) fn new(spec: Spec) -> Self {
        Self { capacity: spec.seen_capacity, known: Mutex::default() }
    }

    /// Whether the delivery is acknowledged.
    pub(super) fn accepts(&self, token: Option<&str>, body: &[u8]) -> bool {
        let Some(token) = token else { return false };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.token.as_deref() != Some(token) {
            if !bcrypt::verify(SECRET, token).unwrap_or(false) {
                return false;
            }
            known.token = Some(token.to_owned());
        }
        drop(known);
        let Ok(event) = Envelope::parse(body) else { return false };
        let key = DeliveryKey::new(event.uuid(), event.event(), event.owner_key());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).see(key, self.capacity);
        true
    }
}

impl Known {
    /// A handler would be called for what is seen the first time.
    fn see(&mut self, key: DeliveryKey, capacity: usize) {
        if self.old.contains(&key) || !self.young.insert(key) {
            return;
        }
        if self.young.len() > capacity {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }
}
