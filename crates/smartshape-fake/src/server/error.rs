//! SmartShape's errors: statuses, and the four formats of bodies.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// Format of error bodies. All four occur in SmartShape's manual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorFormat {
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

/// An error response.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// An argument is missing or wrong.
    Argument(String),
    /// No licence seat is free.
    NoSeat,
    /// No such resource.
    NotFound,
    /// Not logged in, or no permission. SmartShape responds 503.
    Unauthorized,
    /// A bound of the fake's store is reached.
    Full,
    /// A `/fake/` route was called by a web page or with another host name.
    WebPage,
}

impl ApiError {
    pub(crate) fn response(&self, form: ErrorFormat) -> Response {
        let (status, title, detail) = match self {
            Self::Argument(detail) => (StatusCode::BAD_REQUEST, "Bad request", detail.as_str()),
            Self::NoSeat => (StatusCode::PAYMENT_REQUIRED, "No licence", "no licence seat is free"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found", "there is no such object"),
            Self::Unauthorized => (StatusCode::SERVICE_UNAVAILABLE, "Unauthorized", "log in first"),
            Self::WebPage => (
                StatusCode::FORBIDDEN,
                "Forbidden",
                "web pages may not call this, and the host must be localhost or a loopback address unless \
                 --allow-remote is set: call it from a program, such as curl",
            ),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "Full", "a store of the fake is full"),
        };
        // SmartShape's errors too can have another status in the body than that of the response.
        let inner = if status == StatusCode::SERVICE_UNAVAILABLE { 401 } else { status.as_u16() };
        let error = json!({"status": inner, "title": title, "detail": detail, "code": title});
        format_error(form, status, &error)
    }
}

pub(crate) fn format_error(form: ErrorFormat, status: StatusCode, error: &Value) -> Response {
    match form {
        ErrorFormat::Plain => json_response(status, error),
        ErrorFormat::Wrapped => json_response(status, &json!({"error": error})),
        ErrorFormat::List => json_response(status, &json!({"errors": [error]})),
        ErrorFormat::Empty => {
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
