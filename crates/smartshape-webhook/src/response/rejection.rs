//! Why a delivery is rejected, and the one table of kinds, statuses and public messages.

use std::fmt;
use std::time::Duration;

/// Defines [`RejectionKind`] with, for each kind, its status, its public text, its cause and the remedy, both for the
/// operator.
macro_rules! rejections {
    ($($kind:ident => $status:literal $message:literal $cause:literal $remedy:literal;)*) => {
        /// Why a delivery is rejected. Kinds, statuses, public messages, and what to do:
        ///
        /// | kind | status | public message | remedy |
        /// |---|---|---|---|
        $(#[doc = concat!("| [`", stringify!($kind), "`](Self::", stringify!($kind), ") | ", $status, " | ", $message, " | ", $remedy, " |")])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RejectionKind {
            $(#[doc = concat!("In the log: `", $cause, "`.")] $kind,)*
        }

        impl RejectionKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The kind's name, as it stands in logs and metrics.
            ///
            /// ```
            /// assert_eq!(smartshape_webhook::RejectionKind::TokenMissing.name(), "TokenMissing");
            /// ```
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// The HTTP status of the response.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// The message in the response, which says less than the log.
            #[must_use]
            pub const fn public_message(self) -> &'static str {
                match self { $(Self::$kind => $message,)* }
            }

            /// What to do about it, in a sentence or two for the operator.
            ///
            /// ```
            /// use smartshape_webhook::RejectionKind;
            ///
            /// assert!(RejectionKind::TokenTooCostly.remedy().ends_with("raise `max_cost`."));
            /// ```
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$kind => $remedy,)* }
            }

            /// The text in the log.
            const fn cause(self) -> &'static str {
                match self { $(Self::$kind => $cause,)* }
            }

            /// The body of the response.
            pub(crate) const fn body(self) -> &'static str {
                match self { $(Self::$kind => concat!(r#"{"success":false,"error":""#, $message, r#""}"#),)* }
            }
        }
    };
}

rejections! {
    MethodNotAllowed => 405 "method not allowed"
        "the method is not POST"
        "SmartShape sends POST. A browser or a health check sends GET.";
    TokenMissing => 401 "unauthorized"
        "no x-smartshape-token header: not from SmartShape, or a proxy strips it"
        "If SmartShape sent it, a proxy on the way strips the header: let the proxy pass it.";
    TokenRepeated => 401 "unauthorized"
        "several x-smartshape-token headers with different values"
        "Find the proxy or client that adds the second one.";
    TokenMalformed => 401 "unauthorized"
        "the token is malformed"
        "Sign tests with the fake or `smartshape token sign`. In a shell, quote a token with single quotes: it contains `$`.";
    TokenTooCostly => 401 "unauthorized"
        "the token's cost is above max_cost"
        "It was not hashed. If the token is SmartShape's own, raise `max_cost`.";
    TokenTooCheap => 401 "unauthorized"
        "the token's cost is below min_cost"
        "It was not hashed. If the token is SmartShape's own, lower `min_cost`.";
    TokenUnmatched => 401 "unauthorized"
        "the token is well formed but matches none of the secrets"
        "Compare the secret with the registered one; after a rotation, keep the old secret. Or it is a forgery.";
    TokenOutOfScope => 401 "unauthorized"
        "the token's secret is not for this event"
        "Correct `scoped_to` or `scoped_to_owners`, or register the webhook with the right secret.";
    LengthInvalid => 400 "invalid content length"
        "the declared length is invalid"
        "The sender or a proxy declares no number, or two of them.";
    BodyBroken => 400 "incomplete body"
        "the body ended early or could not be read"
        "The connection ended before the body did. SmartShape sends it again.";
    NotJson => 400 "body is not JSON"
        "the body is not JSON"
        "SmartShape sends JSON in UTF-8: a proxy may have changed the body.";
    EnvelopeInvalid => 400 "body is not a SmartShape event"
        "the body is not a SmartShape event"
        "A SmartShape event has `file`, `event`, `data`, `owner`, `runTimestamp` and `uuid`. Compare the body with a sample.";
    BodyTooLarge => 413 "body too large"
        "the body is longer than max_body_bytes"
        "Raise `max_body_bytes` if your events are that large.";
    ContentCoding => 415 "content coding not supported"
        "the body is in a content coding that nobody has decoded: decompress it before the receiver"
        "Decompress bodies before the receiver, or turn compression off in the proxy.";
    BodyTimeout => 408 "body took too long"
        "the body took too long"
        "The sender or the network is slow. SmartShape sends it again.";
    VerifyBusy => 503 "busy, try again later"
        "the token could not be verified in time"
        "Optimise bcrypt in debug builds. Give the process more CPU, or raise `verify_timeout`. Against a flood, use an unguessable path and rate limits in the proxy.";
    MemoryExhausted => 503 "busy, try again later"
        "the bodies in memory have reached memory_limit_bytes, or this webhook's share of it"
        "Raise `memory_limit_bytes`, lower `max_body_bytes`, or make handlers faster.";
    TooManyInFlight => 503 "busy, try again later"
        "max_in_flight deliveries, or this webhook's share of them, are in flight"
        "Make handlers faster, raise `max_in_flight`, or use an inbox.";
    StoreUnavailable => 503 "busy, try again later"
        "the deduplication store failed"
        "The log has the error of the deduplication store.";
    DuplicateUnfinished => 503 "busy, try again later"
        "the same delivery is still in flight, or failed meanwhile"
        "Make the handler faster than SmartShape retries, or use an inbox.";
    Draining => 503 "busy, try again later"
        "the receiver is being drained"
        "None: SmartShape's next attempt reaches the new process.";
    EventUnexpected => 422 "event not accepted here"
        "the extractor takes another event"
        "The endpoint takes other events: register the webhook for these only, or set `on_unexpected_event`.";
    EventUndecodable => 422 "event not accepted here"
        "the event's data does not have the documented form"
        "Take the event as JSON, or set `on_unexpected_event`.";
    NotConfigured => 500 "internal error"
        "the route has no receiver"
        "The log says what to add to the route.";
    HandlerFailed => 500 "event could not be handled"
        "the handler failed"
        "The log has the handler's error. SmartShape sends the event again.";
    HandlerUnavailable => 503 "busy, try again later"
        "the handler is temporarily unavailable"
        "The log line of the delivery (`outcome=\"failed\"`) has the error.";
}

