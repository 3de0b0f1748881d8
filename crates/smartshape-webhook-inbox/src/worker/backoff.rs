//! When a failed event is attempted again.

use std::time::Duration;

/// Exponential back-off with jitter: doubles with each attempt up to `max`, then subtracts up to half at
/// random, so that events that failed together are not retried together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) initial: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    /// The pause after attempt number `attempt` (from 1). `jitter` is between 0 and 1.
    pub(super) fn after(&self, attempt: u32, jitter: f64) -> Duration {
        let doubled = self.initial.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        doubled.min(self.max).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_never_overflows() {
        let backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(3600) };
        let seconds = |attempt| backoff.after(attempt, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 12].map(seconds), [1, 2, 4, 8, 2048]);
        assert_eq!((seconds(13), seconds(u32::MAX)), (3600, 3600));
        assert_eq!(backoff.after(3, 0.0), Duration::from_secs(2));
    }
}
