//! The memory that all bodies together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::measure::{self, Share};

/// A shared number of bytes, from which bodies reserve before they are read.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    total: u64,
    free: AtomicU64,
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<ByteBudget>,
    bytes: u64,
    measured: Share,
}

/// The budget has not that many bytes left.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl ByteBudget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { total: bytes, free: AtomicU64::new(bytes) })
    }

    /// Reserves at once or not at all: waiting with half a body in hand could block for ever.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Exhausted> {
        let mut reservation =
            Reservation { budget: Arc::clone(self), bytes: 0, measured: measure::reserved_bytes() };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    pub(crate) fn reserved(&self) -> u64 {
        self.total - self.free.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }
}

impl Reservation {
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        self.budget
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more))
            .map_err(|_| Exhausted)?;
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_exactly_what_was_taken() {
        let budget = ByteBudget::new(100);
        let mut one = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_err());
        one.grow(40).unwrap();
        assert!(one.grow(1).is_err());
        assert_eq!(budget.free(), 0);
        drop(one);
        assert_eq!(budget.free(), 100);
    }
}
