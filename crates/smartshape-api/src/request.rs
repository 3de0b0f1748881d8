//! The request of each call. Nothing here uses the network.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Hint};
use crate::secret::{AuthToken, SecretString, SessionToken};
use crate::url::{path_segment, query_with_mark};
use crate::webhook::DesiredWebhook;

/// An API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Login,
    OpenSession,
    CreateWebhook,
    ListWebhooks,
    DeleteWebhook,
    UpsertAttributes,
}

impl Call {
    /// What the call does, for errors that begin with "cannot".
    pub(crate) fn purpose(self) -> &'static str {
        match self {
            Self::Login => "log in",
            Self::OpenSession => "open a session",
            Self::CreateWebhook => "create a webhook",
            Self::ListWebhooks => "list the webhooks",
            Self::DeleteWebhook => "delete a webhook",
            Self::UpsertAttributes => "set attributes",
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::Login | Self::OpenSession | Self::UpsertAttributes => Method::POST,
            Self::CreateWebhook => Method::PUT,
            Self::ListWebhooks => Method::GET,
            Self::DeleteWebhook => Method::DELETE,
        }
    }

    /// Whether sending it twice has the effect of sending it once. `PUT` does not: each one creates a webhook.
    pub(crate) fn is_idempotent(self) -> bool {
        matches!(self, Self::ListWebhooks | Self::DeleteWebhook)
    }

    /// Whether it changes anything at the server.
    pub(crate) fn has_effect(self) -> bool {
        self != Self::ListWebhooks
    }

    /// The end of an error that leaves open whether a webhook was created.
    pub(crate) fn ambiguity_note(self) -> &'static str {
        if self == Self::CreateWebhook {
            "; the webhook may exist all the same: list before trying again"
        } else {
            ""
        }
    }
}

/// A request, independent of the transport.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) call: Call,
    /// Relative to the base URL.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// Redacted in errors, even if the server echoes them.
    pub(crate) secrets: Vec<SecretString>,
}

/// The tokens that are sent with calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    pub(crate) auth: Option<AuthToken>,
    pub(crate) session: Option<SessionToken>,
}

impl Request {
    pub(crate) fn login(username: &str, password: &str) -> Self {
        let body = json!({"username": username, "password": password});
        let mut request = Self::new(Call::Login, "/account/login/", Some(&body));
        request.secrets.push(SecretString::new(password));
        request
    }

    /// Sent without a session token: there is none yet, or it is being replaced.
    pub(crate) fn session(credentials: &Credentials) -> Result<Self, Error> {
        let auth = Credentials { auth: credentials.auth.clone(), session: None };
        Self::new(Call::OpenSession, "/account/session", None).with_credentials(&auth)
    }

    pub(crate) fn create(credentials: &Credentials, desired: &DesiredWebhook) -> Result<Self, Error> {
        let body = json!({
            "event": desired.event().as_str(), "url": desired.url(), "secretToken": desired.secret().expose()
        });
        let mut request = Self::new(Call::CreateWebhook, "/webhook/", Some(&body));
        request.secrets.push(desired.secret().0.clone());
        request.secrets.extend(query_with_mark(desired.url()).map(SecretString::new));
        request.with_credentials(credentials)
    }

    pub(crate) fn list(credentials: &Credentials) -> Result<Self, Error> {
        Self::new(Call::ListWebhooks, "/webhook/", None).with_credentials(credentials)
    }

    pub(crate) fn delete(credentials: &Credentials, id: &str) -> Result<Self, Error> {
        let path = format!("/webhook/{}", path_segment(id, "id of a webhook")?);
        Self::new(Call::DeleteWebhook, &path, None).with_credentials(credentials)
    }

    pub(crate) fn upsert(
        credentials: &Credentials,
        file: &str,
        attributes: &BTreeMap<String, BTreeMap<String, Value>>,
    ) -> Result<Self, Error> {
        let path = format!("/scene/attributes/{}", path_segment(file, "id of a file")?);
        let body = json!({"attributes": attributes});
        Self::new(Call::UpsertAttributes, &path, Some(&body)).with_credentials(credentials)
    }

