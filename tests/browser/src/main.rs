//! The console on three frameworks, for the tests in a browser: `browser INBOX [--read-only]` serves the inbox in this
//! SQLite file for each kind of visitor, and a listener's deliveries; it prints its addresses, and obeys its standard
//! input until that ends, or for ten minutes at most.
//!
//! A command is a line of JSON, and so is its response: `{"store":[BODY,…]}` stores deliveries and returns their keys;
//! `{"work":N}` runs a worker until the results of N attempts are recorded. A body says what becomes of it: a member
//! `fail` is the error that makes it a dead letter, `retry` one after which it waits, and with `hang` it is never done,
//! nor is its worker. `{"deliver":[…]}` adds deliveries to those of the listener. `{"certificate":NAME}` returns one of
//! this name, with its key, for TLS in front of it.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use smartshape_fake::{EventPayload, Prefix};
use smartshape_webhook::{Delivery, Handler as _, HandlerError, Receiver, RequestHead, Secret, TOKEN_HEADER};
use smartshape_webhook_inbox::{Inbox, WorkerHandle};
use smartshape_webhook_ui::{
    Access, Deliveries, ForwardOutcome, ReceivedDelivery, SendOutcome, Ui, Visitor, actix,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use warp::Filter as _;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const HOUR: Duration = Duration::from_secs(60 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Maximum time to wait for attempts, which do not begin when a failed test has left the workers paused.
const WORK_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Store(Vec<String>),
    Work(u32),
    Deliver(Vec<Arrival>),
    Certificate(String),
}

/// A delivery to the listener.
#[derive(Default, Deserialize)]
struct Arrival {
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Whether its token is made with another secret.
    #[serde(default)]
    is_forged: bool,
    /// bcrypt cost of its token; defaults to 4, the cheapest.
    cost: Option<u32>,
    #[serde(default)]
    fails: bool,
    /// What the endpoint of `--forward-to` responded, in words.
    forward: Option<String>,
}

/// What a body says of its attempt.
#[derive(Deserialize)]
struct Outcome {
    fail: Option<String>,
    retry: Option<String>,
    hang: Option<bool>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or("which inbox?")?;
    let is_read_only = std::env::args().nth(2).is_some_and(|flag| flag == "--read-only");
    let inbox = Inbox::builder(&path).body_retention(HOUR).read_only(is_read_only).open().await?;
    let owner = Ui::inbox(inbox.clone(), Access::decide(|_| Visitor::owner("ops"))).label("test");
    let owner = owner.read_only(is_read_only);
    let [axum, actix, warp] = [bind().await?, bind().await?, bind().await?];
    let url = |listener: &TcpListener| Ok::<_, std::io::Error>(format!("http://{}", listener.local_addr()?));
    println!("{}", json!({ "axum": url(&axum)?, "actix": url(&actix)?, "warp": url(&warp)? }));
    let listener = Listener::new()?;
    let on_axum = on_axum(&inbox, &owner)?.route_service("/inspector", listener.ui());
    let for_actix = owner.clone();
    let on_actix = HttpServer::new(move || {
        let console = || actix::console(for_actix.clone());
        App::new().service(web::scope("/a/b").route("/inbox", console()).route("/inbox/", console()))
    });
    let on_warp = warp::path!("a" / "b" / "inbox").and(smartshape_webhook_ui::warp::console(owner));
    let on_actix = on_actix.workers(1).disable_signals().listen(actix.into_std()?)?;
    tokio::select! {
        outcome = axum::serve(axum, on_axum) => outcome?,
        outcome = on_actix.run() => outcome?,
        () = warp::serve(on_warp).incoming(warp).run() => {}
        outcome = obey(&inbox, &listener) => outcome?,
        () = tokio::time::sleep(MAX_LIFETIME) => {}
    }
    Ok(())
}

async fn bind() -> std::io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

/// A path for each visitor and kind of access, and several paths for the owner.
fn on_axum(inbox: &Inbox, owner: &Ui) -> Result<Router> {
    let mut app = Router::new();
    for path in ["/", "/owner", "/inbox/", "/a/b/inbox"] {
        app = app.route_service(path, owner.clone());
    }
    app = app.nest_service("/nested", owner.clone());
    let ui = |access| Ui::inbox(inbox.clone(), access);
    for (path, visitor) in [
        ("/nobody", Visitor::nobody()),
        ("/observer", Visitor::observer("support")),
        ("/reader", Visitor::reader("reader")),
        ("/operator", Visitor::operator("operator")),
    ] {
        app = app.route_service(path, ui(Access::decide(move |_| visitor.clone())));
    }
    let password = Access::password("ops", "correct horse battery", Visitor::owner("ops"))?;
    let key = Access::key("0123456789abcdef", Visitor::owner("me"))?;
    Ok(app
        .route_service("/smartshape", ui(Access::decide(|_| Visitor::owner("smartshape"))).label("inbox.db"))
        .route_service("/read-only", owner.clone().read_only(true))
        .route_service("/loopback", owner.clone().hosts(["127.0.0.1"]))
        .route_service("/password", ui(password))
        .route_service("/key", ui(key)))
}

/// A listener that `smartshape webhook listen` stands for.
struct Listener {
    receiver: Receiver,
    deliveries: Deliveries,
}

impl Listener {
    const SECRET: &str = "the listener's own secret";

    fn new() -> Result<Arc<Self>> {
        let receiver = Receiver::new(Secret::new(Self::SECRET)?)?;
        Ok(Arc::new(Self { receiver, deliveries: Deliveries::new() }))
    }

    /// The page of its deliveries. The endpoint accepts what is sent again.
    fn ui(self: &Arc<Self>) -> Ui {
        let listener = Arc::clone(self);
        let sample = |kind| String::from_utf8_lossy(&EventPayload::sample(kind).to_body()).into_owned();
        let deliveries = self
            .deliveries
            .clone()
            .resend_to("http://127.0.0.1:8042/callback", |body| async move {
                SendOutcome { is_accepted: true, text: format!("200, accepted {} bytes", body.len()) }
            })
            .samples(sample, move |body| {
                let listener = Arc::clone(&listener);
                async move {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let arrival = Arrival { body, ..Arrival::default() };
                    let outcome = listener.receive(arrival).await.map_err(|error| error.to_string());
                    SendOutcome { is_accepted: outcome.is_ok(), text: outcome.err().unwrap_or_default() }
                }
            });
        Ui::deliveries(deliveries, Access::decide(|_| Visitor::owner("smartshape"))).label("127.0.0.1:8042")
    }

    async fn receive(&self, arrival: Arrival) -> Result<()> {
        let secret = if arrival.is_forged { "the secret of somebody else" } else { Self::SECRET };
        let mut headers = HeaderMap::new();
        headers.append(
            TOKEN_HEADER,
            smartshape_fake::token(secret, arrival.cost.unwrap_or(4), Prefix::TwoB)?.parse()?,
        );
        for (name, value) in arrival.headers {
            headers
                .append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value.as_bytes())?);
        }
        let head = RequestHead::from_parts(
            "POST",
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())),
        );
        let is_handled = Arc::new(AtomicBool::new(false));
        let handler = {
            let is_handled = Arc::clone(&is_handled);
            Arc::new(move |_: Delivery| {
                is_handled.store(true, Ordering::SeqCst);
                async move { if arrival.fails { Err(HandlerError::retry("again")) } else { Ok(()) } }
            })
        };
        let body = Bytes::from(arrival.body);
        let chunks = futures_util::stream::iter([std::io::Result::Ok(body.clone())]);
        let response = self.receiver.serve(&head, chunks, handler).await;
        let is_duplicate = response.status() == 200 && !is_handled.load(Ordering::SeqCst);
        let forward = ForwardOutcome::default();
        if let Some(text) = arrival.forward {
            forward.set(SendOutcome { is_accepted: text.starts_with("200"), text });
        }
        let received = ReceivedDelivery::new("POST", &headers, &response, Duration::from_millis(12));
        self.deliveries.push(received.body(body).duplicate(is_duplicate).forward(forward));
        Ok(())
    }
}

