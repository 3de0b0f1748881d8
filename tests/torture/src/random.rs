//! Random choices that a seed repeats.

use std::time::Duration;

#[derive(Clone)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A random seed, short enough to be typed.
    pub(crate) fn seed() -> u64 {
        u64::from(fastrand::u32(..))
    }

    /// An independent generator for another task.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn milliseconds(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_micros((from * 1000 + self.below((to - from) * 1000)) as u64)
    }
}
