//! Which failed attempts are retried, and after which delay. Uses neither network nor clock.

use std::time::{Duration, SystemTime};

/// Parses a `Retry-After` header (RFC 9110): seconds, or an HTTP date, which becomes the time until then. `None` if it is
/// neither.
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

/// Number of retries and their backoff.
#[derive(Clone, Debug)]
pub(crate) struct RetryPolicy {
    pub(crate) max_retries: u32,
    pub(crate) min_backoff: Duration,
    pub(crate) max_backoff: Duration,
}

/// Why an attempt failed, as far as it matters for retrying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// No connection: the server saw nothing of the call.
    NotSent,
    /// The connection was lost: the call may have taken effect.
    ConnectionLost,
    /// A response with this status, and its `Retry-After`.
    Status(u16, Option<Duration>),
    /// Another attempt would fail the same way.
    Permanent,
}

impl RetryPolicy {
    /// The delay before the next attempt, or `None` if the call is not to be retried. `failed` attempts were made;
    /// `random` jitters the delay over its upper half.
    pub(crate) fn wait(
        &self,
        failed: u32,
        idempotent: bool,
        reason: RetryReason,
        random: u64,
    ) -> Option<Duration> {
        let (retryable, retry_after) = match reason {
            RetryReason::NotSent | RetryReason::ConnectionLost => (idempotent, None),
            // Rate limited: the server did nothing, so any call may be retried.
            RetryReason::Status(429, after) => (true, after),
            // At SmartShape 503 means unauthorized, unless it comes with Retry-After.
            RetryReason::Status(503, after) => (idempotent && after.is_some(), after),
            RetryReason::Status(status, after) => (idempotent && matches!(status, 500 | 502 | 504), after),
            RetryReason::Permanent => (false, None),
        };
        if !retryable || failed > self.max_retries {
            return None;
        }
        let doubled = self.min_backoff.saturating_mul(1 << failed.saturating_sub(1).min(20));
        let half = u64::try_from(doubled.min(self.max_backoff).as_micros() / 2).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(half.saturating_add(random % half.saturating_add(1)));
        Some(wait.max(retry_after.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_retries: 3,
        min_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_millis(600),
    };

    #[test]
    fn retryable_failures_of_idempotent_calls() {
        let (never, soon) = (None, Some(Duration::from_millis(1)));
        for (reason, again) in [
            (RetryReason::NotSent, true),
            (RetryReason::ConnectionLost, true),
            (RetryReason::Status(500, never), true),
            (RetryReason::Status(502, never), true),
            (RetryReason::Status(504, never), true),
            (RetryReason::Status(503, soon), true),
            (RetryReason::Status(503, never), false),
            (RetryReason::Status(501, never), false),
            (RetryReason::Status(507, never), false),
            (RetryReason::Status(400, soon), false),
            (RetryReason::Status(402, never), false),
            (RetryReason::Status(404, never), false),
            (RetryReason::Status(408, never), false),
            (RetryReason::Status(302, never), false),
            (RetryReason::Permanent, false),
        ] {
            assert_eq!(POLICY.wait(1, true, reason, 0).is_some(), again, "{reason:?}");
            assert_eq!(POLICY.wait(1, false, reason, 0), None, "{reason:?}, not idempotent");
        }
        for idempotent in [true, false] {
            assert!(POLICY.wait(1, idempotent, RetryReason::Status(429, never), 0).is_some());
            assert_eq!(POLICY.wait(4, idempotent, RetryReason::Status(429, never), 0), None);
        }
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let minute = Duration::from_secs(60);
        for status in [429, 500, 503] {
            assert_eq!(
                POLICY.wait(1, true, RetryReason::Status(status, Some(minute)), 7),
                Some(minute),
                "{status}"
            );
        }
        let sooner = POLICY.wait(3, true, RetryReason::Status(429, Some(Duration::from_millis(1))), 0);
        assert_eq!(sooner, Some(Duration::from_millis(300)), "no sooner than otherwise");
    }

    #[test]
    fn retry_after_is_parsed_in_both_forms() {
        let far = parse_retry_after(" Fri, 31 Dec 9999 23:59:59 GMT ");
        assert!(far > Some(Duration::from_secs(1 << 32)), "{far:?}");
        for wrong in ["", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(parse_retry_after(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn backoff_doubles_up_to_the_maximum_and_ends() {
        for (failed, shortest, longest) in [(1, 100, 200), (2, 200, 400), (3, 300, 600)] {
            let wait = |random| POLICY.wait(failed, true, RetryReason::ConnectionLost, random).unwrap();
            assert_eq!(wait(0), Duration::from_millis(shortest), "{failed}");
            assert_eq!(wait(longest * 1000 / 2), Duration::from_millis(longest), "{failed}");
            let any = wait(u64::MAX);
            assert!(any >= Duration::from_millis(shortest) && any <= Duration::from_millis(longest));
        }
        assert_eq!(POLICY.wait(4, true, RetryReason::ConnectionLost, 0), None);
    }

    #[test]
    fn backoff_survives_extreme_settings() {
        let policy =
            RetryPolicy { max_retries: u32::MAX, min_backoff: Duration::MAX, max_backoff: Duration::MAX };
        assert!(policy.wait(u32::MAX, true, RetryReason::ConnectionLost, u64::MAX).is_some());
        let policy = RetryPolicy { max_retries: 0, ..POLICY };
        assert_eq!(policy.wait(1, true, RetryReason::ConnectionLost, 0), None);
        let policy = RetryPolicy { min_backoff: Duration::ZERO, ..POLICY };
        assert_eq!(policy.wait(1, true, RetryReason::ConnectionLost, 7), Some(Duration::ZERO));
    }
}
