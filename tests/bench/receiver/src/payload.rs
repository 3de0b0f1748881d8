//! The requests that are sent, made beforehand.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use smartshape_fake::sample_text;
use smartshape_webhook::{EventKind, TOKEN_HEADER};

use crate::Outcome;
use crate::server::signed;

/// What stands for the last digits of a uuid until a request is sent.
const NUMBER: &str = "0123456789ab";
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The manual's sample of an attribute's update.
pub(crate) fn small_event() -> String {
    sample_text(EventKind::AttributeUpdated).replace("d0a5e3bdeb96", NUMBER)
}

/// An update of as many attributes as fit, on as many nodes, with the kinds of values that a model has.
pub(crate) fn event_of(bytes: usize) -> String {
    let mut nodes = String::new();
    let mut number = 0_u32;
    // What stands around the nodes is as long.
    while nodes.len() + 450 < bytes {
        let _ = write!(
            nodes,
            r#"{}"5b337c601e24e904{number:08x}":{{"part number":"A-{number:06}","mass":{}.25,"released":{},"note":"Fräsen, \"fein\", {} µm"}}"#,
            if number == 0 { "" } else { "," },
            number % 1000,
            number.is_multiple_of(2),
            number % 50,
        );
        number += 1;
    }
    let end = format!(
        r#"}}}},"owner":"test@smartshape.io","runTimestamp":1550824906016,"uuid":"43a57abb-4ab6-435c-bdc4-{NUMBER}"}}"#
    );
    let begin = r#"{"file":"5c6aeed079bf3f432d3c929e","event":"attribute_updated","data":{"user":{"email":"test@smartshape.io"},"nodeIdToAttributes":{"#;
    // The last node's one attribute makes up the length.
    let fixed = begin.len() + nodes.len() + end.len();
    let last = r#","5b337c601e24e904ffffffff":{"text":""}"#;
    let last = if number == 0 { &last[1..] } else { last };
    let text = "x".repeat(bytes.saturating_sub(fixed + last.len()));
    format!("{begin}{nodes}{}{end}", last.replace("\"\"", &format!("\"{text}\"")))
}

/// One request, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the uuid's number stands. None: the request stays as it is.
    number: Option<usize>,
    /// Where the token stands.
    token: Option<usize>,
}

impl Request {
    /// A delivery. Its uuid is another each time it is sent.
    pub(crate) fn delivery(body: &str, token: &str) -> Outcome<Self> {
        let request = Self::post(&format!("{TOKEN_HEADER}: {token}\r\n"), body);
        let number = find(&request, NUMBER).ok_or("the body has no place for a number")?;
        let token = find(&request, token);
        Ok(Self { bytes: request, number: Some(number), token })
    }

    /// A delivery that is signed over its body, which therefore stays as it is.
    pub(crate) fn signed(body: &str) -> Outcome<Self> {
        let bytes = Self::post(&signed::headers(body.as_bytes())?, body);
        Ok(Self { bytes, number: None, token: None })
    }

    /// Asks whether the server is well.
    pub(crate) fn health() -> Self {
        let bytes = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
        Self { bytes, number: None, token: None }
    }

    fn post(headers: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let head = format!(
            "POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}\r\n"
        );
        (head + body).into_bytes()
    }

    /// The same with the uuid that it would be sent with first.
    pub(crate) fn fixed(mut self) -> Self {
        self.next(None);
        self.number = None;
        self
    }

    /// The bytes to send now.
    pub(crate) fn next(&mut self, token: Option<&str>) -> &[u8] {
        if let (Some(place), Some(token)) = (self.token, token)
            && let Some(bytes) = self.bytes.get_mut(place..place + token.len())
        {
            bytes.copy_from_slice(token.as_bytes());
        }
        if let Some(place) = self.number {
            let mut number = NEXT.fetch_add(1, Ordering::Relaxed);
            for digit in self.bytes[place..place + NUMBER.len()].iter_mut().rev() {
                *digit = b"0123456789abcdef"[(number & 15) as usize];
                number >>= 4;
            }
        }
        &self.bytes
    }
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use smartshape_webhook::Delivery;

    use super::*;

    #[test]
    fn events_are_as_long_as_asked_and_real() {
        for bytes in [350, 24_000, 1_000_000] {
            let body = event_of(bytes);
            assert_eq!(body.len(), bytes);
            let delivery = Delivery::for_test(body).unwrap();
            assert!(matches!(delivery.event(), smartshape_webhook::Event::AttributeUpdated(_)));
        }
    }

    #[test]
    fn each_request_has_its_own_uuid_and_the_token_that_is_wanted() {
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
