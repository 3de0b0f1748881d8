//! Tokens, made before they are sent: making one takes as long as checking it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smartshape_fake::{Prefix, token};

use crate::Outcome;

/// Which token goes with a request; `None` leaves the one that the request was made with.
pub(crate) type Choice = Option<usize>;

/// The tokens of a client's requests. Clones share their turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    list: Arc<[String]>,
    next: Arc<AtomicUsize>,
    once: bool,
}

impl Tokens {
    /// Each in its turn, again and again.
    pub(crate) fn in_turn(list: Arc<[String]>) -> Self {
        Self { list, ..Self::default() }
    }

    /// Each once. Then the client has nothing to send.
    pub(crate) fn once(list: Arc<[String]>) -> Self {
        Self { list, once: true, ..Self::default() }
    }

    /// Every one, from the first.
    pub(crate) fn all(&self) -> Vec<Choice> {
        if self.list.is_empty() { vec![None] } else { (0..self.list.len()).map(Some).collect() }
    }

    /// The next; `None` when there is none any more.
    pub(crate) fn take(&self) -> Option<Choice> {
        if self.list.is_empty() && !self.once {
            return Some(None);
        }
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        if self.once {
            return (place < self.list.len()).then_some(Some(place));
        }
        Some(Some(place % self.list.len()))
    }

    pub(crate) fn text(&self, choice: Choice) -> Option<&str> {
        self.list.get(choice?).map(String::as_str)
    }
}

/// Tokens of this secret, each with a salt of its own.
pub(crate) fn make(secret: &str, cost: u32, count: usize) -> Outcome<Arc<[String]>> {
    (0..count).map(|_| Ok(token(secret, cost, Prefix::TwoB)?)).collect()
}
