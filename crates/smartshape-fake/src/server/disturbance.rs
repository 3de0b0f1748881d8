//! Answers of a test's own, in place of the fake's.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::error::{ErrorForm, in_form};
use super::state::State;

/// An answer of the test's own, given once to a call of SmartShape's web API in place of the
/// fake's: see [`FakeSmartShape::disturb`](super::FakeSmartShape::disturb).
///
/// ```
/// use smartshape_fake::{Disturbance, ErrorForm, FakeSmartShape};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let fake = FakeSmartShape::start().await?;
/// // The third call from now on fails, and the one after it succeeds without telling so.
/// fake.disturb(Disturbance::error(500, ErrorForm::List).after(2));
/// fake.disturb(Disturbance::breaking_off().carried_out());
/// # fake.shutdown().await;
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Disturbance {
    after: usize,
    carried_out: bool,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    Error(u16, ErrorForm),
    Raw(u16, String, Bytes),
    Redirect(u16, String),
    BreakingOff,
}

impl Disturbance {
    /// An error of this status. Its title is "Disturbed", its detail "as the test asked for".
    #[must_use]
    pub fn error(status: u16, form: ErrorForm) -> Self {
        Self::new(Answer::Error(status, form))
    }

    /// Any answer, of this status, content type and body.
    #[must_use]
    pub fn raw(status: u16, content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Answer::Raw(status, content_type.into(), Bytes::from(body.into())))
    }

    /// A redirect of this status to another URL.
    #[must_use]
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::new(Answer::Redirect(status, location.into()))
    }

    /// An answer whose connection is closed before its body ends: to the client it is lost.
    #[must_use]
    pub fn breaking_off() -> Self {
        Self::new(Answer::BreakingOff)
    }

    /// Lets so many calls pass first, counted from the disturbance before. Default 0.
    #[must_use]
    pub fn after(mut self, calls: usize) -> Self {
        self.after = calls;
        self
    }

    /// Carries out the call, and only its answer is another. Default: nothing is done.
    #[must_use]
    pub fn carried_out(mut self) -> Self {
        self.carried_out = true;
        self
    }

    fn new(answer: Answer) -> Self {
        Self { after: 0, carried_out: false, answer }
    }

    /// Whether it is this call's turn; counts the call if not.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.after == 0;
        self.after = self.after.saturating_sub(1);
        due
    }
}

/// Around each call of the web API.
pub(crate) async fn disturbed(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let Some(disturbance) = state.next_disturbance() else { return next.run(request).await };
    if disturbance.carried_out {
        next.run(request).await;
    }
    disturbance.answer.into_response()
}

impl Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Error(status, form) => {
                let error = json!({
                    "status": status, "title": "Disturbed", "detail": "as the test asked for", "code": "Disturbed"
                });
                in_form(form, valid(status), &error)
            }
            Self::Raw(status, content_type, body) => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = valid(status);
                if let Ok(value) = HeaderValue::try_from(content_type) {
                    response.headers_mut().insert(CONTENT_TYPE, value);
                }
                response
            }
            Self::Redirect(status, location) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = valid(status);
                if let Ok(value) = HeaderValue::try_from(location) {
                    response.headers_mut().insert(LOCATION, value);
                }
                response
            }
            Self::BreakingOff => {
                // Less than was declared, which makes the server close the connection. The map
                // hides the length, which the server would compare.
                let body = Full::new(Bytes::from_static(b"{")).map_frame(|frame| frame);
                let mut response = Response::new(Body::new(body));
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("100"));
                response
            }
        }
    }
}

fn valid(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
