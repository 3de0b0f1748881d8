//! One server under test, its handler, and how to talk to it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use smartshape_fake::{Prefix, token};
use smartshape_webhook::{Receiver, ReceiverBuilder, ReceiverStats, Secret};

use crate::log;
use crate::script::Script;
use crate::target::{Server, Target};
use crate::wire::{Client, Response};

/// The secret of every server under test.
pub const SECRET: &str = "the secret of the conformance table";
/// No case takes this long unless something hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A token of [`SECRET`], the same for all tests.
pub fn good_token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| token(SECRET, 4, Prefix::TwoB).unwrap())
}

/// A new token of any secret.
pub fn new_token(secret: &str) -> String {
    token(secret, 4, Prefix::TwoB).unwrap()
}

/// A small event.
pub fn event(uuid: &str) -> String {
    format!(
        r#"{{"file":"5c6f","event":"file_uploaded","data":{{"name":"a"}},"owner":"test@smartshape.io","runTimestamp":1550824748604,"uuid":"{uuid}"}}"#
    )
}

/// A body in chunked coding.
pub fn chunked(body: &str) -> String {
    let parts = body
        .as_bytes()
        .chunks(10_000)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()));
    parts.collect::<String>() + "0\r\n\r\n"
}

/// An event of exactly so many bytes.
pub fn event_of_length(uuid: &str, length: usize) -> String {
    let short = event(uuid);
    let padding = "x".repeat(length - short.len());
    short.replacen("\"name\":\"a", &format!("\"name\":\"{padding}a"), 1)
}

/// Starts servers for a case.
#[derive(Debug)]
pub struct Harness {
    pub target: Target,
}

impl Harness {
    /// Runs a case on a target, in a runtime of its own.
    pub fn run<F: Future<Output = ()>>(target: Target, case: impl FnOnce(Self) -> F) {
        log::watch_for(|| vec![SECRET.to_owned(), good_token().to_owned(), good_token()[7..].to_owned()]);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(TIMEOUT, case(Self { target })).await.expect("the case hangs");
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        assert!(log::lines() > 0, "what is not logged cannot be searched");
        assert!(!log::leaked(), "a secret or a token was logged");
    }

    /// A server with the default settings.
    pub async fn start(&self) -> TestServer {
        self.start_with(|builder| builder).await
    }

    /// A server with other settings.
    pub async fn start_with(&self, settings: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder) -> TestServer {
        let secret = Secret::new(SECRET).unwrap();
        // The machine may be busy with other tests; nothing here depends on the wait being short.
        let patient = Receiver::builder().verify_timeout(Duration::from_secs(30));
        let builder = patient.secret(secret);
        self.start_receiver(settings(builder).build().unwrap()).await
    }

    /// A server with a receiver of the case's own.
    pub async fn start_receiver(&self, receiver: Receiver) -> TestServer {
        let script = Script::default();
        let server = self.target.start(receiver.clone(), script.clone()).await;
        TestServer { address: server.address(), receiver, script, _server: server }
    }
}

#[derive(Debug)]
pub struct TestServer {
    pub address: SocketAddr,
    pub receiver: Receiver,
    /// The script that the receiver's handler follows.
    pub script: Script,
    _server: Server,
}

impl TestServer {
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The head of a request, up to the empty line.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// A whole request, which declares the length of its body.
    pub fn request(&self, method: &str, headers: &[(&str, &str)], body: &str) -> String {
        let length = body.len().to_string();
        self.head(method, "/callback", &[headers, &[("content-length", length.as_str())]].concat()) + body
    }

    /// The head of a delivery.
    pub fn delivery_head(&self, token: &str, headers: &[(&str, &str)]) -> String {
        self.head("POST", "/callback", &[&[("x-smartshape-token", token)], headers].concat())
    }

    /// A whole request that delivers `body`, with a good token.
    pub fn delivery(&self, body: &str) -> String {
        self.delivery_with(good_token(), body)
    }

    /// A whole request that delivers `body`.
    pub fn delivery_with(&self, token: &str, body: &str) -> String {
        self.request("POST", &[("x-smartshape-token", token)], body)
    }

    /// Waits until the receiver's counters are as the case wants.
    pub async fn wait_until(&self, condition: impl Fn(&ReceiverStats) -> bool) {
        while !condition(&self.receiver.stats()) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until no delivery is in flight and no memory is reserved.
    pub async fn wait_until_idle(&self) {
        self.wait_until(|stats| (stats.in_flight, stats.reserved_bytes) == (0, 0)).await;
    }

    /// Sends bytes over a new connection, which stays open.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Client {
        let mut client = self.connect().await;
        client.send(request).await;
        client
    }

    /// Sends bytes over a new connection, and returns the response.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> Response {
        self.send(request).await.response().await
    }

    /// Delivers `body` with a good token.
    pub async fn deliver(&self, body: &str) -> Response {
        self.exchange(self.delivery(body)).await
    }

    /// Delivers a small event with another token.
    pub async fn deliver_with(&self, token: &str, uuid: &str) -> Response {
        self.exchange(self.delivery_with(token, &event(uuid))).await
    }
}

/// A receiver of [`SECRET`] with the default settings.
pub fn receiver() -> Receiver {
    let builder = Receiver::builder().secret(Secret::new(SECRET).unwrap());
    builder.verify_timeout(Duration::from_secs(30)).build().unwrap()
}

/// Runs a test that starts servers of its own.
pub fn in_runtime(test: impl Future<Output = ()>) {
    // The target is of no interest here.
    Harness::run(Target::AxumEndpoint, |_| test);
}

/// Delivers a body to a server of a test's own, with more header lines.
pub async fn post_to(server: &Server, path: &str, token: &str, headers: &str, body: &[u8]) -> Response {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-smartshape-token: {token}\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    let mut client = Client::connect(server.address()).await;
    client.upload([head.as_bytes(), body].concat()).await
}

/// The one success response, byte for byte.
pub fn assert_success(response: &Response) {
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"success":true}"#), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    for absent in ["allow", "retry-after", "www-authenticate"] {
        assert_eq!(response.header(absent), None);
    }
}

/// A rejection of ours, with all that belongs to its status.
pub fn assert_rejected(response: &Response, status: u16, message: &str) {
    let body = format!(r#"{{"success":false,"error":"{message}"}}"#);
    assert_eq!((response.status, response.body.as_str()), (status, body.as_str()), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("allow"), (status == 405).then_some("POST"));
    let challenge = response.header("www-authenticate");
    assert_eq!(challenge, (status == 401).then_some(r#"SmartShape-Token realm="webhook""#));
    let wait = response.header("retry-after").map(|wait| wait.parse::<u32>().expect("whole seconds"));
    assert_eq!(wait.is_some(), status == 503, "{response:?}");
    assert_ne!(wait, Some(0));
}
