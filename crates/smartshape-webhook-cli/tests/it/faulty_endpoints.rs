//! An endpoint that does all as it should, but for one fault.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use smartshape_webhook::{EventKind, Token};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::SECRET;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    // How it responds.
    Status202,
    TextPlain,
    // Whom it believes.
    BelievesNoToken,
    BelievesEmptyToken,
    BelievesAnyToken,
    RemembersTokensByTheirStart,
    BelievesTheEmptySecret,
    BelievesTheFirstOfTwoTokens,
    BelievesAnyMethod,
    // How it rejects.
    HangsOnRejection,
    ClosesOnRejection,
    SaysOkToTheWrongToken,
    FailsWithoutAToken,
    ReadsTheBodyFirst,
    // Tokens that it does not take.
    Rejects2a,
    Rejects2y,
    RejectsCost12,
    HashesCost14,
    // Events that it does not take.
    RejectsOneEvent,
    FailsOnUnknownEvents,
    RejectsNewFields,
    WantsExactContentType,
    RejectsChunks,
    LimitsTheBody,
    RejectsNonAscii,
    RejectsObjectsAsValues,
    RejectsOldEvents,
    FailsOnDuplicates,
    // What it does with what is no event.
    BelievesAnything,
    DiesOfBrokenJson,
    ClosesEachConnection,
}

struct Endpoint {
    fault: Fault,
    seen: Mutex<HashSet<String>>,
    /// The first 59 characters of tokens that were right.
    known: Mutex<HashSet<String>>,
    dead: watch::Sender<bool>,
}

