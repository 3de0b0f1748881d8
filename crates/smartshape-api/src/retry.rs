//! Which failed attempts are retried. Uses neither network nor clock.

use std::time::{Duration, SystemTime};

/// Parses a `Retry-After` header (RFC 9110): seconds, or an HTTP date, which becomes the time until then. `None` if it
/// is neither.
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

impl RetryReason {
    /// Minimum delay before the next attempt; zero if the server does not ask for one. `None` if the call is not to be
    /// retried.
    pub(crate) fn retry_after(self, idempotent: bool) -> Option<Duration> {
        let (retryable, retry_after) = match self {
            Self::NotSent | Self::ConnectionLost => (idempotent, None),
            // Rate limited: the server did nothing, so any call may be retried.
            Self::Status(429, after) => (true, after),
            // At SmartShape 503 means unauthorized, unless it comes with Retry-After.
            Self::Status(503, after) => (idempotent && after.is_some(), after),
            Self::Status(status, after) => (idempotent && matches!(status, 500 | 502 | 504), after),
            Self::Permanent => (false, None),
        };
        retryable.then_some(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retryable_failures_of_idempotent_calls() {
        let (never, soon) = (None, Some(Duration::from_millis(1)));
        for (reason, again) in [
            (RetryReason::NotSent, Some(Duration::ZERO)),
            (RetryReason::ConnectionLost, Some(Duration::ZERO)),
            (RetryReason::Status(500, never), Some(Duration::ZERO)),
            (RetryReason::Status(502, soon), soon),
            (RetryReason::Status(504, never), Some(Duration::ZERO)),
            (RetryReason::Status(503, soon), soon),
            (RetryReason::Status(503, never), None),
            (RetryReason::Status(501, never), None),
            (RetryReason::Status(507, never), None),
            (RetryReason::Status(400, soon), None),
            (RetryReason::Status(402, never), None),
            (RetryReason::Status(404, never), None),
            (RetryReason::Status(408, never), None),
            (RetryReason::Status(302, never), None),
            (RetryReason::Permanent, None),
        ] {
            assert_eq!(reason.retry_after(true), again, "{reason:?}");
            assert_eq!(reason.retry_after(false), None, "{reason:?}, not idempotent");
        }
        for idempotent in [true, false] {
            assert_eq!(RetryReason::Status(429, never).retry_after(idempotent), Some(Duration::ZERO));
            assert_eq!(RetryReason::Status(429, soon).retry_after(idempotent), soon);
        }
    }

    #[test]
    fn retry_after_is_parsed_in_both_forms() {
        let far = parse_retry_after(" Fri, 31 Dec 9999 23:59:59 GMT ");
        assert!(far > Some(Duration::from_secs(1 << 32)), "{far:?}");
        for wrong in ["", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(parse_retry_after(wrong), None, "{wrong}");
        }
    }
}
