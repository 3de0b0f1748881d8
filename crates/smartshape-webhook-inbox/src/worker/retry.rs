//! When a failed event is tried again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Exponential back-off: doubled with each attempt up to a longest one, then cut by up to half at
/// random, so that events that failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The wait after attempt number `attempt` (from 1). `chance` is between 0 and 1.
    pub(crate) fn after(&self, attempt: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        doubled.min(self.longest).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Between 0 and 1, well enough spread for jitter.
pub(crate) fn chance() -> f64 {
    // Every RandomState has keys of its own.
    let number = RandomState::new().hash_one(0_u8);
    f64::from((number >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_never_overflows() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(3600) };
        let seconds = |attempt| backoff.after(attempt, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 12].map(seconds), [1, 2, 4, 8, 2048]);
        assert_eq!((seconds(13), seconds(u32::MAX)), (3600, 3600));
        assert_eq!(backoff.after(3, 0.0), Duration::from_secs(2));
    }
}
