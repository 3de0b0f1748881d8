//! Why a delivery is not handled, and the one table from that to what the caller is told.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Defines [`RefusalKind`] with, for each kind, its status and its public text.
macro_rules! refusals {
    ($($(#[$doc:meta])* $kind:ident => $status:literal $message:literal;)*) => {
        /// Why a delivery is refused. The table of kinds, statuses and public texts:
        ///
        /// | kind | status | public text |
        /// |---|---|---|
        $(#[doc = concat!("| [`", stringify!($kind), "`](Self::", stringify!($kind), ") | ", $status, " | ", $message, " |")])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RefusalKind { $($(#[$doc])* $kind,)* }

        impl RefusalKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The kind's own name, as the log and the metrics have it.
            ///
            /// ```
            /// assert_eq!(smartshape_webhook::RefusalKind::TokenMissing.name(), "TokenMissing");
            /// ```
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// The HTTP status of the answer.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// All that the caller is told; it says less than the log.
            #[must_use]
            pub const fn public_message(self) -> &'static str {
                match self { $(Self::$kind => $message,)* }
            }

            /// The answer's body.
            pub(crate) const fn body(self) -> &'static str {
                match self { $(Self::$kind => concat!(r#"{"success":false,"error":""#, $message, r#""}"#),)* }
            }
        }
    };
}

refusals! {
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
    /// The body is in a content coding that nobody has decoded.
    ContentCoding => 415 "content coding not supported";
    /// The body stalled or was not complete in time.
    BodyTimeout => 408 "body took too long";
    /// The token could not be checked in time: too many wait, or other work keeps the cores busy.
    HashingBusy => 503 "busy, try again later";
    /// The bodies in memory have used up the byte budget.
    BudgetExhausted => 503 "busy, try again later";
    /// Too many deliveries are at work.
    PlacesExhausted => 503 "busy, try again later";
    /// The store of seen deliveries did not answer.
    StoreUnavailable => 503 "busy, try again later";
    /// The same delivery was still at work when the wait ended, or failed meanwhile.
    DuplicateUnfinished => 503 "busy, try again later";
    /// The receiver is being drained for a shutdown.
    Draining => 503 "busy, try again later";
    /// The event is not the one that the handler takes.
    EventUnexpected => 422 "event not accepted here";
    /// The event's data does not have the documented form.
    EventUndecodable => 422 "event not accepted here";
    /// The route has no receiver.
    NotConfigured => 500 "internal error";
    /// The handler failed.
    HandlerFailed => 500 "event could not be handled";
    /// The handler says that it cannot work now.
    HandlerUnavailable => 503 "busy, try again later";
}

/// A refused delivery: the kind, and for the log what exactly was wrong.
///
/// `Display` is for the operator's log; the caller is told only
/// [`RefusalKind::public_message`]. Neither holds a token or a secret.
///
/// ```
/// use smartshape_webhook::{Refusal, RefusalKind};
///
/// let refusal = Refusal::from(RefusalKind::TokenMissing);
/// assert_eq!(refusal.kind().status(), 401);
/// assert_eq!(refusal.kind().public_message(), "unauthorized");
/// ```
#[derive(Clone, Debug)]
pub struct Refusal {
    kind: RefusalKind,
    detail: Option<Box<str>>,
    retry_after: Option<Duration>,
    /// Whether some of the request's body stays unread, so that an HTTP/1 connection ends with the response.
    closes: bool,
}

impl Refusal {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// When the sender may try again; set for refusals of status 503.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    pub(crate) fn closing(self, closes: bool) -> Self {
        Self { closes, ..self }
    }

    pub(crate) fn with_detail(kind: RefusalKind, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string().into()), ..Self::from(kind) }
    }

    /// As [`retry_in`](Self::retry_in), a little spread.
    pub(crate) fn retry_around(self, wait: Duration) -> Self {
        self.retry_in(wait + jitter())
    }

    pub(crate) fn retry_in(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<RefusalKind> for Refusal {
    fn from(kind: RefusalKind) -> Self {
        let retry_after = (kind.status() == 503).then(|| Duration::from_secs(1) + jitter());
        Self { kind, detail: None, retry_after, closes: false }
    }
}

/// Up to two seconds, so that senders refused together do not come back together. The clock's low
/// digits are random enough for that.
fn jitter() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    Duration::from_millis(u64::from(nanos / 100 % 2000))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RefusalKind::MethodNotAllowed => "the method is not POST",
            RefusalKind::TokenMissing => {
                "no x-smartshape-token header: not from SmartShape, or a proxy strips it"
            }
            RefusalKind::TokenRepeated => "several x-smartshape-token headers with different values",
            RefusalKind::TokenMalformed => "the token is malformed",
            RefusalKind::TokenTooCostly => "the token's cost is above max_cost",
            RefusalKind::TokenTooCheap => "the token's cost is below min_cost",
            RefusalKind::TokenUnmatched => "the token is well formed but matches none of the secrets",
            RefusalKind::TokenOutOfScope => "the token's secret is not for this event",
            RefusalKind::LengthUnreadable => "the declared length is unreadable",
            RefusalKind::BodyBroken => "the body ended early or could not be read",
            RefusalKind::NotJson => "the body is not JSON",
            RefusalKind::EnvelopeInvalid => "the body is not a SmartShape event",
            RefusalKind::BodyTooLarge => "the body is longer than body_limit",
            RefusalKind::ContentCoding => {
                "the body is in a content coding that nobody has decoded: decompress it before the receiver"
            }
            RefusalKind::BodyTimeout => "the body took too long",
            RefusalKind::HashingBusy => "the token could not be checked in time",
            RefusalKind::BudgetExhausted => "the bodies in memory have used up byte_budget",
            RefusalKind::PlacesExhausted => "max_at_work deliveries are at work",
            RefusalKind::StoreUnavailable => "the store of seen deliveries failed",
            RefusalKind::DuplicateUnfinished => "the same delivery is still at work, or failed meanwhile",
            RefusalKind::Draining => "the receiver is being drained",
            RefusalKind::EventUnexpected => "the handler takes another event",
            RefusalKind::EventUndecodable => "the event's data does not have the documented form",
            RefusalKind::NotConfigured => "the route has no receiver",
            RefusalKind::HandlerFailed => "the handler failed",
            RefusalKind::HandlerUnavailable => "the handler cannot work now",
        })?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_json_of_the_same_form() {
        for kind in RefusalKind::ALL {
            let body: serde_json::Value = serde_json::from_str(kind.body()).unwrap();
            assert_eq!(body, serde_json::json!({"success": false, "error": kind.public_message()}));
        }
    }

    #[test]
    fn whatever_is_wrong_with_a_token_reads_the_same() {
        for kind in RefusalKind::ALL.iter().filter(|kind| format!("{kind:?}").starts_with("Token")) {
            assert_eq!((kind.status(), kind.public_message()), (401, "unauthorized"));
        }
    }

    #[test]
    fn senders_refused_together_come_back_apart_and_not_too_soon() {
        let base = Duration::from_secs(30);
        let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
        // The clock decides, and goes through the whole spread in a fraction of a millisecond.
        for _ in 0..1_000_000 {
            let wait = Refusal::from(RefusalKind::HashingBusy).retry_around(base).retry_after().unwrap();
            assert!((base..base + Duration::from_secs(2)).contains(&wait), "{wait:?}");
            (first, last) = (first.min(wait), last.max(wait));
            if last - first > Duration::from_secs(1) {
                return;
            }
        }
        panic!("all come back between {first:?} and {last:?}");
    }

    #[test]
    fn only_unavailability_invites_a_retry() {
        for kind in RefusalKind::ALL {
            assert_eq!(Refusal::from(*kind).retry_after().is_some(), kind.status() == 503, "{kind:?}");
        }
    }
}
