//! Fault injection: replaces responses of the fake's web API.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::error::{ErrorFormat, format_error};

/// A fault that replaces one response of the fake's web API: see
/// [`FakeSmartShape::inject`](super::FakeSmartShape::inject).
///
/// ```
/// use smartshape_fake::{FaultInjection, ErrorFormat, FakeSmartShape};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let fake = FakeSmartShape::start().await?;
/// // The third call from now on fails; the fourth takes effect, but its response is lost.
/// fake.inject(FaultInjection::error(500, ErrorFormat::List).after(2));
/// fake.inject(FaultInjection::drop_connection().after_effect());
/// # fake.shutdown().await;
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FaultInjection {
    after: usize,
    pub(super) after_effect: bool,
    pub(super) response: Injected,
}

#[derive(Clone, Debug)]
pub(super) enum Injected {
    Error(u16, ErrorFormat),
    Raw(u16, String, Bytes),
    Redirect(u16, String),
    DropConnection,
}

impl FaultInjection {
    /// An error with this status, the title "Injected" and the detail "requested by the test".
    #[must_use]
    pub fn error(status: u16, form: ErrorFormat) -> Self {
        Self::new(Injected::Error(status, form))
    }

    /// A response with this status, content type and body.
    #[must_use]
    pub fn raw(status: u16, content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Injected::Raw(status, content_type.into(), Bytes::from(body.into())))
    }

    /// A redirect with this status to another URL.
    #[must_use]
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::new(Injected::Redirect(status, location.into()))
    }

    /// Closes the connection in the middle of the response, which is thereby lost to the client.
    #[must_use]
    pub fn drop_connection() -> Self {
        Self::new(Injected::DropConnection)
    }

    /// Number of calls, counted from the previous injection, that are handled normally first. Defaults to 0.
    #[must_use]
    pub fn after(mut self, calls: usize) -> Self {
        self.after = calls;
        self
    }

    /// Injects the fault after the call has taken effect. By default the call has no effect.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }

    fn new(response: Injected) -> Self {
        Self { after: 0, after_effect: false, response }
    }

    /// Whether the current call gets the fault; otherwise counts the call.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.after == 0;
        self.after = self.after.saturating_sub(1);
        due
    }
}

impl IntoResponse for Injected {
    fn into_response(self) -> Response {
        match self {
            Self::Error(status, form) => {
                let error = json!({
                    "status": status, "title": "Injected", "detail": "requested by the test", "code": "Injected"
                });
                format_error(form, valid(status), error)
            }
            Self::Raw(status, content_type, body) => {
                (valid(status), [(CONTENT_TYPE, content_type)], body).into_response()
            }
            Self::Redirect(status, location) => (valid(status), [(LOCATION, location)]).into_response(),
            Self::DropConnection => {
                // A body shorter than declared makes hyper close the connection. The map hides the length, which
                // hyper would check.
                let body = Full::new(Bytes::from_static(b"{")).map_frame(|frame| frame);
                ([(CONTENT_LENGTH, "100")], Body::new(body)).into_response()
            }
        }
    }
}

fn valid(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