/// A rejected delivery: its kind, and details for the log.
///
/// `Display` is for the operator's log; the response contains only [`RejectionKind::public_message`]. Neither contains
/// a token or a secret.
///
/// ```
/// use smartshape_webhook::{Rejection, RejectionKind};
///
/// let rejection = Rejection::from(RejectionKind::TokenMissing);
/// assert_eq!(rejection.kind().status(), 401);
/// assert_eq!(rejection.kind().public_message(), "unauthorized");
/// ```
#[derive(Clone, Debug)]
pub struct Rejection {
    kind: RejectionKind,
    detail: Option<Box<str>>,
    retry_after: Option<Duration>,
    /// Whether part of the body is left unread, so that an HTTP/1 connection closes after the response.
    closes: bool,
    token_verified: bool,
}

impl Rejection {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// When the sender may retry. Set for status 503 only.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the request's token had been verified before the request was rejected, so that it comes from somebody
    /// who knows a secret: for example when the body behind a valid token is not JSON. Then the receiver has also read
    /// some or all of its body. False for a rejection made from a [`RejectionKind`].
    ///
    /// ```
    /// use smartshape_webhook::{Rejection, RejectionKind};
    ///
    /// assert!(!Rejection::from(RejectionKind::NotJson).token_verified());
    /// ```
    #[must_use]
    pub fn token_verified(&self) -> bool {
        self.token_verified
    }

    /// Sets [`token_verified`](Self::token_verified).
    pub(crate) fn after_verification(self) -> Self {
        Self { token_verified: true, ..self }
    }

    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    pub(crate) fn closing(self, closes: bool) -> Self {
        Self { closes, ..self }
    }

    pub(crate) fn with_detail(kind: RejectionKind, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string().into()), ..Self::from(kind) }
    }

    /// Like [`retry_in`](Self::retry_in), with jitter.
    pub(crate) fn retry_around(self, wait: Duration) -> Self {
        self.retry_in(wait + jitter())
    }

    pub(crate) fn retry_in(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<RejectionKind> for Rejection {
    fn from(kind: RejectionKind) -> Self {
        let retry_after = (kind.status() == 503).then(|| Duration::from_secs(1) + jitter());
        Self { kind, detail: None, retry_after, closes: false, token_verified: false }
    }
}

/// Up to two seconds, so that senders rejected together do not retry together.
fn jitter() -> Duration {
    Duration::from_millis(fastrand::u64(..2000))
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.cause())?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_bodies_are_json_of_the_same_form() {
        for kind in RejectionKind::ALL {
            let body: serde_json::Value = serde_json::from_str(kind.body()).unwrap();
            assert_eq!(body, serde_json::json!({"success": false, "error": kind.public_message()}));
        }
    }

    #[test]
    fn rejection_of_any_token_reads_the_same() {
        for kind in RejectionKind::ALL.iter().filter(|kind| format!("{kind:?}").starts_with("Token")) {
            assert_eq!((kind.status(), kind.public_message()), (401, "unauthorized"));
        }
    }

    #[test]
    fn rejection_spreads_retries_and_allows_none_too_early() {
        fastrand::seed(1);
        let base = Duration::from_secs(30);
        let busy = || Rejection::from(RejectionKind::VerifyBusy).retry_around(base).retry_after().unwrap();
        let waits: Vec<Duration> = (0..100).map(|_| busy()).collect();
        assert!(waits.iter().all(|wait| (base..base + Duration::from_secs(2)).contains(wait)), "{waits:?}");
        let (first, last) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*last - *first > Duration::from_secs(1), "all come back between {first:?} and {last:?}");
    }

    #[test]
    fn rejection_invites_a_retry_only_with_503() {
        for kind in RejectionKind::ALL {
            assert_eq!(Rejection::from(*kind).retry_after().is_some(), kind.status() == 503, "{kind:?}");
        }
    }
}
