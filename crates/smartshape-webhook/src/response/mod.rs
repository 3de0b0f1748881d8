//! The response: status, headers and body.

pub(crate) mod rejection;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};

use self::rejection::{Rejection, RejectionKind};
use crate::metrics::record_rejection;

const SUCCESS: &[u8] = br#"{"success":true}"#;

/// The response to a delivery. Every response is JSON.
///
/// With `http` 1.x, convert it into an `http::Response<Bytes>`; the [`Rejection`] is then among its extensions.
///
/// ```
/// use smartshape_webhook::{WebhookResponse, Rejection, RejectionKind};
///
/// let ok = WebhookResponse::success();
/// assert_eq!((ok.status(), &ok.body()[..]), (200, &br#"{"success":true}"#[..]));
///
/// let rejected = WebhookResponse::from(Rejection::from(RejectionKind::MethodNotAllowed));
/// assert_eq!(rejected.status(), 405);
/// assert!(rejected.headers().any(|(name, value)| name == "allow" && value == "POST"));
/// ```
#[derive(Clone, Debug)]
pub struct WebhookResponse {
    rejection: Option<Rejection>,
}

impl WebhookResponse {
    /// The success response, as SmartShape's manual documents it: status 200, `Content-Type: application/json`, body
    /// `{"success":true}`.
    #[must_use]
    pub fn success() -> Self {
        Self { rejection: None }
    }

    /// The response of a route without a receiver. Logs `remedy`, which says what to add where.
    #[must_use]
    pub fn not_configured(remedy: &str) -> Self {
        tracing::error!(remedy, "a webhook route has no receiver");
        record_rejection(RejectionKind::NotConfigured.name());
        RejectionKind::NotConfigured.into()
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.rejection.as_ref().map_or(200, |rejection| rejection.kind().status())
    }

    /// The headers, with names in lower case. `Content-Length` is left to the framework.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> + use<> {
        let status = self.status();
        let allow = (status == 405).then_some(("allow", Cow::Borrowed("POST")));
        let challenge = (status == 401)
            .then_some(("www-authenticate", Cow::Borrowed(r#"SmartShape-Token realm="webhook""#)));
        let retry = self
            .rejection
            .as_ref()
            .and_then(Rejection::retry_after)
            .map(|wait| ("retry-after", Cow::Owned(whole_seconds(wait).to_string())));
        let close = self.closes_connection().then_some(("connection", Cow::Borrowed("close")));
        std::iter::once(("content-type", Cow::Borrowed("application/json")))
            .chain(allow)
            .chain(challenge)
            .chain(retry)
            .chain(close)
    }

    /// Whether the HTTP/1 connection closes after this response, since part of the request's body is left unread. The
    /// [`headers`](Self::headers) then contain `Connection: close`, so that no client or proxy sends another request on it.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        self.rejection.as_ref().is_some_and(Rejection::closes)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Bytes {
        Bytes::from_static(
            self.rejection.as_ref().map_or(SUCCESS, |rejection| rejection.kind().body().as_bytes()),
        )
    }

    /// The reason for the rejection; `None` for a success.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }
}

impl From<Rejection> for WebhookResponse {
    fn from(rejection: Rejection) -> Self {
        Self { rejection: Some(rejection) }
    }
}

impl From<RejectionKind> for WebhookResponse {
    fn from(kind: RejectionKind) -> Self {
        Rejection::from(kind).into()
    }
}

impl From<&WebhookResponse> for Response<Bytes> {
    fn from(from: &WebhookResponse) -> Self {
        let mut response = Self::new(from.body());
        // The statuses and header values of the table are all valid; the fallbacks are never reached.
        *response.status_mut() =
            StatusCode::from_u16(from.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in from.headers() {
            let value = match value {
                Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
                Cow::Owned(value) => HeaderValue::try_from(value),
            };
            if let Ok(value) = value {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        if let Some(rejection) = from.rejection() {
            response.extensions_mut().insert(rejection.clone());
        }
        response
    }
}

impl From<WebhookResponse> for Response<Bytes> {
    fn from(from: WebhookResponse) -> Self {
        Self::from(&from)
    }
}

/// Rounds up, since a sender that retries too early is rejected again; from one second to one hour, since a sender may
/// honour any value, and none should wait for days.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).clamp(1, 3600)
}
