//! The requests that are sent, made beforehand: making a token takes as long as checking it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use smartshape_fake::{Prefix, sample_text, token};
use smartshape_webhook::{EventKind, TOKEN_HEADER};

use crate::Result;
use crate::server::SECRET;

pub(crate) const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Placeholder of the last digits of a uuid, replaced by the next number whenever a request is sent.
const NUMBER: &str = "0123456789ab";
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The manual's sample of an `attribute_updated` event.
pub(crate) fn small_event() -> String {
    sample_text(EventKind::AttributeUpdated).replace("d0a5e3bdeb96", NUMBER)
}

/// An `attribute_updated` event of this length: many attributes on many nodes, with the values that models have.
pub(crate) fn event_of(bytes: usize) -> String {
    let begin = r#"{"file":"5c6aeed079bf3f432d3c929e","event":"attribute_updated","data":{"user":{"email":"test@smartshape.io"},"nodeIdToAttributes":{"#;
    let end = format!(
        r#"}}}},"owner":"test@smartshape.io","runTimestamp":1550824906016,"uuid":"43a57abb-4ab6-435c-bdc4-{NUMBER}"}}"#
    );
    let mut nodes = String::new();
    let mut number = 0_u32;
    while nodes.len() + 450 < bytes {
        let _ = write!(
            nodes,
            r#""5b337c601e24e904{number:08x}":{{"part number":"A-{number:06}","mass":{}.25,"released":{},"note":"Fräsen, \"fein\", {} µm"}},"#,
            number % 1000,
            number.is_multiple_of(2),
            number % 50,
        );
        number += 1;
    }
    // The last node's one attribute makes up the length.
    let last = r#""5b337c601e24e904ffffffff":{"text":""}"#;
    let missing = bytes.saturating_sub(begin.len() + nodes.len() + last.len() + end.len());
    let last = last.replace("\"\"", &format!("\"{}\"", "x".repeat(missing)));
    format!("{begin}{nodes}{last}{end}")
}

/// The bytes of one HTTP request, sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Offset of the uuid's number, if it changes.
    number: Option<usize>,
    /// Offset of the token.
    token: Option<usize>,
}

impl Request {
    /// A delivery that gets another uuid each time it is sent.
    pub(crate) fn delivery(body: &str, token: &str) -> Result<Self> {
        let bytes = (head(Some(token), body.len()) + body).into_bytes();
        let number = find(&bytes, NUMBER).ok_or("the event has no uuid to number")?;
        let token = find(&bytes, token);
        Ok(Self { bytes, number: Some(number), token })
    }

    pub(crate) fn health() -> Self {
        Self { bytes: HEALTH.to_vec(), number: None, token: None }
    }

    /// The bytes to send now, with this token if there is one.
    pub(crate) fn next(&mut self, token: Option<&str>) -> &[u8] {
        if let (Some(offset), Some(token)) = (self.token, token)
            && let Some(bytes) = self.bytes.get_mut(offset..offset + token.len())
        {
            bytes.copy_from_slice(token.as_bytes());
        }
        if let Some(offset) = self.number {
            let number = format!("{:012x}", NEXT.fetch_add(1, Ordering::Relaxed));
            self.bytes[offset..offset + NUMBER.len()].copy_from_slice(number.as_bytes());
        }
        &self.bytes
    }
}

/// The head of a request with a body of this length.
pub(crate) fn head(token: Option<&str>, length: usize) -> String {
    let token = token.map(|token| format!("{TOKEN_HEADER}: {token}\r\n")).unwrap_or_default();
    format!(
        "POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{token}\r\n"
    )
}

/// The offset of the text, whatever the case of its letters.
pub(crate) fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

/// The token of each request of a client. Clones take from the same list.
#[derive(Clone, Debug)]
pub(crate) enum Tokens {
    /// The token that the request was made with.
    Same,
    /// Each of these once; then the client stops.
    Once(Arc<[String]>, Arc<AtomicUsize>),
}

impl Tokens {
    pub(crate) fn once(list: Arc<[String]>) -> Self {
        Self::Once(list, Arc::default())
    }

    /// The token for the next request, or `Some(None)` for the request's own. `None` when all were sent.
    pub(crate) fn next(&self) -> Option<Option<&str>> {
        match self {
            Self::Same => Some(None),
            Self::Once(list, next) => Some(Some(list.get(next.fetch_add(1, Ordering::Relaxed))?)),
        }
    }
}

/// Tokens of the servers' secret, each with its own salt.
pub(crate) fn fresh_tokens(cost: u32, count: usize) -> Result<Arc<[String]>> {
    (0..count).map(|_| Ok(token(SECRET, cost, Prefix::TwoB)?)).collect()
}

/// A token of the servers' secret with the likely cost.
pub(crate) fn known_token() -> Result<String> {
    Ok(token(SECRET, 10, Prefix::TwoB)?)
}

#[cfg(test)]
mod tests {
    use smartshape_webhook::{Delivery, Event};

    use super::*;

    #[test]
    fn event_has_the_length_and_is_read_as_an_update() {
        for bytes in [350, 24_000, 1_000_000] {
            let body = event_of(bytes);
            assert_eq!(body.len(), bytes);
            assert!(matches!(Delivery::for_test(body).unwrap().event(), Event::AttributeUpdated(_)));
        }
    }

    #[test]
    fn request_gets_a_uuid_of_its_own_and_the_given_token() {
        let mut request = Request::delivery(&small_event(), "first").unwrap();
        let first = request.next(None).to_vec();
        let second = request.next(Some("other")).to_vec();
        let uuid = |request: &[u8]| {
            let body = find(request, "\r\n\r\n").unwrap() + 4;
            Delivery::for_test(request[body..].to_vec()).unwrap().uuid().to_owned()
        };
        assert_ne!(uuid(&first), uuid(&second));
        assert!(find(&first, ": first\r\n").is_some() && find(&second, ": other\r\n").is_some());
    }
}