/// Serves until the test's runtime ends; returns the URL.
pub(crate) async fn serve(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    let endpoint = Arc::new(Endpoint {
        fault,
        seen: Mutex::default(),
        known: Mutex::default(),
        dead: watch::Sender::new(false),
    });
    tokio::spawn(async move {
        let mut dead = endpoint.dead.subscribe();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = dead.wait_for(|dead| *dead) => return,
            };
            let endpoint = Arc::clone(&endpoint);
            let service = service_fn(move |request| {
                let endpoint = Arc::clone(&endpoint);
                async move { endpoint.respond(request).await }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// An error closes the connection without a response.
type FaultyResponse = io::Result<Response<Full<Bytes>>>;

impl Endpoint {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    async fn respond(&self, request: Request<Incoming>) -> FaultyResponse {
        let (head, body) = request.into_parts();
        let length = hyper::body::Body::size_hint(&body).exact();
        let (mut read, mut early) = (body.collect(), None);
        if self.has(Fault::ReadsTheBodyFirst) {
            early = Some((&mut read).await);
        }
        if head.method != Method::POST && !self.has(Fault::BelievesAnyMethod) {
            return rejection(405);
        }
        match self.authenticate(&head).await {
            Ok(true) => {}
            Ok(false) => return self.reject(&head).await,
            Err(status) => return rejection(status),
        }
        if self.has(Fault::WantsExactContentType) && head.headers[CONTENT_TYPE] != "application/json" {
            return rejection(415);
        }
        if self.has(Fault::RejectsChunks) && length.is_none() {
            return rejection(411);
        }
        if self.has(Fault::LimitsTheBody) && length.is_some_and(|length| length > 100_000) {
            return rejection(413);
        }
        let body = match early {
            Some(body) => body,
            None => read.await,
        };
        self.handle(&body.map_err(io::Error::other)?.to_bytes())
    }

    /// Whether the tokens are right; or another status of the rejection.
    async fn authenticate(&self, head: &Parts) -> Result<bool, u16> {
        let tokens = head.headers.get_all("x-smartshape-token").iter();
        let mut tokens: Vec<&[u8]> = tokens.map(HeaderValue::as_bytes).collect();
        if tokens.is_empty() {
            return match self.fault {
                Fault::BelievesNoToken => Ok(true),
                Fault::FailsWithoutAToken => Err(500),
                _ => Ok(false),
            };
        }
        if self.has(Fault::BelievesTheFirstOfTwoTokens) {
            tokens.truncate(1);
        }
        let [token] = tokens[..] else { return Ok(false) };
        if token.is_empty() {
            return Ok(self.has(Fault::BelievesEmptyToken));
        }
        let Ok(parsed) = Token::parse(token) else { return Ok(false) };
        let limit = if self.has(Fault::HashesCost14) { 14 } else { 12 };
        let rejected = parsed.cost() > limit
            || self.has(Fault::RejectsCost12) && parsed.cost() == 12
            || self.has(Fault::Rejects2a) && token.starts_with(b"$2a")
            || self.has(Fault::Rejects2y) && token.starts_with(b"$2y");
        if rejected {
            return Ok(false);
        }
        let token = std::str::from_utf8(token).unwrap().to_owned();
        let start = token[..59].to_owned();
        let (fault, is_known) = (self.fault, self.known.lock().unwrap().contains(&start));
        let check = move || {
            let belongs = |secret: &str| bcrypt::verify(secret, &token).unwrap();
            match fault {
                Fault::BelievesAnyToken => true,
                Fault::RemembersTokensByTheirStart if is_known => true,
                Fault::BelievesTheEmptySecret => belongs(SECRET) || belongs(""),
                _ => belongs(SECRET),
            }
        };
        let is_right = tokio::task::spawn_blocking(check).await.unwrap();
        if is_right {
            self.known.lock().unwrap().insert(start);
        }
        Ok(is_right)
    }

    async fn reject(&self, head: &Parts) -> FaultyResponse {
        match self.fault {
            Fault::HangsOnRejection => std::future::pending().await,
            Fault::ClosesOnRejection => Err(io::Error::other("closed on purpose")),
            Fault::SaysOkToTheWrongToken if head.headers.contains_key("x-smartshape-token") => rejection(200),
            _ => rejection(401),
        }
    }

    fn handle(&self, body: &[u8]) -> FaultyResponse {
        let event: Value = match serde_json::from_slice(body) {
            Ok(event) => event,
            Err(_) if self.has(Fault::BelievesAnything) => return self.success(),
            Err(error) if self.has(Fault::DiesOfBrokenJson) => {
                self.dead.send_replace(true);
                return Err(error.into());
            }
            Err(_) => return rejection(400),
        };
        let fields = ["file", "event", "data", "owner", "runTimestamp", "uuid"];
        if !self.has(Fault::BelievesAnything) && fields.iter().any(|field| event[field].is_null()) {
            return rejection(400);
        }
        let uuid = event["uuid"].to_string();
        let name = event["event"].as_str().unwrap_or_default();
        let rejected = match self.fault {
            Fault::RejectsOneEvent => name == "annotation_updated",
            Fault::RejectsNewFields => event.as_object().is_some_and(|event| event.len() > fields.len()),
            Fault::RejectsNonAscii => !event["data"]["name"].as_str().unwrap_or_default().is_ascii(),
            Fault::RejectsObjectsAsValues => {
                let nodes = event["data"]["nodeIdToAttributes"].as_object();
                nodes.is_some_and(|nodes| nodes.values().any(|node| node["new attr 1"].is_object()))
            }
            Fault::RejectsOldEvents => is_old(&event["runTimestamp"]),
            Fault::FailsOnUnknownEvents => name.parse::<EventKind>().is_err(),
            Fault::FailsOnDuplicates => !self.seen.lock().unwrap().insert(uuid),
            _ => false,
        };
        if rejected {
            return rejection(if self.has(Fault::RejectsOneEvent) { 422 } else { 500 });
        }
        self.success()
    }

    fn success(&self) -> FaultyResponse {
        let status = if self.has(Fault::Status202) { 202 } else { 200 };
        let content_type = if self.has(Fault::TextPlain) { "text/plain" } else { "application/json" };
        let connection = if self.has(Fault::ClosesEachConnection) { "close" } else { "keep-alive" };
        let head = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        let body = Full::from(r#"{"success": true}"#);
        head.header(CONNECTION, connection).body(body).map_err(io::Error::other)
    }
}

fn rejection(status: u16) -> FaultyResponse {
    let head = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    head.body(Full::from(r#"{"success": false}"#)).map_err(io::Error::other)
}

fn is_old(time: &Value) -> bool {
    const DAY: u128 = 24 * 3600 * 1000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let text = time.as_str().map_or_else(|| time.to_string(), str::to_owned);
    text.parse::<u128>().unwrap() + DAY < now
}