async fn obey(inbox: &Inbox, listener: &Listener) -> Result<()> {
    let attempts = Arc::new(Attempts { started: Semaphore::new(0), hanging: AtomicBool::new(false) });
    let mut worker: Option<WorkerHandle> = None;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let response = match serde_json::from_str(&line)? {
            Command::Store(bodies) => {
                let mut keys = Vec::new();
                for body in bodies {
                    let delivery = Delivery::for_test(body)?;
                    keys.push(delivery.key().to_string());
                    inbox.handle(delivery).await.map_err(|error| error.display_chain())?;
                }
                json!(keys)
            }
            Command::Work(events) => {
                let running = worker.take().unwrap_or_else(|| start(inbox, &attempts));
                tokio::time::timeout(WORK_TIMEOUT, attempts.started.acquire_many(events)).await??.forget();
                // With this the attempts' results are recorded.
                if attempts.hanging.load(Ordering::SeqCst) {
                    worker = Some(running);
                } else {
                    running.shutdown().await?;
                }
                Value::Null
            }
            Command::Deliver(arrivals) => {
                for arrival in arrivals {
                    listener.receive(arrival).await?;
                }
                Value::Null
            }
            Command::Certificate(name) => {
                let made = rcgen::generate_simple_self_signed(vec![name])?;
                json!({ "cert": made.cert.pem(), "key": made.signing_key.serialize_pem() })
            }
        };
        println!("{response}");
    }
    Ok(())
}

struct Attempts {
    /// A permit for each.
    started: Semaphore,
    hanging: AtomicBool,
}

fn start(inbox: &Inbox, attempts: &Arc<Attempts>) -> WorkerHandle {
    let attempts = Arc::clone(attempts);
    let handler = move |delivery: Delivery| {
        let attempts = Arc::clone(&attempts);
        async move {
            let outcome: Outcome = serde_json::from_slice(delivery.raw()).map_err(HandlerError::permanent)?;
            attempts.hanging.fetch_or(outcome.hang.is_some(), Ordering::SeqCst);
            attempts.started.add_permits(1);
            match outcome {
                Outcome { hang: Some(_), .. } => pending().await,
                Outcome { fail: Some(error), .. } => Err(HandlerError::permanent(error)),
                Outcome { retry: Some(error), .. } => Err(HandlerError::retry(error)),
                _ => Ok(()),
            }
        }
    };
    inbox.worker(handler).concurrency(1).backoff(HOUR, HOUR).spawn()
}
