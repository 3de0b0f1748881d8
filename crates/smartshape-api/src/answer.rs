//! What came back for a call, and what it means. Nothing here touches the network.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::hidden::{AuthToken, SessionToken};
use crate::problem::{problem, without};
use crate::registration::Registration;
use crate::request::Request;
use crate::retry::parse_retry_after;
use crate::url::{BaseUrl, origin_of};

/// SmartShape's own errors are JSON or empty.
const PERHAPS_A_PROXY: &str = "; the answer is no JSON, so a proxy may be saying that the server is down";

/// An answer, read whole.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn is_of_the_fake(&self) -> bool {
        self.server.as_deref().is_some_and(|server| server.starts_with("smartshape-fake"))
    }

    /// How long the server asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(self.retry_after.as_deref()?)
    }

    /// The JSON of a success, null where there is no body.
    pub(crate) fn succeeded(&self, request: &Request, base: &BaseUrl) -> Result<Value, Error> {
        let json: Option<Value> =
            if self.body.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&self.body).ok() };
        let said = json
            .as_ref()
            .and_then(|json| problem(json, self.status, &request.hidden))
            .map(|text| format!("; it says: {text}"))
            .or_else(|| Some(PERHAPS_A_PROXY.to_owned()).filter(|_| json.is_none() && self.status == 503))
            .unwrap_or_default();
        if !(200..300).contains(&self.status) {
            return Err(self.failed(request, base, &said));
        }
        match json {
            Some(json) if json.get("success") == Some(&Value::Bool(false)) => {
                Err(self.unexpected(request, &format!("a success that says \"success\": false{said}")))
            }
            Some(json) if reports_an_error(&json) => {
                Err(self.unexpected(request, &format!("a success that reports an error{said}")))
            }
            Some(json) if json.is_null() || json.is_object() || json.is_array() => Ok(json),
            _ => {
                let kind = self
                    .content_type
                    .as_deref()
                    .map_or("no content type".to_owned(), |kind| without(kind, &request.hidden));
                let text = format!(
                    "{} bytes that are no JSON document ({kind}): check that the base URL {base} is SmartShape's \
                     web API, and not a page or a proxy",
                    self.body.len()
                );
                Err(self.unexpected(request, &text))
            }
        }
    }

    /// The error of an answer that is no success.
    fn failed(&self, request: &Request, base: &BaseUrl, said: &str) -> Error {
        let Request { purpose, .. } = request;
        let status = self.status;
        let login = *purpose == "log in";
        let later = self.retry_after().map(|wait| format!("in {} s", wait.as_secs_f64().ceil()));
        let (kind, text) = match status {
            503 if later.is_some() => (
                ErrorKind::Server,
                format!("the server is not available (status 503): try again {}", or_later(later)),
            ),
            429 => (
                ErrorKind::TooManyRequests,
                format!("too many calls were made (status 429): try again {}", or_later(later)),
            ),
            401 | 403 | 503 if login => (
                ErrorKind::Unauthorised,
                format!(
                    "user name or password are wrong (status {status}, as SmartShape answers then): check both"
                ),
            ),
            401 | 403 | 503 => (
                ErrorKind::Unauthorised,
                format!(
                    "SmartShape answered {status}, which there means unauthorised: log in again, since tokens \
                     expire; check that the account may do it (read_webhook, write_webhook); open a session if \
                     this installation wants one"
                ),
            ),
            402 => (
                ErrorKind::NoSeat,
                "no licence seat is free (status 402): end another session, or wait until one ends"
                    .to_owned(),
            ),
            404 => (
                ErrorKind::NotFound,
                format!("SmartShape knows no such thing (status 404): check the id, and the base URL {base}"),
            ),
            400..=499 => (
                ErrorKind::BadRequest,
                format!("SmartShape rejected the call with status {status}: check what was asked for"),
            ),
            500..=599 => {
                let unsure = request.unsure();
                (
                    ErrorKind::Server,
                    format!("the server failed with status {status}: try again later{unsure}"),
                )
            }
            300..=399 => {
                let target = self
                    .location
                    .as_deref()
                    .and_then(origin_of)
                    .map(|origin| without(&origin, &request.hidden));
                let target = target.map_or_else(String::new, |origin| format!(" to {origin}"));
                let text = format!(
                    "the server redirects (status {status}){target}, which is not followed, since the call \
                     carries a token: set the base URL, now {base}, to where SmartShape's web API is"
                );
                (ErrorKind::UnexpectedAnswer, text)
            }
            _ => (
                ErrorKind::UnexpectedAnswer,
                format!("status {status} is no answer of SmartShape's: check the base URL {base}"),
            ),
        };
        let unknown =
            request.has_effect() && !(300..500).contains(&status) && kind != ErrorKind::Unauthorised;
        let text = format!("cannot {purpose}: {text}{said}");
        Error::new(kind, text).with_status(status).with_effect_unknown(unknown)
    }

    fn unexpected(&self, request: &Request, what: &str) -> Error {
        let unsure = request.unsure();
        let text = format!("cannot {}: the answer is {what}{unsure}", request.purpose);
        let error = Error::new(ErrorKind::UnexpectedAnswer, text).with_status(self.status);
        error.with_effect_unknown(request.has_effect())
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

    /// The id of what was created.
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
        // Leaving one out would make a caller create it again.
        webhooks.ok_or_else(|| self.unexpected(request, "a list with a webhook that has no id"))
    }

    /// Nothing but the success.
    pub(crate) fn done(&self, request: &Request, base: &BaseUrl) -> Result<(), Error> {
        self.succeeded(request, base).map(|_| ())
    }
}

