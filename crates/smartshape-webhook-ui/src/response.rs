//! The responses of the console, with the headers that each has, and its assets.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};

use crate::html;

pub(crate) const CSS: &str = include_str!("../assets/ui.css");
pub(crate) const JS: &str = include_str!("../assets/ui.js");
const ICON: &str = include_str!("../assets/icon.svg");
/// Nothing inline, nothing from elsewhere, no text that becomes markup.
const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A body as a file, which no browser shows as a page. `name` has no quotes.
pub(crate) fn download(name: &str, body: Bytes) -> Response<Bytes> {
    let response = respond_with(StatusCode::OK, "application/octet-stream", body);
    with_header(response, header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}.json\""))
}

pub(crate) fn no_action() -> Response<Bytes> {
    text_response(StatusCode::BAD_REQUEST, "there is no such action\n")
}

pub(crate) fn asset(name: &str) -> Response<Bytes> {
    let (kind, text) = match name {
        "ui.css" => ("text/css; charset=utf-8", CSS),
        "ui.js" => ("text/javascript; charset=utf-8", JS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return text_response(StatusCode::NOT_FOUND, "there is no such file\n"),
    };
    let response = respond_with(StatusCode::OK, kind, Bytes::from_static(text.as_bytes()));
    with_header(response, header::CACHE_CONTROL, "public, max-age=31536000, immutable")
}

pub(crate) fn found_or_not(page: html::Page) -> Response<Bytes> {
    html_page(if page.is_found { StatusCode::OK } else { StatusCode::NOT_FOUND }, page.html)
}

pub(crate) fn html_page(status: StatusCode, html: String) -> Response<Bytes> {
    respond_with(status, "text/html; charset=utf-8", html.into())
}

pub(crate) fn text_response(status: StatusCode, text: impl Into<String>) -> Response<Bytes> {
    respond_with(status, "text/plain; charset=utf-8", text.into().into())
}

pub(crate) fn forbidden() -> Response<Bytes> {
    text_response(StatusCode::FORBIDDEN, "you may not do this here\n")
}

pub(crate) fn redirect(to: &str) -> Response<Bytes> {
    let response = with_header(text_response(StatusCode::SEE_OTHER, ""), header::LOCATION, "?");
    with_header(response, header::LOCATION, to)
}

/// Sets a header, unless the value is invalid.
pub(crate) fn with_header(mut response: Response<Bytes>, name: HeaderName, value: &str) -> Response<Bytes> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn respond_with(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // With `no-referrer` a browser sends `Origin: null` with the console's own forms.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
