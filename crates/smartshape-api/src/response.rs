//! Interprets responses. Nothing here uses the network.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Hint};
use crate::problem::{for_display, problem};
use crate::registration::Registration;
use crate::request::{Call, Request};
use crate::retry::parse_retry_after;
use crate::secret::{AuthToken, SessionToken};
use crate::url::{BaseUrl, origin};

/// SmartShape's own errors are JSON or empty.
const NOT_JSON_NOTE: &str = "; the response is not JSON, so a proxy may be saying that the server is down";

/// A complete response.
#[derive(Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    /// The parsed `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(&self.header(RETRY_AFTER)?)
    }

    fn header(&self, name: HeaderName) -> Option<Cow<'_, str>> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
    }

    /// The JSON of a successful response; null if it has no body.
    pub(crate) fn succeeded(&self, request: &Request, base: &BaseUrl) -> Result<Value, Error> {
        let json: Option<Value> =
            if self.body.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&self.body).ok() };
        let said = json
            .as_ref()
            .and_then(|json| problem(json, self.status, &request.secrets))
            .map(|text| format!("; it says: {text}"))
            .or_else(|| Some(NOT_JSON_NOTE.to_owned()).filter(|_| json.is_none() && self.status == 503))
            .unwrap_or_default();
        if !(200..300).contains(&self.status) {
            return Err(self.failed(request, base, &said, json.is_some()));
        }
        match json {
            Some(json) if json.get("success") == Some(&Value::Bool(false)) => {
                Err(self.unexpected(request, &format!("a success that says \"success\": false{said}")))
            }
            Some(json) if contains_error(&json) => {
                Err(self.unexpected(request, &format!("a success that reports an error{said}")))
            }
            Some(json) if json.is_null() || json.is_object() || json.is_array() => Ok(json),
            _ => {
                let kind = self
                    .header(CONTENT_TYPE)
                    .map_or("no content type".to_owned(), |kind| for_display(&kind, &request.secrets));
                let text = format!(
                    "{} bytes that are no JSON document ({kind}): check that the API URL {base} is SmartShape's \
                     web API, and not a page or a proxy",
                    self.body.len()
                );
                Err(self.unexpected(request, &text))
            }
        }
    }

    /// The error for an unsuccessful status.
    fn failed(&self, request: &Request, base: &BaseUrl, said: &str, is_json: bool) -> Error {
        let Request { call, .. } = request;
        let status = self.status;
        let later = self.retry_after().map(|wait| format!("in {} s", wait.as_secs_f64().ceil()));
        let (kind, text) = match status {
            503 if later.is_some() => {
                (ErrorKind::Server, "the server is not available (status 503)".to_owned())
            }
            429 => (ErrorKind::TooManyRequests, "too many calls were made (status 429)".to_owned()),
            401 | 403 | 503 if *call == Call::Login => (
                ErrorKind::Unauthorized,
                format!(
                    "user name or password are wrong (status {status}, as SmartShape responds then): check both"
                ),
            ),
            401 | 403 | 503 => (
                ErrorKind::Unauthorized,
                format!(
                    "SmartShape responded {status}, which there means unauthorized: check that the account has the \
                     permission (read_webhook, write_webhook)"
                ),
            ),
            402 => (
                ErrorKind::NoSeat,
                "no licence seat is free (status 402): end another session, or wait until one ends"
                    .to_owned(),
            ),
            404 => (
                ErrorKind::NotFound,
                format!("SmartShape has no such resource (status 404): check the id, and the API URL {base}"),
            ),
            400..=499 => (
                ErrorKind::BadRequest,
                format!("SmartShape rejected the call with status {status}: check the arguments"),
            ),
            500..=599 => (ErrorKind::Server, format!("the server failed with status {status}")),
            300..=399 => {
                let target = self
                    .header(LOCATION)
                    .and_then(|location| origin(&location))
                    .map(|origin| for_display(&origin, &request.secrets));
                let target = target.map_or_else(String::new, |origin| format!(" to {origin}"));
                let text = format!(
                    "the server redirects (status {status}){target}, which is not followed, since the call \
                     carries a token: set the API URL, now {base}, to where SmartShape's web API is"
                );
                (ErrorKind::UnexpectedResponse, text)
            }
            _ => (
                ErrorKind::UnexpectedResponse,
                format!("status {status} is not one of SmartShape's: check the API URL {base}"),
            ),
        };
        // A response that is not JSON is a proxy's, which cannot tell what the server did before it failed.
        let is_rejection = (300..500).contains(&status) || (kind == ErrorKind::Unauthorized && is_json);
        let ambiguous = call.has_effect() && !is_rejection;
        let note = if ambiguous { call.ambiguity_note() } else { "" };
        // Who is told to list first is not told to try again.
        let is_transient = matches!(kind, ErrorKind::Server | ErrorKind::TooManyRequests);
        let again = if is_transient && note.is_empty() {
            format!(": try again {}", later.as_deref().unwrap_or("later"))
        } else {
            String::new()
        };
        let text = format!("cannot {}: {text}{again}{note}{said}", call.purpose());
        let error = Error::new(kind, text).with_status(status).with_ambiguous(ambiguous);
        let expired = kind == ErrorKind::Unauthorized && *call != Call::Login;
        if expired { error.with_hint(Hint::LogInAgain) } else { error }
    }

    fn unexpected(&self, request: &Request, what: &str) -> Error {
        let Request { call, .. } = request;
        let text = format!("cannot {}: the response is {what}{}", call.purpose(), call.ambiguity_note());
        let error = Error::new(ErrorKind::UnexpectedResponse, text).with_status(self.status);
        error.with_ambiguous(call.has_effect())
    }

    /// The auth token that a login returns.
    pub(crate) fn auth_token(&self, request: &Request, base: &BaseUrl) -> Result<AuthToken, Error> {
        let json = self.succeeded(request, base)?;
        let token = json.get("cookies").and_then(Value::as_str).and_then(|cookies| {
            cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("jsonwebtoken="))
        });
        token
            .and_then(|token| AuthToken::new(token).ok())
            .ok_or_else(|| self.unexpected(request, "without the cookie jsonwebtoken, which holds the token"))
    }

    /// The session token that a session returns.
    pub(crate) fn session_token(&self, request: &Request, base: &BaseUrl) -> Result<SessionToken, Error> {
        let json = self.succeeded(request, base)?;
        let token = json.get("jwt").and_then(Value::as_str);
        token
            .and_then(|token| SessionToken::new(token).ok())
            .ok_or_else(|| self.unexpected(request, "without jwt, which holds the session token"))
    }

    /// The id of the created webhook.
    pub(crate) fn created(&self, request: &Request, base: &BaseUrl) -> Result<String, Error> {
        let json = self.succeeded(request, base)?;
        json.get("data")
            .and_then(Registration::read)
            .map(|registration| registration.id)
            .ok_or_else(|| self.unexpected(request, "without the id of the new webhook"))
    }

    /// The webhooks of a list.
    pub(crate) fn listed(&self, request: &Request, base: &BaseUrl) -> Result<Vec<Registration>, Error> {
        let json = self.succeeded(request, base)?;
        let Some(data) = json.get("data").and_then(Value::as_array) else {
            return Err(self.unexpected(request, "without the list of webhooks"));
        };
        let webhooks: Option<Vec<_>> = data.iter().map(Registration::read).collect();
        // A caller would create an omitted webhook again.
        webhooks.ok_or_else(|| self.unexpected(request, "a list with a webhook that has no id"))
    }

    /// Checks for success only.
    pub(crate) fn done(&self, request: &Request, base: &BaseUrl) -> Result<(), Error> {
        self.succeeded(request, base).map(|_| ())
    }
}