fn or_later(when: Option<String>) -> String {
    when.unwrap_or_else(|| "later".to_owned())
}

/// An error may come with a status of success; taken for one, a deletion would be believed that was none.
fn reports_an_error(json: &Value) -> bool {
    let told =
        |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != Value::Array(vec![]);
    ["error", "errors"].iter().filter_map(|name| json.get(name)).any(told)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Authority;

    const TOKEN: &str = "the.auth.token";

    fn request() -> Request {
        let auth = Some(AuthToken::new(TOKEN).unwrap());
        Request::list(&Authority { auth, session: None }).unwrap()
    }

    fn base() -> BaseUrl {
        BaseUrl::parse("https://smartshape.example").unwrap()
    }

    fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, body: body.into().into(), ..Answer::default() }
    }

    #[test]
    fn every_status_has_its_kind_and_says_what_to_try() {
        for (status, kind, says) in [
            (400, ErrorKind::BadRequest, "check what was asked for"),
            (401, ErrorKind::Unauthorised, "log in again"),
            (402, ErrorKind::NoSeat, "no licence seat"),
            (403, ErrorKind::Unauthorised, "log in again"),
            (404, ErrorKind::NotFound, "check the id"),
            (429, ErrorKind::TooManyRequests, "429): try again later"),
            (500, ErrorKind::Server, "try again later"),
            (503, ErrorKind::Unauthorised, "log in again"),
            (504, ErrorKind::Server, "504"),
            (302, ErrorKind::UnexpectedAnswer, "base URL, now https://smartshape.example"),
            (304, ErrorKind::UnexpectedAnswer, "base URL"),
            (199, ErrorKind::UnexpectedAnswer, "base URL"),
        ] {
            let detail = json!({"detail": format!("no {TOKEN}, no service")}).to_string();
            for body in [String::new(), "<html>".to_owned(), "{".to_owned(), detail] {
                let error = answer(status, body).succeeded(&request(), &base()).unwrap_err();
                assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{error}");
                let text = error.to_string();
                assert!(text.starts_with("cannot list the webhooks: ") && text.contains(says), "{text}");
                assert!(!format!("{error:?}").contains(TOKEN));
            }
        }
        let error = answer(503, "<html>").succeeded(&request(), &base()).unwrap_err();
        assert!(error.to_string().contains("a proxy may be saying"), "{error}");
        let login = Request::login("ada", "hunter2");
        let error = answer(503, r#"{"title": "hunter2?"}"#).succeeded(&login, &base()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorised);
        assert!(error.to_string().ends_with("check both; it says: [redacted]?"), "{error}");
    }

    #[test]
    fn how_long_to_wait_is_told() {
        let asking =
            |status, value: &str| Answer { retry_after: Some(value.to_owned()), ..answer(status, "") };
        for (status, kind) in [(429, ErrorKind::TooManyRequests), (503, ErrorKind::Server)] {
            let error = asking(status, "120").succeeded(&request(), &base()).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("try again in 120 s"), "{error}");
        }
    }

    #[test]
    fn a_redirect_shows_no_more_than_the_origin() {
        let location = Some("https://ada:x@sso.example/login?token=y".to_owned());
        let error = Answer { location, ..answer(302, "") }.succeeded(&request(), &base()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("to https://sso.example, which") && !text.contains("ada"), "{text}");
    }

    #[test]
    fn successes_that_are_none() {
        let reports = [
            r#"{"error": {"status": 404}}"#,
            r#"{"errors": [{"status": 500}]}"#,
            r#"{"success": false}"#,
            r#"{"error": "no"}"#,
        ];
        for body in ["<html>", "{", "\u{feff}{}", "true"].into_iter().chain(reports) {
            let error = answer(200, body).succeeded(&request(), &base()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{body}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(answer(200, deep).succeeded(&request(), &base()).is_err());
        for body in ["", r#"{"success": true, "error": null}"#, r#"{"errors": []}"#, "[]", "{}"] {
            answer(200, body).done(&request(), &base()).unwrap();
        }
    }

    #[test]
    fn tokens() {
        for (cookies, token) in [
            ("jsonwebtoken=a.b.c", Some("a.b.c")),
            ("other=1; jsonwebtoken=a.b.c; Path=/", Some("a.b.c")),
            ("jsonwebtoken=", None),
            ("jsonwebtoken=a b", None),
            ("xjsonwebtoken=a.b.c", None),
        ] {
            let body = json!({"success": true, "cookies": cookies}).to_string();
            let read = answer(200, body).auth_token(&request(), &base());
            assert_eq!(read.as_ref().ok().map(AuthToken::expose), token, "{cookies}");
        }
        assert!(answer(200, "{}").auth_token(&request(), &base()).is_err());
        let read =
            answer(200, r#"{"success":true,"jwt":"d.e.f"}"#).session_token(&request(), &base()).unwrap();
        assert_eq!(read.expose(), "d.e.f");
        assert!(answer(200, r#"{"success":true}"#).session_token(&request(), &base()).is_err());
    }

    #[test]
    fn lists_and_ids() {
        let read = |body: &str| answer(200, body.to_owned()).listed(&request(), &base());
        assert_eq!(read(r#"{"data":[]}"#).unwrap(), []);
        assert_eq!(read(r#"{"data":[{"id":"a"},{"attributes":{"_id":"b"}}]}"#).unwrap()[1].id, "b");
        for body in [r#"{"data":[{"id":"a"},{}]}"#, r#"{"data":{}}"#, "{}", "[]", ""] {
            assert_eq!(read(body).unwrap_err().kind(), ErrorKind::UnexpectedAnswer, "{body}");
        }
        let created = |body: &str| answer(200, body.to_owned()).created(&request(), &base());
        for body in
            [r#"{"data":{"type":"webhook","attributes":{"__v":0,"_id":"a"}}}"#, r#"{"data":{"id":"a"}}"#]
        {
            assert_eq!(created(body).unwrap(), "a");
        }
        assert!(created(r#"{"success":true}"#).is_err());
    }
}
