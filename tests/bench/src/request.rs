//! The requests that are sent, made beforehand: making a token takes as long as checking it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::IntoIter;

use smartshape_fake::{Prefix, sample_text, token};
use smartshape_webhook::{EventKind, TOKEN_HEADER};

use crate::Result;
use crate::server::SECRET;

/// Placeholder of the last digits of a uuid, replaced by the next number whenever a request is sent.
const NUMBER: &str = "0123456789ab";
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The manual's sample of an `attribute_updated` event.
pub(crate) fn small_event() -> String {
    sample_text(EventKind::AttributeUpdated).replace("d0a5e3bdeb96", NUMBER)
}

/// An `attribute_updated` event of this length: many attributes on many nodes, with the values that models have.
pub(crate) fn event_of(bytes: usize) -> String {
    let event = |nodes: &str| {
        format!(
            r#"{{"file":"5c6aeed079bf3f432d3c929e","event":"attribute_updated","data":{{"user":{{"email":"test@smartshape.io"}},"nodeIdToAttributes":{{{nodes}}}}},"owner":"test@smartshape.io","runTimestamp":1550824906016,"uuid":"43a57abb-4ab6-435c-bdc4-{NUMBER}"}}"#
        )
    };
    // The last node's one attribute makes up the length.
    let last = |text: &str| format!(r#""5b337c601e24e904ffffffff":{{"text":"{text}"}}"#);
    let (mut nodes, mut number) = (String::new(), 0_u32);
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
    let missing = bytes.saturating_sub(event(&(nodes.clone() + &last(""))).len());
    event(&(nodes + &last(&"x".repeat(missing))))
}

/// The bytes of one HTTP request, sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Offset of the uuid's number.
    number: usize,
    /// Offset of the token, and those that are left, if each request has another one. Clones take from the same ones.
    tokens: Option<(usize, Arc<Mutex<IntoIter<String>>>)>,
}

impl Request {
    /// A delivery that gets another uuid each time it is sent.
    pub(crate) fn delivery(body: &str, token: &str) -> Result<Self> {
        let length = body.len();
        let bytes = format!(
            "POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{TOKEN_HEADER}: {token}\r\n\r\n{body}"
        )
        .into_bytes();
        let number = find(&bytes, NUMBER).ok_or("the event has no uuid to number")?;
        Ok(Self { bytes, number, tokens: None })
    }

    /// A delivery of the small event with each of these tokens, which are of one length.
    pub(crate) fn with_each_of(tokens: Vec<String>) -> Result<Self> {
        let first = tokens.first().ok_or("there is no token")?;
        let delivery = Self::delivery(&small_event(), first)?;
        let offset = find(&delivery.bytes, first).unwrap_or_default();
        Ok(Self { tokens: Some((offset, Arc::new(Mutex::new(tokens.into_iter())))), ..delivery })
    }

    /// The bytes to send now; `None` when each token was sent.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        if let Some((offset, tokens)) = &self.tokens {
            let token = tokens.lock().unwrap_or_else(PoisonError::into_inner).next()?;
            self.bytes[*offset..][..token.len()].copy_from_slice(token.as_bytes());
        }
        let number = format!("{:012x}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.bytes[self.number..][..NUMBER.len()].copy_from_slice(number.as_bytes());
        Some(&self.bytes)
    }
}

/// The offset of the text, whatever the case of its letters.
pub(crate) fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

/// Tokens of the servers' secret, each with its own salt.
pub(crate) fn fresh_tokens(cost: u32, count: usize) -> Result<Vec<String>> {
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
    fn request_gets_a_uuid_of_its_own_and_the_next_token() {
        let mut request = Request::with_each_of(vec!["first".into(), "other".into()]).unwrap();
        let [first, second] = [(); 2].map(|()| request.next().unwrap().to_vec());
        let uuid = |request: &[u8]| {
            let body = find(request, "\r\n\r\n").unwrap() + 4;
            Delivery::for_test(request[body..].to_vec()).unwrap().uuid().to_owned()
        };
        assert_ne!(uuid(&first), uuid(&second));
        assert!(find(&first, ": first\r\n").is_some() && find(&second, ": other\r\n").is_some());
        assert!(request.next().is_none());
    }
}