    /// The error of an attempt that did not end within this time: the hint says whether anything was sent.
    pub(crate) fn timed_out(&self, timeout: Duration, hint: Hint) -> Error {
        let sent = hint == Hint::RaiseTimeout;
        let note = if sent { self.call.ambiguity_note() } else { "" };
        let text = format!("cannot {}: not done within {timeout:?}{note}", self.call.purpose());
        let error = Error::new(ErrorKind::TimedOut, text).with_ambiguous(sent && self.call.has_effect());
        // The hint begins with trying again, which has to wait for what the note says.
        if note.is_empty() { error.with_hint(hint) } else { error }
    }

    fn new(call: Call, path: &str, body: Option<&Value>) -> Self {
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("user-agent", concat!("smartshape-api/", env!("CARGO_PKG_VERSION"), " (unofficial)").to_owned()),
        ];
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        Self { call, path: path.to_owned(), headers, body, secrets: Vec::new() }
    }

    fn with_credentials(mut self, credentials: &Credentials) -> Result<Self, Error> {
        let Some(auth) = &credentials.auth else {
            let text = format!("cannot {}: no auth token is set", self.call.purpose());
            return Err(Error::settings(text).with_hint(Hint::LogIn));
        };
        self.headers.push(("authorization", format!("Bearer {}", auth.expose())));
        self.secrets.push(auth.0.clone());
        if let Some(session) = &credentials.session {
            self.headers.push(("x-smartshape-session", session.expose().to_owned()));
            self.secrets.push(session.0.clone());
        }
        Ok(self)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, path, .. } = self;
        f.debug_struct("Request").field("call", call).field("path", path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use smartshape_webhook::EventKind;

    use super::*;
    use crate::secret::WebhookSecret;

    fn credentials() -> Credentials {
        Credentials {
            auth: Some(AuthToken::new("the.auth.token").unwrap()),
            session: Some(SessionToken::new("the.session.token").unwrap()),
        }
    }

    #[test]
    fn calls_are_sent_as_documented() {
        let secret = WebhookSecret::new("the secret").unwrap();
        let desired =
            DesiredWebhook::new(EventKind::FileUploaded, "https://example.com/callback", secret).unwrap();
        let attributes =
            BTreeMap::from([("5b33".to_owned(), BTreeMap::from([("mtime".to_owned(), json!(7))]))]);
        let with = credentials();
        for (request, method, path, body) in [
            (
                Request::login("ada", "the password"),
                "POST",
                "/account/login/",
                r#"{"password":"the password","username":"ada"}"#,
            ),
            (Request::session(&with).unwrap(), "POST", "/account/session", ""),
            (
                Request::create(&with, &desired).unwrap(),
                "PUT",
                "/webhook/",
                r#"{"event":"file_uploaded","secretToken":"the secret","url":"https://example.com/callback"}"#,
            ),
            (Request::list(&with).unwrap(), "GET", "/webhook/", ""),
            (Request::delete(&with, "5c/6f").unwrap(), "DELETE", "/webhook/5c%2F6f", ""),
            (
                Request::upsert(&with, "5c6f", &attributes).unwrap(),
                "POST",
                "/scene/attributes/5c6f",
                r#"{"attributes":{"5b33":{"mtime":7}}}"#,
            ),
        ] {
            assert_eq!((request.call.method().as_str(), request.path.as_str()), (method, path));
            // Another crate of the program may have switched on serde_json's `preserve_order`.
            let json = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
            assert_eq!(json(&request.body), json(body.as_bytes()), "{path}");
            assert_eq!(request.body.is_empty(), body.is_empty(), "{path}");
            let header = |name| request.headers.iter().find(|(known, _)| *known == name);
            assert_eq!(header("content-type").is_some(), !body.is_empty(), "{path}");
            assert_eq!(header("authorization").is_some(), path != "/account/login/");
            assert_eq!(header("x-smartshape-session").is_some(), !path.starts_with("/account/"), "{path}");
            let shown = format!("{request:?}");
            assert!(!["the password", "the secret", "token"].iter().any(|secret| shown.contains(secret)));
        }
    }

    #[test]
    fn missing_auth_token_is_an_error() {
        let error = Request::list(&Credentials::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot list the webhooks: no auth token is set: log in first");
        assert!(Request::delete(&credentials(), "..").is_err());
    }
}
