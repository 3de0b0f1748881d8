//! The tokens and events that cases build their requests of. Every event is marked as a test.

use bytes::Bytes;
use serde_json::{Value, json};
use smartshape_fake::{EventPayload, Prefix};
use smartshape_webhook::{EventKind, Secret};

use super::request::{Expect, Request};
use crate::escape::escape_json;
use crate::failure::CliResult;

/// The file of all events, unless `--file` names another.
pub(crate) const FILE: &str = "7e577e577e577e577e577e57";
/// The owner of all events, unless `--owner` names another.
pub(crate) const OWNER: &str = "smartshape-check@example.com";

pub(crate) struct Fixture {
    secret: Secret,
    /// The token of all cases that are not about tokens.
    pub(crate) good: String,
    pub(crate) foreign: String,
    file: String,
    owner: String,
}

impl Fixture {
    /// `sign` makes the token of a secret, with the cost and prefix that the user chose.
    pub(crate) fn new(
        secret: Secret,
        sign: impl Fn(&Secret) -> CliResult<String>,
        file: &str,
        owner: &str,
    ) -> CliResult<Self> {
        let (good, foreign) = (sign(&secret)?, sign(&Secret::generate()?)?);
        Ok(Self { secret, good, foreign, file: file.to_owned(), owner: owner.to_owned() })
    }

    /// A well-formed token that matches no secret, different each time. Hashing it takes 2^cost rounds.
    pub(crate) fn forged(&self, cost: u32) -> String {
        // The digits of a uuid are in bcrypt's alphabet.
        let random = EventPayload::sample(EventKind::FileUploaded).uuid().replace('-', "");
        let (salt, rest) = (random.get(..20).unwrap_or_default(), self.foreign.get(27..).unwrap_or_default());
        format!("$2b${cost:02}${salt}{rest}")
    }

    /// The manual's sample with a new uuid and the current time, marked as a test.
    pub(crate) fn event(&self, kind: EventKind) -> Value {
        let sample = EventPayload::sample(kind).with_file(&self.file).with_owner(&self.owner);
        serde_json::from_slice(&sample.to_body()).unwrap_or_default()
    }

    /// A signed request that should be accepted.
    pub(crate) fn accepted(&self, body: impl Into<Vec<u8>>) -> Request {
        Request::new(body.into(), Expect::Accepted).token(self.good.clone())
    }

    /// The sample, which should be accepted.
    pub(crate) fn sample(&self, kind: EventKind) -> Request {
        self.accepted(self.event(kind).to_string())
    }

    /// The sample with changes, which should be accepted.
    pub(crate) fn changed(&self, kind: EventKind, change: impl FnOnce(&mut Value)) -> Request {
        let mut event = self.event(kind);
        change(&mut event);
        self.accepted(event.to_string())
    }

    /// The sample with a token of this form, which should be accepted.
    pub(crate) fn signed(&self, kind: EventKind, cost: u32, prefix: Prefix) -> Request {
        // bcrypt has each of these costs.
        let token = smartshape_fake::token(self.secret.expose(), cost, prefix).unwrap_or_default();
        Request::new(self.event(kind).to_string(), Expect::Accepted).token(token)
    }

    /// A sample with another token, or none, which should be rejected.
    pub(crate) fn rejected(&self, kind: EventKind, token: Option<impl Into<Bytes>>) -> Request {
        let request = Request::new(self.event(kind).to_string(), Expect::Rejected);
        match token {
            Some(token) => request.token(token),
            None => request,
        }
    }

    /// A signed body that is no event.
    pub(crate) fn unreadable(&self, what: &str, body: impl Into<Vec<u8>>) -> Request {
        self.accepted(body).expect(Expect::Rejected).what(what)
    }
}

/// Replaces a text of the event that users type.
pub(crate) fn set_text(event: &mut Value, text: &str) {
    let data = &mut event["data"];
    if let Some(values) = data["nodeIdToAttributes"].as_object_mut() {
        for attributes in values.values_mut() {
            *attributes = json!({text: text});
        }
    } else if data["new"].is_object() {
        data["new"]["name"] = json!(text);
    } else {
        data["name"] = json!(text);
    }
}

/// The event's JSON in ASCII.
pub(crate) fn escaped(event: &Value) -> String {
    escape_json(&event.to_string(), |character| character.is_ascii())
}

/// The event's JSON, padded with white space to this length in bytes, so that the endpoint stores no more than usual.
pub(crate) fn padded(event: &Value, length: usize) -> String {
    let text = event.to_string();
    let padding = " ".repeat(length.saturating_sub(text.len()));
    let padded = text.replacen('{', &format!("{{{padding}"), 1);
    debug_assert_eq!(padded.len(), length.max(text.len()));
    padded
}
