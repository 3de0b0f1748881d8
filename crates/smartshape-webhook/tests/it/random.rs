//! Choices that a seed repeats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Weyl's sequence, mixed: even enough for choices, and shared without a lock.
#[derive(Default)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 11) % limit
    }

    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Yields to other tasks, or sleeps on the paused clock.
    pub(crate) async fn yield_randomly(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
        if self.one_in(4) {
            tokio::time::sleep(Duration::from_millis(self.below(20))).await;
        }
    }
}
