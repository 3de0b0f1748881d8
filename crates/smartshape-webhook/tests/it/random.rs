//! Choices that a seed repeats.

use std::sync::Mutex;
use std::time::Duration;

/// A generator that tasks share.
#[derive(Default)]
pub(crate) struct Random(Mutex<fastrand::Rng>);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&self, limit: u64) -> u64 {
        self.0.lock().unwrap().u64(..limit)
    }

    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
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
