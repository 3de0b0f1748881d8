//! SmartShape's errors: statuses, and the four formats of bodies.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
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
    /// The caller is not logged in or lacks a permission. SmartShape responds 503.
    Unauthorized,
    /// A bound of the fake's store is reached.
    Full,
    /// A `/fake/` route was called by a web page or with another host name.
    WebPage,
}

/// The response is in the plain format, which the middleware of SmartShape's own routes replaces by the configured one.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.to_response(ErrorFormat::Plain);
        response.extensions_mut().insert(self);
        response
    }
}

impl ApiError {
    pub(crate) fn to_response(&self, form: ErrorFormat) -> Response {
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
        format_error(form, status, error)
    }
}

pub(crate) fn format_error(form: ErrorFormat, status: StatusCode, error: Value) -> Response {
    let body = match form {
        ErrorFormat::Plain => error,
        ErrorFormat::Wrapped => json!({"error": error}),
        ErrorFormat::List => json!({"errors": [error]}),
        ErrorFormat::Empty => return status.into_response(),
    };
    (status, Json(body)).into_response()
}
