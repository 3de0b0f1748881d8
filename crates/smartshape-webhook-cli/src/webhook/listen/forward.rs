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
use smartshape_fake::{Fault, Prefix};
use smartshape_webhook::{Delivery, Secret};
use smartshape_webhook_ui::{ForwardOutcome, SendOutcome};
use tokio::sync::Semaphore;

use crate::escape::escape;
use crate::http_client::{self, HttpClient, Response};
use crate::output::{ERROR, SUCCESS, print_notice, styled};

/// Maximum number of events that are forwarded concurrently.
const MAX_IN_FLIGHT: u32 = 8;
/// Maximum number of events, in flight or queued: 1000. Further ones are not forwarded, with a notice.
const MAX_EVENTS: u32 = 1000 + MAX_IN_FLIGHT;
/// Maximum total length of the bodies of these events, in bytes.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Maximum time to wait for the endpoint's response.
const TIMEOUT: Duration = Duration::from_secs(30);
/// bcrypt cost of the tokens that are made here, which `smartshape token sign` uses by default too.
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

/// Posts events to the endpoint. Clones share the queue.
#[derive(Clone)]
pub(super) struct Forward {
    client: HttpClient,
    url: Uri,
    /// A permit for each event that is queued or in flight.
    events: Arc<Semaphore>,
    /// A permit for each byte of their bodies.
    bytes: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
}

impl Forward {
    pub(super) fn new(url: Uri) -> Result<Self, Fault> {
        Ok(Self {
            client: http_client::client(&url)?,
            url,
            events: Arc::new(Semaphore::new(MAX_EVENTS as usize)),
            bytes: Arc::new(Semaphore::new(MAX_BYTES)),
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT as usize)),
        })
    }

    /// Queues the event without waiting. If the queue is full, prints a notice instead.
    pub(super) fn push(&self, delivery: &Delivery, headers: &HeaderMap, forwarded: ForwardOutcome) {
        // A clone of the delivery would keep its bytes reserved in the receiver's memory limit.
        let (uuid, body) = (escape(delivery.uuid()), delivery.raw().clone());
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let event = Arc::clone(&self.events).try_acquire_owned();
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(length);
        let (Ok(event), Ok(bytes)) = (event, bytes) else {
            let why = "too many events wait for that endpoint already";
            print_notice(format_args!("not forwarded: {uuid}: {why}"));
            forwarded.set(SendOutcome { is_accepted: false, text: format!("not forwarded: {why}") });
            return;
        };
        let (client, in_flight) = (self.client.clone(), Arc::clone(&self.in_flight));
        let request = request(&self.url, end_to_end(headers), body);
        tokio::spawn(async move {
            let _permits = (event, bytes, in_flight.acquire().await);
            let response = http_client::exchange(&client, request, TIMEOUT).await;
            print_notice(format_args!("forwarded {uuid}: {}", outcome(&response, styled).text));
            forwarded.set(outcome(&response, |text, _| text.to_owned()));
        });
    }

    /// Waits until all events are forwarded, for [`GRACE`] at most. A notice says if some are left.
    pub(super) async fn finish(&self) {
        if tokio::time::timeout(GRACE, self.events.acquire_many(MAX_EVENTS)).await.is_err() {
            print_notice("not all events could be forwarded in time");
        }
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
            (format!("{} after {} ms, ", response.status, response.took.as_millis()), response.faults())
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
        Ok(Ok(token)) => http_client::post(&url, &token, body, TIMEOUT).await,
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
