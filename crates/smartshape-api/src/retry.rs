//! When a call is tried again, and after which wait. Knows no network and no clock.

use std::time::{Duration, SystemTime};

/// How long the `Retry-After` header of a response asks to wait: seconds, or the time until a date (RFC 9110).
/// `None` where it is neither.
///
/// ```
/// use std::time::Duration;
/// use smartshape_api::parse_retry_after;
///
/// assert_eq!(parse_retry_after("120"), Some(Duration::from_secs(120)));
/// assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
/// assert_eq!(parse_retry_after("soon"), None);
/// ```
#[must_use]
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let seconds = value.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let time = httpdate::parse_http_date(value).ok()?;
        Some(time.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

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
    /// An answer of this status, and how long it asks to wait.
    Status(u16, Option<Duration>),
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
        let (passing, asked) = match trouble {
            Trouble::NotSent | Trouble::Broken => (idempotent, None),
            // A rate limit: nothing was done, so that any call may be sent again.
            Trouble::Status(429, asked) => (true, asked),
            // 503 means unauthorised at SmartShape, and "later" only where it says when.
            Trouble::Status(503, asked) => (idempotent && asked.is_some(), asked),
            Trouble::Status(status, asked) => (idempotent && matches!(status, 500 | 502 | 504), asked),
            Trouble::Final => (false, None),
        };
        if !passing || failed > self.retries {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(20));
        let half = u64::try_from(doubled.min(self.longest_wait).as_micros() / 2).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(half.saturating_add(random % half.saturating_add(1)));
        Some(wait.max(asked.unwrap_or_default()))
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
        let (never, soon) = (None, Some(Duration::from_millis(1)));
        for (trouble, again) in [
            (Trouble::NotSent, true),
            (Trouble::Broken, true),
            (Trouble::Status(500, never), true),
            (Trouble::Status(502, never), true),
            (Trouble::Status(504, never), true),
            (Trouble::Status(503, soon), true),
            (Trouble::Status(503, never), false),
            (Trouble::Status(501, never), false),
            (Trouble::Status(507, never), false),
            (Trouble::Status(400, soon), false),
            (Trouble::Status(402, never), false),
            (Trouble::Status(404, never), false),
            (Trouble::Status(408, never), false),
            (Trouble::Status(302, never), false),
            (Trouble::Final, false),
        ] {
            assert_eq!(POLICY.wait(1, true, trouble, 0).is_some(), again, "{trouble:?}");
            assert_eq!(POLICY.wait(1, false, trouble, 0), None, "{trouble:?}, not idempotent");
        }
        for idempotent in [true, false] {
            assert!(POLICY.wait(1, idempotent, Trouble::Status(429, never), 0).is_some());
            assert_eq!(POLICY.wait(4, idempotent, Trouble::Status(429, never), 0), None);
        }
    }

    #[test]
    fn what_the_server_asks_for_is_waited() {
        let minute = Duration::from_secs(60);
        for status in [429, 500, 503] {
            assert_eq!(
                POLICY.wait(1, true, Trouble::Status(status, Some(minute)), 7),
                Some(minute),
                "{status}"
            );
        }
        let sooner = POLICY.wait(3, true, Trouble::Status(429, Some(Duration::from_millis(1))), 0);
        assert_eq!(sooner, Some(Duration::from_millis(300)), "no sooner than otherwise");
    }

    #[test]
    fn how_long_to_wait_is_read_in_both_forms() {
        let far = parse_retry_after(" Fri, 31 Dec 9999 23:59:59 GMT ");
        assert!(far > Some(Duration::from_secs(1 << 32)), "{far:?}");
        for wrong in ["", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(parse_retry_after(wrong), None, "{wrong}");
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
