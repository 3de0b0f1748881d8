//! What is sent for each call, as plain values. Nothing here touches the network.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::ensure::Wanted;
use crate::error::Error;
use crate::hidden::{AuthToken, Hidden, SessionToken};
use crate::url::{query_of, segment};

/// Something to be sent.
#[derive(Clone)]
pub(crate) struct Request {
    /// What it is for, after "cannot": shown in errors.
    pub(crate) purpose: &'static str,
    pub(crate) method: &'static str,
    /// Below the base URL.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// What no error may show, also when the server repeats it.
    pub(crate) hidden: Vec<Hidden>,
}

/// What authorises calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authority {
    pub(crate) auth: Option<AuthToken>,
    pub(crate) session: Option<SessionToken>,
}

impl Request {
    pub(crate) fn login(username: &str, password: &str) -> Self {
        let body = json!({"username": username, "password": password});
        let mut request = Self::new("log in", "POST", "/account/login/", Some(&body));
        request.hidden.push(Hidden::new(password));
        request
    }

    /// Carries no session token: there is none yet, or it is to be replaced.
    pub(crate) fn session(authority: &Authority) -> Result<Self, Error> {
        let auth = Authority { auth: authority.auth.clone(), session: None };
        Self::new("open a session", "POST", "/account/session", None).authorised(&auth)
    }

    pub(crate) fn create(authority: &Authority, wanted: &Wanted) -> Result<Self, Error> {
        let body = json!({
            "event": wanted.event().as_str(), "url": wanted.url(), "secretToken": wanted.secret().expose()
        });
        let mut request = Self::new("create a webhook", "PUT", "/webhook/", Some(&body));
        request.hidden.push(wanted.secret().0.clone());
        request.hidden.extend(query_of(wanted.url()).map(Hidden::new));
        request.authorised(authority)
    }

    pub(crate) fn list(authority: &Authority) -> Result<Self, Error> {
        Self::new("list the webhooks", "GET", "/webhook/", None).authorised(authority)
    }

    pub(crate) fn delete(authority: &Authority, id: &str) -> Result<Self, Error> {
        let path = format!("/webhook/{}", segment(id, "id of a webhook")?);
        Self::new("delete a webhook", "DELETE", &path, None).authorised(authority)
    }

    pub(crate) fn upsert(
        authority: &Authority,
        file: &str,
        attributes: &BTreeMap<String, BTreeMap<String, Value>>,
    ) -> Result<Self, Error> {
        let path = format!("/scene/attributes/{}", segment(file, "id of a file")?);
        let body = json!({"attributes": attributes});
        Self::new("set attributes", "POST", &path, Some(&body)).authorised(authority)
    }

    /// Whether sending it twice does no more than sending it once. PUT is no such method here:
    /// each one creates a webhook.
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "DELETE")
    }

    /// Whether it changes anything at the server.
    pub(crate) fn has_effect(&self) -> bool {
        self.method != "GET"
    }

    /// What to say when nothing tells whether a call was carried out that must not be repeated.
    pub(crate) fn unsure(&self) -> &'static str {
        if self.method == "PUT" {
            "; the webhook may exist all the same: list before trying again"
        } else {
            ""
        }
    }

    fn new(purpose: &'static str, method: &'static str, path: &str, body: Option<&Value>) -> Self {
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("user-agent", concat!("smartshape-api/", env!("CARGO_PKG_VERSION"), " (unofficial)").to_owned()),
        ];
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        Self { purpose, method, path: path.to_owned(), headers, body, hidden: Vec::new() }
    }

    fn authorised(mut self, authority: &Authority) -> Result<Self, Error> {
        let Some(auth) = &authority.auth else {
            let text = format!("cannot {}: no auth token is set: log in first", self.purpose);
            return Err(Error::settings(text));
        };
        self.headers.push(("authorization", format!("Bearer {}", auth.expose())));
        self.hidden.push(auth.0.clone());
        if let Some(session) = &authority.session {
            self.headers.push(("x-smartshape-session", session.expose().to_owned()));
            self.hidden.push(session.0.clone());
        }
        Ok(self)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { purpose: _, method, path, .. } = self;
        f.debug_struct("Request").field("method", method).field("path", path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use smartshape_webhook::EventKind;

    use super::*;
    use crate::hidden::WebhookSecret;

    fn authority(session: bool) -> Authority {
        Authority {
            auth: Some(AuthToken::new("the.auth.token").unwrap()),
            session: session.then(|| SessionToken::new("the.session.token").unwrap()),
        }
    }

    #[test]
    fn every_call_as_documented() {
        let secret = WebhookSecret::new("the secret").unwrap();
        let wanted = Wanted::new(EventKind::FileUploaded, "https://example.com/callback", secret).unwrap();
        let attributes =
            BTreeMap::from([("5b33".to_owned(), BTreeMap::from([("mtime".to_owned(), json!(7))]))]);
        let with = authority(false);
        for (request, method, path, body) in [
            (
                Request::login("ada", "the password"),
                "POST",
                "/account/login/",
                r#"{"password":"the password","username":"ada"}"#,
            ),
            (Request::session(&with).unwrap(), "POST", "/account/session", ""),
            (
                Request::create(&with, &wanted).unwrap(),
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
            assert_eq!((request.method, request.path.as_str()), (method, path));
            // Another crate of the program may have switched on serde_json's `preserve_order`.
            let json = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
            assert_eq!(json(&request.body), json(body.as_bytes()), "{path}");
            assert_eq!(request.body.is_empty(), body.is_empty(), "{path}");
            let header = |name| request.headers.iter().find(|(known, _)| *known == name);
            assert_eq!(header("content-type").is_some(), !body.is_empty(), "{path}");
            assert_eq!(header("authorization").is_some(), path != "/account/login/");
            let shown = format!("{request:?}");
            assert!(!["the password", "the secret", "token"].iter().any(|secret| shown.contains(secret)));
        }
    }

    #[test]
    fn the_session_is_sent_when_there_is_one() {
        for (has_session, sent) in [(false, None), (true, Some("the.session.token"))] {
            let request = Request::list(&authority(has_session)).unwrap();
            let session = request.headers.iter().find(|(name, _)| *name == "x-smartshape-session");
            assert_eq!(session.map(|(_, value)| value.as_str()), sent);
        }
        let session = Request::session(&authority(true)).unwrap();
        assert!(session.headers.iter().all(|(name, _)| *name != "x-smartshape-session"));
    }

    #[test]
    fn without_a_token_nothing_is_sent() {
        let error = Request::list(&Authority::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot list the webhooks: no auth token is set: log in first");
        assert!(Request::delete(&authority(false), "..").is_err());
    }
}
