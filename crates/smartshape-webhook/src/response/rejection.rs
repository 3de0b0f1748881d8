//! Why a delivery is rejected, and the one table of kinds, statuses and public messages.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Defines [`RejectionKind`] with, for each kind, its status and its public text.
macro_rules! rejections {
    ($($(#[$doc:meta])* $kind:ident => $status:literal $message:literal;)*) => {
        /// Why a delivery is rejected. Kinds, statuses and public messages:
        ///
        /// | kind | status | public message |
        /// |---|---|---|
        $(#[doc = concat!("| [`", stringify!($kind), "`](Self::", stringify!($kind), ") | ", $status, " | ", $message, " |")])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RejectionKind { $($(#[$doc])* $kind,)* }

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

            /// The body of the response.
            pub(crate) const fn body(self) -> &'static str {
                match self { $(Self::$kind => concat!(r#"{"success":false,"error":""#, $message, r#""}"#),)* }
            }
        }
    };
}

rejections! {
    /// The method is not POST.
    MethodNotAllowed => 405 "method not allowed";
    /// No token header.
    TokenMissing => 401 "unauthorized";
    /// Several token headers with different values.
    TokenRepeated => 401 "unauthorized";
    /// The token is not of bcrypt's form.
    TokenMalformed => 401 "unauthorized";
    /// The token's cost is above the limit; it was not hashed.
    TokenTooCostly => 401 "unauthorized";
    /// The token's cost is below the limit; it was not hashed.
    TokenTooCheap => 401 "unauthorized";
    /// The token matches none of the secrets.
    TokenUnmatched => 401 "unauthorized";
    /// The token's secret is not for this event.
    TokenOutOfScope => 401 "unauthorized";
    /// The declared length is not a number, or two lengths were declared.
    LengthUnreadable => 400 "unreadable content length";
    /// The body ended early or could not be read.
    BodyBroken => 400 "incomplete body";
    /// The body is not JSON.
    NotJson => 400 "body is not JSON";
    /// A field of the envelope is missing or of an impossible type.
    EnvelopeInvalid => 400 "body is not a SmartShape event";
    /// The body is longer than the limit.
    BodyTooLarge => 413 "body too large";
    /// The body is in a content coding that no middleware has decoded.
    ContentCoding => 415 "content coding not supported";
    /// The body stalled or was not complete in time.
    BodyTimeout => 408 "body took too long";
    /// The token could not be verified in time: too many tokens wait, or other work keeps the cores busy.
    VerifyBusy => 503 "busy, try again later";
    /// The bodies in memory have reached the memory limit, or the webhook's share of it.
    MemoryExhausted => 503 "busy, try again later";
    /// Too many deliveries are in flight, of all webhooks or of this one.
    PermitsExhausted => 503 "busy, try again later";
    /// The deduplication store failed or did not respond.
    StoreUnavailable => 503 "busy, try again later";
    /// The same delivery was still in flight after the timeout, or failed meanwhile.
    DuplicateUnfinished => 503 "busy, try again later";
    /// The receiver is being drained for a shutdown.
    Draining => 503 "busy, try again later";
    /// The event is not one that the typed extractor takes.
    EventUnexpected => 422 "event not accepted here";
    /// The event's data does not have the documented form.
    EventUndecodable => 422 "event not accepted here";
    /// The route has no receiver.
    NotConfigured => 500 "internal error";
    /// The handler failed.
    HandlerFailed => 500 "event could not be handled";
    /// The handler is temporarily unavailable.
    HandlerUnavailable => 503 "busy, try again later";
}

/// A rejected delivery: its kind, and details for the log.
///
/// `Display` is for the operator's log; the response contains only [`RejectionKind::public_message`]. Neither contains a
/// token or a secret.
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

    /// Whether the request's token had been verified before the request was rejected, so that it comes from somebody who
    /// knows a secret. Then the receiver has also read some or all of its body. False for a rejection made from a
    /// [`RejectionKind`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use bytes::Bytes;
    /// use smartshape_webhook::{Delivery, Receiver, RequestHead, Secret};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let receiver = Receiver::new(Secret::new("a long and random string")?)?;
    /// let handler = Arc::new(|_: Delivery| async { Ok(()) });
    /// for (secret, verified) in [("a long and random string", true), ("somebody else's", false)] {
    ///     let token = bcrypt::hash(secret, 4)?;
    ///     let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    ///     let body = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("not JSON"))]);
    ///     let response = receiver.serve(&head, body, handler.clone()).await;
    ///     assert_eq!(response.rejection().unwrap().token_verified(), verified);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
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

/// Up to two seconds, so that senders rejected together do not retry together. The clock's low digits are random enough for
/// that.
fn jitter() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    Duration::from_millis(u64::from(nanos / 100 % 2000))
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RejectionKind::MethodNotAllowed => "the method is not POST",
            RejectionKind::TokenMissing => {
                "no x-smartshape-token header: not from SmartShape, or a proxy strips it"
            }
            RejectionKind::TokenRepeated => "several x-smartshape-token headers with different values",
            RejectionKind::TokenMalformed => "the token is malformed",
            RejectionKind::TokenTooCostly => "the token's cost is above max_cost",
            RejectionKind::TokenTooCheap => "the token's cost is below min_cost",
            RejectionKind::TokenUnmatched => "the token is well formed but matches none of the secrets",
            RejectionKind::TokenOutOfScope => "the token's secret is not for this event",
            RejectionKind::LengthUnreadable => "the declared length is unreadable",
            RejectionKind::BodyBroken => "the body ended early or could not be read",
            RejectionKind::NotJson => "the body is not JSON",
            RejectionKind::EnvelopeInvalid => "the body is not a SmartShape event",
            RejectionKind::BodyTooLarge => "the body is longer than max_body_bytes",
            RejectionKind::ContentCoding => {
                "the body is in a content coding that nobody has decoded: decompress it before the receiver"
            }
            RejectionKind::BodyTimeout => "the body took too long",
            RejectionKind::VerifyBusy => "the token could not be verified in time",
            RejectionKind::MemoryExhausted => {
                "the bodies in memory have reached memory_limit_bytes, or this webhook's share of it"
            }
            RejectionKind::PermitsExhausted => {
                "max_in_flight deliveries, or this webhook's share of them, are in flight"
            }
            RejectionKind::StoreUnavailable => "the deduplication store failed",
            RejectionKind::DuplicateUnfinished => "the same delivery is still in flight, or failed meanwhile",
            RejectionKind::Draining => "the receiver is being drained",
            RejectionKind::EventUnexpected => "the extractor takes another event",
            RejectionKind::EventUndecodable => "the event's data does not have the documented form",
            RejectionKind::NotConfigured => "the route has no receiver",
            RejectionKind::HandlerFailed => "the handler failed",
            RejectionKind::HandlerUnavailable => "the handler is temporarily unavailable",
        })?;
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
        let base = Duration::from_secs(30);
        let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
        // The clock decides, and goes through the whole spread in a fraction of a millisecond.
        for _ in 0..1_000_000 {
            let wait = Rejection::from(RejectionKind::VerifyBusy).retry_around(base).retry_after().unwrap();
            assert!((base..base + Duration::from_secs(2)).contains(&wait), "{wait:?}");
            (first, last) = (first.min(wait), last.max(wait));
            if last - first > Duration::from_secs(1) {
                return;
            }
        }
        panic!("all come back between {first:?} and {last:?}");
    }

    #[test]
    fn rejection_invites_a_retry_only_with_503() {
        for kind in RejectionKind::ALL {
            assert_eq!(Rejection::from(*kind).retry_after().is_some(), kind.status() == 503, "{kind:?}");
        }
    }
}