/// SmartShape may report an error with a success status, such as a deletion that did not happen.
fn contains_error(json: &Value) -> bool {
    let is_set =
        |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != Value::Array(vec![]);
    ["error", "errors"].iter().filter_map(|name| json.get(name)).any(is_set)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Credentials;

    fn request() -> Request {
        let auth = Some(AuthToken::new("the.auth.token").unwrap());
        Request::list(&Credentials { auth, session: None }).unwrap()
    }

    fn base() -> BaseUrl {
        BaseUrl::parse("https://smartshape.example").unwrap()
    }

    fn response(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response { status, body: body.into().into(), ..Response::default() }
    }

    #[test]
    fn status_that_is_no_response_of_smartshapes_names_the_url() {
        for status in [199, 304] {
            let error = response(status, "").succeeded(&request(), &base()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedResponse, Some(status)));
            assert!(error.to_string().contains("API URL"), "{error}");
        }
        let error = response(503, "<html>").succeeded(&request(), &base()).unwrap_err();
        assert!(error.to_string().contains("a proxy may be saying"), "{error}");
        let login = Request::login("ada", "hunter2");
        let error = response(503, r#"{"title": "hunter2?"}"#).succeeded(&login, &base()).unwrap_err();
        assert!(error.to_string().ends_with("check both; it says: [redacted]"), "{error}");
    }

    #[test]
    fn ambiguous_creation_says_that_the_webhook_may_exist() {
        let later = HeaderMap::from_iter([(RETRY_AFTER, "1".parse().unwrap())]);
        let request = Request { call: Call::CreateWebhook, ..request() };
        for (response, ambiguous) in [
            // What Envoy responds if a server dies while it handles a call.
            (response(503, "upstream connect error or disconnect/reset before headers"), true),
            (Response { headers: later.clone(), ..response(503, "") }, true),
            (response(500, "{}"), true),
            (response(600, ""), true),
            (response(503, ""), false),
            (response(503, r#"{"status": 401, "title": "Unauthorized"}"#), false),
            (response(302, ""), false),
            (response(403, "<html>"), false),
            (response(404, r#"{"status": 404, "title": "Not Found"}"#), false),
            (Response { headers: later, ..response(429, "") }, false),
        ] {
            let error = response.created(&request, &base()).unwrap_err();
            assert_eq!(error.is_ambiguous(), ambiguous, "{error}");
            assert_eq!(error.to_string().contains("list before trying again"), ambiguous, "{error}");
            assert!(!ambiguous || !error.to_string().contains("try again"), "{error}");
        }
    }

    #[test]
    fn success_status_with_an_error_is_rejected() {
        let reports = [
            r#"{"error": {"status": 404}}"#,
            r#"{"errors": [{"status": 500}]}"#,
            r#"{"success": false}"#,
            r#"{"error": "no"}"#,
        ];
        for body in ["<html>", "{", "\u{feff}{}", "true"].into_iter().chain(reports) {
            let error = response(200, body).succeeded(&request(), &base()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedResponse, Some(200)), "{body}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(response(200, deep).succeeded(&request(), &base()).is_err());
        for body in ["", r#"{"success": true, "error": null}"#, r#"{"errors": []}"#, "[]", "{}"] {
            response(200, body).done(&request(), &base()).unwrap();
        }
    }

    #[test]
    fn tokens_are_parsed() {
        for (cookies, token) in [
            ("jsonwebtoken=a.b.c", Some("a.b.c")),
            ("other=1; jsonwebtoken=a.b.c; Path=/", Some("a.b.c")),
            ("jsonwebtoken=", None),
            ("jsonwebtoken=a b", None),
            ("xjsonwebtoken=a.b.c", None),
        ] {
            let body = json!({"success": true, "cookies": cookies}).to_string();
            let read = response(200, body).auth_token(&request(), &base());
            assert_eq!(read.as_ref().ok().map(AuthToken::expose), token, "{cookies}");
        }
        assert!(response(200, "{}").auth_token(&request(), &base()).is_err());
        let read =
            response(200, r#"{"success":true,"jwt":"d.e.f"}"#).session_token(&request(), &base()).unwrap();
        assert_eq!(read.expose(), "d.e.f");
        assert!(response(200, r#"{"success":true}"#).session_token(&request(), &base()).is_err());
    }

    #[test]
    fn lists_and_ids_are_parsed() {
        let read = |body: &str| response(200, body.to_owned()).listed(&request(), &base());
        assert_eq!(read(r#"{"data":[]}"#).unwrap(), []);
        assert_eq!(read(r#"{"data":[{"id":"a"},{"attributes":{"_id":"b"}}]}"#).unwrap()[1].id, "b");
        for body in [r#"{"data":[{"id":"a"},{}]}"#, r#"{"data":{}}"#, "{}", "[]", ""] {
            assert_eq!(read(body).unwrap_err().kind(), ErrorKind::UnexpectedResponse, "{body}");
        }
        let created = |body: &str| response(200, body.to_owned()).created(&request(), &base());
        for body in
            [r#"{"data":{"type":"webhook","attributes":{"__v":0,"_id":"a"}}}"#, r#"{"data":{"id":"a"}}"#]
        {
            assert_eq!(created(body).unwrap(), "a");
        }
        assert!(created(r#"{"success":true}"#).is_err());
    }
}
