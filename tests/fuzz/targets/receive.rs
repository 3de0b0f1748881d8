//! The whole receive path. The input looks like a request:
//!
//! ```text
//! POST 5~!        method, and a script: how the body comes and how the handler ends
//! name: value     headers; the value `known` stands for a token of the receiver's secret
//!
//! body
//! ```
#![no_main]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use smartshape_webhook::{
    Delivery, Envelope, EnvelopeErrorKind, HandlerError, Receiver, RejectionKind, RequestHead, Secret,
    TOKEN_HEADER, Token, WebhookResponse,
};
use tokio::runtime::{Builder, Runtime};

const SECRET: &str = "the secret of the fuzz targets";
const LIMIT: usize = 2048;

static TOKEN: LazyLock<String> = LazyLock::new(|| bcrypt::hash(SECRET, 4).expect("a cost of bcrypt"));
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
static RECEIVER: LazyLock<Receiver> = LazyLock::new(|| {
    Receiver::builder()
        .secret(Secret::new(SECRET).expect("a secret"))
        // Others are rejected without a hash, which would take most of the time.
        .max_cost(4)
        .verify_timeout(Duration::from_secs(60))
        .max_body_bytes(LIMIT as u64)
        .memory_limit_bytes(2 * LIMIT as u64)
        .body_idle_timeout(Duration::from_millis(2))
        // Forgets each input's delivery when the next one is handled.
        .dedup_capacity(1)
        .build()
        .expect("settings that can be")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let request = Request::read(input);
    forget();
    let (response, seen) = deliver(&request, request.script);
    assert_response(&response);
    let kind = response.rejection().map(|rejection| rejection.kind());
    let expected = request.expected();
    assert!(
        kind == expected || (kind == Some(RejectionKind::BodyTimeout) && request.may_stall()),
        "{response:?}"
    );

    let handled =
        matches!(kind, None | Some(RejectionKind::HandlerFailed | RejectionKind::HandlerUnavailable));
    let body = request.body.to_vec();
    assert_eq!(seen, if handled { vec![body] } else { vec![] });
    if handled {
        // Once more, in one piece: handled again only if it failed.
        let (again, seen) = deliver(&request, b"");
        assert_eq!((again.status(), seen.len()), (200, usize::from(kind.is_some())));
    }
    let stats = RECEIVER.stats();
    assert_eq!((stats.in_flight, stats.reserved_bytes), (0, 0));
});

struct Request<'a> {
    method: String,
    script: &'a [u8],
    headers: Vec<(String, &'a [u8])>,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn read(input: &'a [u8]) -> Self {
        let (first, mut rest) = line(input);
        let space = first.iter().position(|byte| *byte == b' ').unwrap_or(first.len());
        let mut headers = Vec::new();
        loop {
            let (header, after) = line(rest);
            rest = after;
            if header.is_empty() {
                break;
            }
            let colon = header.iter().position(|byte| *byte == b':').unwrap_or(header.len());
            let value = header.get(colon + 1..).unwrap_or_default().trim_ascii();
            let value = if value == b"known" { TOKEN.as_bytes() } else { value };
            headers.push((String::from_utf8_lossy(&header[..colon]).into_owned(), value));
        }
        Self {
            method: String::from_utf8_lossy(&first[..space]).into_owned(),
            script: first.get(space + 1..).unwrap_or_default(),
            headers,
            body: rest,
        }
    }

    fn head(&self) -> RequestHead {
        RequestHead::from_parts(
            &self.method,
            self.headers.iter().map(|(name, value)| (name.as_str(), *value)),
        )
    }

    fn named(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        let named = self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| *value)
    }

    /// What the table of responses says, worked out apart from the receiver. `None` is a success.
    fn expected(&self) -> Option<RejectionKind> {
        self.before_the_body().or_else(|| self.of_the_body())
    }

    fn before_the_body(&self) -> Option<RejectionKind> {
        let declared = self.head().declared_length();
        if self.method != "POST" {
            return Some(RejectionKind::MethodNotAllowed);
        }
        if declared.is_none() && self.named("content-length").next().is_some() {
            return Some(RejectionKind::LengthInvalid);
        }
        if declared.is_some_and(|bytes| bytes > LIMIT as u64) {
            return Some(RejectionKind::BodyTooLarge);
        }
        let tokens: Vec<&[u8]> = self
            .named(TOKEN_HEADER)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .collect();
        let Some(first) = tokens.first() else { return Some(RejectionKind::TokenMissing) };
        if tokens.iter().any(|token| token != first) {
            return Some(RejectionKind::TokenRepeated);
        }
        match Token::parse(first) {
            Err(_) => Some(RejectionKind::TokenMalformed),
            Ok(token) if token.cost() > 4 => Some(RejectionKind::TokenTooCostly),
            Ok(_) => (*first != TOKEN.as_bytes()).then_some(RejectionKind::TokenUnmatched),
        }
    }

    fn of_the_body(&self) -> Option<RejectionKind> {
        let (sent, broken) =
            chunks(self.script, self.body).fold((0, false), |(sent, broken), step| match step {
                _ if broken => (sent, broken),
                Step::Chunk(chunk) => (sent + chunk.len(), false),
                Step::Break => (sent, true),
                Step::Wait | Step::Stall => (sent, false),
            });
        if sent > LIMIT {
            return Some(RejectionKind::BodyTooLarge);
        }
        if broken {
            return Some(RejectionKind::BodyBroken);
        }
        match Envelope::parse(self.body).map_err(|error| error.kind()) {
            Err(EnvelopeErrorKind::NotJson) if self.is_coded() => return Some(RejectionKind::ContentCoding),
            Err(EnvelopeErrorKind::NotJson) => return Some(RejectionKind::NotJson),
            Err(_) => return Some(RejectionKind::EnvelopeInvalid),
            Ok(_) => {}
        }
        match self.script.last() {
            Some(b'F') => Some(RejectionKind::HandlerFailed),
            Some(b'L') => Some(RejectionKind::HandlerUnavailable),
            _ => None,
        }
    }

    fn is_coded(&self) -> bool {
        self.named("content-encoding")
            .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
    }

    /// Whether the body may time out: the script waits, and a busy machine may wait too long.
    fn may_stall(&self) -> bool {
        self.script.iter().any(|byte| matches!(byte, b'~' | b'_'))
    }
}

fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    (&text[..end], text.get(end + 1..).unwrap_or_default())
}

enum Step {
    Chunk(Bytes),
    /// Pending once.
    Wait,
    /// Pending for ever.
    Stall,
    /// The connection breaks.
    Break,
}

/// A byte of the script is a chunk of that many bytes, but for `~`, `_` and `!`; what is left comes at the end.
fn chunks<'a>(script: &'a [u8], body: &'a [u8]) -> impl Iterator<Item = Step> + 'a {
    let mut rest = body;
    let mut script = script.iter();
    std::iter::from_fn(move || match script.next() {
        Some(b'~') => Some(Step::Wait),
        Some(b'_') => Some(Step::Stall),
        Some(b'!') => Some(Step::Break),
        Some(size) => Some(Step::Chunk(take(&mut rest, usize::from(*size)))),
        None if rest.is_empty() => None,
        None => Some(Step::Chunk(take(&mut rest, usize::MAX))),
    })
}

fn take(rest: &mut &[u8], size: usize) -> Bytes {
    let (chunk, after) = rest.split_at(size.min(rest.len()));
    *rest = after;
    Bytes::copy_from_slice(chunk)
}

struct Body {
    steps: std::vec::IntoIter<Step>,
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.steps.next() {
            Some(Step::Chunk(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Some(Step::Break) => Poll::Ready(Some(Err(io::Error::other("the connection\nbroke")))),
            Some(Step::Wait) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Stall) => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// Returns the response, and the bodies that the handler saw.
fn deliver(request: &Request<'_>, script: &[u8]) -> (WebhookResponse, Vec<Vec<u8>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let steps: Vec<Step> = chunks(script, request.body).collect();
    let body = Body { steps: steps.into_iter() };
    let (ending, bodies) = (script.last().copied(), Arc::clone(&seen));
    let handler = move |delivery: Delivery| {
        bodies.lock().expect("no panic").push(delivery.raw().to_vec());
        let _ = delivery.event();
        async move { end(ending) }
    };
    let response = RUNTIME.block_on(RECEIVER.serve(&request.head(), body, Arc::new(handler)));
    let seen = std::mem::take(&mut *seen.lock().expect("no panic"));
    (response, seen)
}

fn end(ending: Option<u8>) -> Result<(), HandlerError> {
    match ending {
        Some(b'F') => Err("failed".into()),
        Some(b'L') => Err(HandlerError::retry_after(Duration::MAX, "later")),
        Some(b'P') => Err(HandlerError::permanent("never")),
        _ => Ok(()),
    }
}

/// Completes another delivery, so that the last input's is evicted: `dedup_capacity` is 1.
fn forget() {
    let body = br#"{"file":"","event":"forget","data":0,"owner":"the fuzz target","runTimestamp":0,"uuid":"forget"}"#;
    let head = RequestHead::from_parts("POST", [(TOKEN_HEADER, TOKEN.as_bytes())]);
    let body = Body { steps: vec![Step::Chunk(Bytes::from_static(body))].into_iter() };
    let response = RUNTIME.block_on(RECEIVER.serve(&head, body, Arc::new(|_: Delivery| async { Ok(()) })));
    assert_eq!(response.status(), 200);
}

/// Asserts that the response is a whole row of the table.
fn assert_response(response: &WebhookResponse) {
    let body: serde_json::Value = serde_json::from_slice(&response.body()).expect("JSON");
    let expected = match response.rejection() {
        None => serde_json::json!({"success": true}),
        Some(rejection) => {
            assert!(RejectionKind::ALL.contains(&rejection.kind()));
            assert_eq!(response.status(), rejection.kind().status());
            serde_json::json!({"success": false, "error": rejection.kind().public_message()})
        }
    };
    assert_eq!(body, expected);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers.contains_key("retry-after"), response.status() == 503);
    assert_eq!(headers.contains_key("connection"), response.closes_connection());
    assert_eq!(headers.contains_key("allow"), response.status() == 405);
    assert_eq!(headers.contains_key("www-authenticate"), response.status() == 401);
    assert!(headers.values().all(|value| value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte))));
}
