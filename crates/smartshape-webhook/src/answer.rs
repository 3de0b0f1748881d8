//! What is answered: status, headers and body, for an adapter to copy into its framework's response.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use crate::measure;
use crate::refusal::{Refusal, RefusalKind};

const SUCCESS: &[u8] = br#"{"success":true}"#;

/// An answer to a delivery. Every answer is JSON.
///
/// ```
/// use smartshape_webhook::{Answer, Refusal, RefusalKind};
///
/// let ok = Answer::success();
/// assert_eq!((ok.status(), &ok.body()[..]), (200, &br#"{"success":true}"#[..]));
///
/// let refused = Answer::from(Refusal::from(RefusalKind::MethodNotAllowed));
/// assert_eq!(refused.status(), 405);
/// assert!(refused.headers().any(|(name, value)| name == "allow" && value == "POST"));
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    refusal: Option<Refusal>,
}

impl Answer {
    /// The one answer that SmartShape's manual documents as success: status 200,
    /// `Content-Type: application/json`, body `{"success":true}`.
    #[must_use]
    pub fn success() -> Self {
        Self { refusal: None }
    }

    /// The answer of a route without a receiver; logs the remedy, which says what to add where.
    #[must_use]
    pub fn not_configured(remedy: &str) -> Self {
        tracing::error!(remedy, "a webhook route has no receiver");
        measure::refused(RefusalKind::NotConfigured);
        RefusalKind::NotConfigured.into()
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.refusal.as_ref().map_or(200, |refusal| refusal.kind().status())
    }

    /// The headers, names in lower case; the body's length is left to the framework.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> + use<> {
        let status = self.status();
        let allow = (status == 405).then_some(("allow", Cow::Borrowed("POST")));
        let challenge = (status == 401)
            .then_some(("www-authenticate", Cow::Borrowed(r#"SmartShape-Token realm="webhook""#)));
        let retry = self
            .refusal
            .as_ref()
            .and_then(Refusal::retry_after)
            .map(|wait| ("retry-after", Cow::Owned(whole_seconds(wait).to_string())));
        let close = self.closes_connection().then_some(("connection", Cow::Borrowed("close")));
        std::iter::once(("content-type", Cow::Borrowed("application/json")))
            .chain(allow)
            .chain(challenge)
            .chain(retry)
            .chain(close)
    }

    /// Whether the HTTP/1 connection ends with this response, since some of the request's body stays unread. Then
    /// [`headers`](Self::headers) say `Connection: close`, so that no client or proxy sends the next request there.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        self.refusal.as_ref().is_some_and(Refusal::closes)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Bytes {
        Bytes::from_static(self.refusal.as_ref().map_or(SUCCESS, |refusal| refusal.kind().body().as_bytes()))
    }

    /// Why the delivery was refused; `None` for a success.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal) }
    }
}

impl From<RefusalKind> for Answer {
    fn from(kind: RefusalKind) -> Self {
        Refusal::from(kind).into()
    }
}

/// Rounded up, since a sender that comes too early is refused again; at least one second, and at most an hour: a sender
/// may take it at its word, and none waits for days.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).clamp(1, 3600)
}
