//! When a call is tried again, and after which wait. Knows no network and no clock.

use std::time::Duration;

/// How often, and how far apart.
#[derive(Clone, Debug)]
pub(crate) struct RetryPolicy {
    /// Attempts after the first one.
    pub(crate) retries: u32,
    pub(crate) first_wait: Duration,
    pub(crate) longest_wait: Duration,
}

/// What made an attempt fail, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No connection: the server saw nothing of it.
    NotSent,
    /// The connection broke: the server may have done it.
    Broken,
    /// An answer of this status.
    Status(u16),
    /// An answer that would be the same again.
    Final,
}

impl RetryPolicy {
    /// The wait before the next attempt; `None` when there is to be none. `failed` attempts were
    /// made; `random` spreads the wait over the upper half of its range.
    pub(crate) fn wait(
        &self,
        failed: u32,
        idempotent: bool,
        trouble: Trouble,
        random: u64,
    ) -> Option<Duration> {
        let passing = match trouble {
            Trouble::NotSent | Trouble::Broken => true,
            // 503 means unauthorised at SmartShape, not "later".
            Trouble::Status(status) => matches!(status, 500 | 502 | 504),
            Trouble::Final => false,
        };
        if !idempotent || !passing || failed > self.retries {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(20));
        let half = u64::try_from(doubled.min(self.longest_wait).as_micros() / 2).unwrap_or(u64::MAX);
        Some(Duration::from_micros(half.saturating_add(random % half.saturating_add(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        retries: 3,
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_millis(600),
    };

    #[test]
    fn what_is_tried_again() {
        for (trouble, again) in [
            (Trouble::NotSent, true),
            (Trouble::Broken, true),
            (Trouble::Status(500), true),
            (Trouble::Status(502), true),
            (Trouble::Status(504), true),
            (Trouble::Status(503), false),
            (Trouble::Status(501), false),
            (Trouble::Status(507), false),
            (Trouble::Status(400), false),
            (Trouble::Status(402), false),
            (Trouble::Status(404), false),
            (Trouble::Status(408), false),
            (Trouble::Status(429), false),
            (Trouble::Status(302), false),
            (Trouble::Final, false),
        ] {
            assert_eq!(POLICY.wait(1, true, trouble, 0).is_some(), again, "{trouble:?}");
            assert_eq!(POLICY.wait(1, false, trouble, 0), None, "{trouble:?}, not idempotent");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        for (failed, shortest, longest) in [(1, 100, 200), (2, 200, 400), (3, 300, 600)] {
            let wait = |random| POLICY.wait(failed, true, Trouble::Broken, random).unwrap();
            assert_eq!(wait(0), Duration::from_millis(shortest), "{failed}");
            assert_eq!(wait(longest * 1000 / 2), Duration::from_millis(longest), "{failed}");
            let any = wait(u64::MAX);
            assert!(any >= Duration::from_millis(shortest) && any <= Duration::from_millis(longest));
        }
        assert_eq!(POLICY.wait(4, true, Trouble::Broken, 0), None);
    }

    #[test]
    fn extreme_settings_do_no_harm() {
        let policy =
            RetryPolicy { retries: u32::MAX, first_wait: Duration::MAX, longest_wait: Duration::MAX };
        assert!(policy.wait(u32::MAX, true, Trouble::Broken, u64::MAX).is_some());
        let policy = RetryPolicy { retries: 0, ..POLICY };
        assert_eq!(policy.wait(1, true, Trouble::Broken, 0), None);
        let policy = RetryPolicy { first_wait: Duration::ZERO, ..POLICY };
        assert_eq!(policy.wait(1, true, Trouble::Broken, 7), Some(Duration::ZERO));
    }
}
