//! SmartShape's errors: its statuses, and the four forms in which their bodies occur.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// The form of the bodies of errors. All four occur in SmartShape's manual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorForm {
    /// `{"status": …, "title": …, "detail": …, "code": …}`
    #[default]
    Plain,
    /// `{"error": {…}}`
    Wrapped,
    /// `{"errors": [{…}]}`
    List,
    /// No body.
    Empty,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// An argument is missing or wrong.
    Argument(String),
    /// No licence seat is free.
    NoSeat,
    /// There is no such thing.
    NotFound,
    /// Not logged in, or not allowed. SmartShape answers 503.
    Unauthorised,
    /// A store of the fake is full.
    Full,
    /// A web page, or a name of some other host, called what is for this machine's programs.
    WebPage,
}

impl Failure {
    pub(crate) fn response(&self, form: ErrorForm) -> Response {
        let (status, title, detail) = match self {
            Self::Argument(detail) => (StatusCode::BAD_REQUEST, "Bad request", detail.as_str()),
            Self::NoSeat => (StatusCode::PAYMENT_REQUIRED, "No licence", "no licence seat is free"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found", "there is no such object"),
            Self::Unauthorised => (StatusCode::SERVICE_UNAVAILABLE, "Unauthorized", "log in first"),
            Self::WebPage => (
                StatusCode::FORBIDDEN,
                "Forbidden",
                "web pages may not call this, and the host must be localhost or a loopback address unless \
                 --allow-remote is set: call it from a program, such as curl",
            ),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "Full", "a store of the fake is full"),
        };
        // The status inside can differ from that of HTTP, as it does in SmartShape's.
        let inner = if status == StatusCode::SERVICE_UNAVAILABLE { 401 } else { status.as_u16() };
        let error = json!({"status": inner, "title": title, "detail": detail, "code": title});
        in_form(form, status, &error)
    }
}

pub(crate) fn in_form(form: ErrorForm, status: StatusCode, error: &Value) -> Response {
    match form {
        ErrorForm::Plain => json_response(status, error),
        ErrorForm::Wrapped => json_response(status, &json!({"error": error})),
        ErrorForm::List => json_response(status, &json!({"errors": [error]})),
        ErrorForm::Empty => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
    }
}

pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
