//! `--forward-to`: posts events unchanged to another endpoint.

use std::sync::Arc;
use std::time::Duration;

use anstyle::Style;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Uri};
use http_body_util::Full;
use smartshape_fake::{Fault, Prefix, check_response};
use smartshape_webhook::{Delivery, Secret};
use smartshape_webhook_ui::{ForwardOutcome, SendOutcome};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::escape::escape;
use crate::http_client::{self, HttpClient, Response};
use crate::output::{ERROR, SUCCESS, print_notice, styled};

/// Maximum number of events that are forwarded concurrently.
const MAX_IN_FLIGHT: usize = 8;
/// Maximum number of queued events. Further ones are not forwarded, with a notice.
const QUEUE_CAPACITY: usize = 1000;
/// Maximum total length of the bodies of queued events.
const QUEUE_CAPACITY_BYTES: usize = 256 * 1024 * 1024;
/// Maximum time to wait for the endpoint's response.
const LIMIT: Duration = Duration::from_secs(30);
/// The cost of a token that is made here: that of most.
const COST: u32 = 10;
/// Maximum time to forward the queued events at shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// Headers that belong to one connection and are not forwarded; the client sets those that it needs.
const HOP_BY_HOP: [HeaderName; 11] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The queue of events to be forwarded.
pub(super) struct Forward {
    sender: mpsc::Sender<QueuedEvent>,
    bytes: Arc<Semaphore>,
}

struct QueuedEvent {
    uuid: String,
    headers: HeaderMap,
    body: Bytes,
    forwarded: ForwardOutcome,
    _bytes: OwnedSemaphorePermit,
}

/// The tasks that send the requests.
pub(super) struct Forwarders(JoinSet<()>);

/// Starts forwarding to `url`.
pub(super) fn start(url: &Uri) -> Result<(Forward, Forwarders), Fault> {
    let client = http_client::client(url)?;
    let (sender, waiting) = mpsc::channel(QUEUE_CAPACITY);
    let waiting = Arc::new(Mutex::new(waiting));
    let mut tasks = JoinSet::new();
    for _ in 0..MAX_IN_FLIGHT {
        tasks.spawn(work(client.clone(), url.clone(), Arc::clone(&waiting)));
    }
    Ok((Forward { sender, bytes: Arc::new(Semaphore::new(QUEUE_CAPACITY_BYTES)) }, Forwarders(tasks)))
}

impl Forward {
    /// Queues the event without waiting. If the queue is full, prints a notice instead.
    pub(super) fn push(&self, delivery: &Delivery, headers: &HeaderMap, forwarded: &ForwardOutcome) {
        // A clone of the delivery would keep its bytes reserved in the receiver's memory limit.
        let (uuid, body) = (escape(delivery.uuid()), delivery.raw().clone());
        let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let queued = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).is_ok_and(|bytes| {
            let (uuid, headers, forwarded) = (uuid.clone(), end_to_end(headers), forwarded.clone());
            let event = QueuedEvent { uuid, headers, body, forwarded, _bytes: bytes };
            self.sender.try_send(event).is_ok()
        });
        if !queued {
            let why = "too many events wait for that endpoint already";
            print_notice(format_args!("not forwarded: {uuid}: {why}"));
            forwarded.set(SendOutcome { is_accepted: false, text: format!("not forwarded: {why}") });
        }
    }
}

impl Forwarders {
    /// Waits until the queue is empty, once its sending half is dropped.
    pub(super) async fn finish(mut self) {
        let ended = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            print_notice("not all events could be forwarded in time");
        }
    }
}

async fn work(client: HttpClient, url: Uri, waiting: Arc<Mutex<mpsc::Receiver<QueuedEvent>>>) {
    loop {
        let next = waiting.lock().await.recv().await;
        let Some(event) = next else { return };
        let QueuedEvent { uuid, headers, body, forwarded, _bytes } = event;
        let response = http_client::exchange(&client, request(&url, headers, body), LIMIT).await;
        print_notice(format_args!("forwarded {uuid}: {}", outcome(&response, styled).text));
        forwarded.set(outcome(&response, |text, _| text.to_owned()));
    }
}

fn request(url: &Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    *request.headers_mut() = headers;
    // A kept connection that the endpoint is about to close would lose the event.
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    request
}

/// The response by SmartShape's rules.
fn outcome(response: &Result<Response, Fault>, styled: impl Fn(&str, Style) -> String) -> SendOutcome {
    let (status, faults) = match response {
        Ok(response) => {
            let faults = check_response(response.status, response.content_type.as_deref(), &response.body);
            (format!("{} after {} ms, ", response.status, response.took.as_millis()), faults)
        }
        Err(fault) => (String::new(), vec![fault.clone()]),
    };
    if faults.is_empty() {
        return SendOutcome { is_accepted: true, text: format!("{status}{}", styled("accepted", SUCCESS)) };
    }
    let faults: Vec<_> = faults.iter().map(|fault| escape(&fault.to_string())).collect();
    let not_accepted = styled("SmartShape would not accept it", ERROR);
    SendOutcome { is_accepted: false, text: format!("{status}{not_accepted}: {}", faults.join("; ")) }
}

/// Posts a body, signed anew.
pub(crate) async fn send(url: Uri, secret: Secret, body: Bytes) -> SendOutcome {
    let signing =
        tokio::task::spawn_blocking(move || smartshape_fake::token(secret.expose(), COST, Prefix::TwoB));
    let response = match signing.await {
        Ok(Ok(token)) => http_client::post(&url, Some(&token), body, LIMIT).await,
        _ => Err(Fault::NotSent("no token could be made".to_owned())),
    };
    outcome(&response, |text, _| text.to_owned())
}

/// The end-to-end headers.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|names| names.split(',')) {
        kept.remove(name.trim());
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}
