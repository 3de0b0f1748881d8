//! The response: status, headers and body.

pub(crate) mod rejection;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
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
/// assert_eq!(rejected.headers()["allow"], "POST");
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

    /// The headers. `Content-Length` is left to the framework.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, const { HeaderValue::from_static("application/json") });
        let Some(rejection) = &self.rejection else { return headers };
        match self.status() {
            401 => headers
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"SmartShape-Token realm="webhook""#)),
            405 => headers.insert(ALLOW, HeaderValue::from_static("POST")),
            _ => None,
        };
        if let Some(wait) = rejection.retry_after() {
            headers.insert(RETRY_AFTER, whole_seconds(wait).into());
        }
        if self.closes_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers
    }

    /// Whether the HTTP/1 connection closes after this response, since part of the request's body is left unread. The
    /// [`headers`](Self::headers) then contain `Connection: close`, so that no client or proxy sends another request on
    /// it.
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
        // The statuses of the table are all valid; the fallback is never reached.
        *response.status_mut() =
            StatusCode::from_u16(from.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = from.headers();
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
