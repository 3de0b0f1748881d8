//! The memory that all bodies together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::measure::{self, Share};

/// A shared number of bytes, from which bodies reserve as they come.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    total: u64,
    /// Of this one webhook may take so much, where there are several.
    share: u64,
    free: AtomicU64,
}

/// What one webhook has taken of what several share.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) permits: AtomicUsize,
    bytes: AtomicU64,
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<ByteBudget>,
    webhook: Option<Arc<Taken>>,
    bytes: u64,
    measured: Share,
}

/// The budget, or the webhook's share of it, has not that many bytes left.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl ByteBudget {
    /// A webhook's share is three quarters, and has room for one body of the longest at least.
    pub(crate) fn new(bytes: u64, longest: u64) -> Arc<Self> {
        Arc::new(Self { total: bytes, share: (bytes - bytes / 4).max(longest), free: AtomicU64::new(bytes) })
    }

    /// A reservation of nothing yet; `webhook` has taken what it has of its share, where there are several.
    pub(crate) fn reservation(self: &Arc<Self>, webhook: Option<Arc<Taken>>) -> Reservation {
        Reservation { budget: Arc::clone(self), webhook, bytes: 0, measured: measure::reserved_bytes() }
    }

    pub(crate) fn reserved(&self) -> u64 {
        self.total - self.free()
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Whether so many bytes could be had now.
    pub(crate) fn could_grow(&self, more: u64) -> bool {
        let left = self.webhook.as_ref().map_or(u64::MAX, |webhook| {
            self.budget.share.saturating_sub(webhook.bytes.load(Ordering::Relaxed))
        });
        more <= self.budget.free().min(left)
    }

    /// Reserves at once or not at all: waiting with half a body in hand could block for ever.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        if let Some(webhook) = &self.webhook {
            let share = self.budget.share;
            let within = |taken: u64| taken.checked_add(more).filter(|taken| *taken <= share);
            webhook
                .bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
                .map_err(|_| Exhausted)?;
        }
        let taken = self
            .budget
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more));
        if taken.is_err() {
            if let Some(webhook) = &self.webhook {
                webhook.bytes.fetch_sub(more, Ordering::Relaxed);
            }
            return Err(Exhausted);
        }
        self.bytes += more;
        self.measured.add(more);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
        if let Some(webhook) = &self.webhook {
            webhook.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_exactly_what_was_taken() {
        let budget = ByteBudget::new(100, 1);
        let mut one = budget.reservation(None);
        one.grow(60).unwrap();
        assert!(budget.reservation(None).grow(41).is_err());
        one.grow(40).unwrap();
        assert!(one.grow(1).is_err());
        assert_eq!(budget.free(), 0);
        drop(one);
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn one_of_several_webhooks_never_takes_all() {
        for (longest, share) in [(10, 75), (80, 80)] {
            let budget = ByteBudget::new(100, longest);
            let [one, other] = [Arc::new(Taken::default()), Arc::new(Taken::default())];
            let mut first = budget.reservation(Some(Arc::clone(&one)));
            let mut second = budget.reservation(Some(Arc::clone(&one)));
            first.grow(share - 20).unwrap();
            assert!(second.could_grow(20) && !second.could_grow(21));
            assert!(second.grow(21).is_err());
            second.grow(20).unwrap();
            assert!(first.grow(1).is_err());
            let mut others = budget.reservation(Some(Arc::clone(&other)));
            assert!(!others.could_grow(101 - share));
            assert!(others.grow(101 - share).is_err());
            others.grow(100 - share).unwrap();
            drop((first, second, others));
            let mut again = budget.reservation(Some(one));
            again.grow(share).unwrap();
            assert_eq!(budget.free(), 100 - share);
            budget.reservation(Some(other)).grow(100 - share).unwrap();
        }
    }
}
