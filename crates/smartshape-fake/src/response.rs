//! SmartShape's rules for the response to a delivery.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Why a delivery failed: a rule of SmartShape's manual that the response breaks, or what kept a response from arriving
/// whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing was sent, for this reason; retrying is pointless.
    NotSent(String),
    /// The connection was refused: nothing listens at the address.
    ConnectionRefused,
    /// The connection failed or was lost, for this reason.
    Connection(String),
    /// No response within this time.
    TimedOut(Duration),
    /// The status is not exactly 200.
    Status(u16),
    /// The content type is not `application/json`; `None` if there is none.
    ContentType(Option<String>),
    /// The body is longer than this many bytes, which is a limit of the fake: the manual names none.
    BodyTooLarge(usize),
    /// The body is not a JSON object.
    NotJson,
    /// The body has no `success`.
    SuccessMissing,
    /// `success` is not `true`.
    SuccessNotTrue,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "nothing was sent: {why}"),
            Self::ConnectionRefused => f.write_str("the connection was refused, so nothing listens there"),
            Self::Connection(why) => write!(f, "the connection failed: {why}"),
            Self::TimedOut(limit) => write!(f, "no response within {} ms", limit.as_millis()),
            Self::Status(status) => write!(f, "the status is {status}, and must be exactly 200"),
            Self::ContentType(None) => f.write_str("no content type, which must be application/json"),
            Self::ContentType(Some(found)) => {
                write!(f, "the content type is {found}, and must be application/json")
            }
            Self::BodyTooLarge(limit) => write!(f, "the body is longer than {limit} bytes"),
            Self::NotJson => f.write_str("the body is not a JSON object"),
            Self::SuccessMissing => f.write_str(r#"the body lacks "success": true"#),
            Self::SuccessNotTrue => f.write_str(r#"the body's "success" is not true"#),
        }
    }
}

/// Checks a response against the manual's three rules: status 200, `application/json`, `"success": true`. Returns a
/// fault for each broken rule; SmartShape accepts the response if there are none.
///
/// ```
/// use smartshape_fake::{Fault, check_response};
///
/// assert!(check_response(200, Some("application/json"), br#"{"success": true}"#).is_empty());
/// assert_eq!(check_response(204, None, b""), [Fault::Status(204), Fault::ContentType(None), Fault::NotJson]);
/// ```
#[must_use]
pub fn check_response(status: u16, content_type: Option<&str>, body: &[u8]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if status != 200 {
        faults.push(Fault::Status(status));
    }
    let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        faults.push(Fault::ContentType(content_type.map(str::to_owned)));
    }
    match serde_json::from_slice::<Value>(body).ok().as_ref().and_then(Value::as_object) {
        None => faults.push(Fault::NotJson),
        Some(object) => match object.get("success") {
            None => faults.push(Fault::SuccessMissing),
            Some(Value::Bool(true)) => {}
            Some(_) => faults.push(Fault::SuccessNotTrue),
        },
    }
    faults
}
