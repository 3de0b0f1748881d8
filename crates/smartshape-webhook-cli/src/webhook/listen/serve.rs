//! The listener's server.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use smartshape_webhook::{LingeringBody, Receiver, Rejection, RequestHead, Secret, WebhookResponse};
use smartshape_webhook_ui::{Deliveries, ForwardOutcome, ReceivedDelivery};
use tokio::net::TcpListener;

use super::record::{BodyCopy, Recorder};
use super::sink::{OutputFailures, RequestHandler, Sink};
use crate::failure::{CliResult, Failure};
use crate::http_server;
use crate::output::{ERROR, SUCCESS, is_interactive, print_notice, styled};

/// Maximum time to receive a request's head, and maximum time that a connection is idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for deliveries in flight to complete at shutdown.
pub(super) const GRACE: Duration = Duration::from_secs(10);

pub(super) struct Server {
    receiver: Receiver,
    server: http_server::Server,
}

/// Where deliveries go.
#[derive(Clone)]
pub(super) struct Sinks {
    pub(super) sink: Arc<Sink>,
    pub(super) recorder: Option<Arc<Recorder>>,
    /// What the console shows.
    pub(super) deliveries: Option<Deliveries>,
    pub(super) failures: OutputFailures,
}

/// Two random texts by which a listener recognizes its own URL and its own response.
#[derive(Clone)]
pub(super) struct Identity {
    /// Last segment of the URL's path.
    pub(super) id: String,
    /// Body of the response to a GET request, which the probe compares.
    pub(super) nonce: String,
}

impl Server {
    /// Starts serving.
    pub(super) fn start(
        listener: TcpListener,
        identity: Identity,
        secret: Secret,
        sinks: Sinks,
    ) -> CliResult<Self> {
        let receiver = Receiver::builder()
            .secret(secret)
            // Longer than the default, because a developer's machine may be busy.
            .verify_timeout(Duration::from_secs(8))
            .build()
            .map_err(|error| Failure::usage(error.to_string()))?;
        let accepting = receiver.clone();
        let app = Router::new().fallback(move |request: Request| {
            let (identity, receiver, sinks) = (identity.clone(), accepting.clone(), sinks.clone());
            async move { respond(request, &identity, receiver, sinks).await }
        });
        Ok(Self { receiver, server: http_server::Server::start(listener, app, IDLE_TIMEOUT, GRACE) })
    }

    pub(super) async fn stop(self) {
        self.receiver.drain(GRACE).await;
        self.server.stop().await;
    }
}

async fn respond(request: Request, identity: &Identity, receiver: Receiver, sinks: Sinks) -> Response {
    // Only the last segment is compared, since a proxy may rewrite the path before it.
    if request.uri().path().trim_end_matches('/').rsplit('/').next() != Some(identity.id.as_str()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if request.method() == Method::GET {
        return identity.nonce.clone().into_response();
    }
    let recorded = sinks.recorder.as_ref().and_then(|recorder| recorder.begin(request.headers()));
    if recorded.is_none() && sinks.deliveries.is_none() {
        return into_axum(deliver(request, &receiver, sinks.sink, None).await.response);
    }
    // The delivery has a task of its own, so that its entry is written even if the client disconnects.
    let recorded_response = tokio::spawn(async move {
        let (copied, started_at) = (BodyCopy::default(), Instant::now());
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let ListenerResponse { response, was_handled, forwarded } =
            deliver(request, &receiver, sinks.sink, Some(&copied)).await;
        // If another request was rejected, the receiver may have discarded a part of its body to keep the connection.
        let body =
            Some(copied.take_bytes()).filter(|_| response.rejection().is_none_or(Rejection::token_verified));
        if let Some(deliveries) = sinks.deliveries {
            let received = ReceivedDelivery::new(method.as_str(), &headers, &response, started_at.elapsed());
            let received = received.duplicate(response.status() == 200 && !was_handled).forward(forwarded);
            deliveries.push(match body.clone().filter(|body| !body.is_empty()) {
                Some(body) => received.body(body),
                None => received,
            });
        }
        let written = match (recorded, body) {
            (Some(recorded), Some(body)) => recorded.end(&response, body).await,
            _ => Ok(()),
        };
        written.map(|()| into_axum(response)).inspect_err(|error| sinks.failures.report(error))
    });
    match recorded_response.await {
        Ok(Ok(response)) => response,
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A response, and what became of the delivery.
struct ListenerResponse {
    response: WebhookResponse,
    was_handled: bool,
    forwarded: ForwardOutcome,
}

/// Receives a delivery as the tower adapter does, and copies its body for the recording and the console.
async fn deliver(
    request: Request,
    receiver: &Receiver,
    sink: Arc<Sink>,
    copied: Option<&BodyCopy>,
) -> ListenerResponse {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let head = RequestHead::from_parts(parts.method.as_str(), headers);
    let body = Body::from_stream(LingeringBody::new(body.into_data_stream()));
    // The copy is made outside the lingering body, so that it has no bytes that are drained from a rejected body.
    let body = match copied {
        Some(copied) => copied.copying(body),
        None => body,
    };
    let (name, started_at) = (Arc::new(OnceLock::new()), Instant::now());
    let forwarded = ForwardOutcome::default();
    let arrival = RequestHandler {
        sink,
        headers: parts.headers,
        name: Arc::clone(&name),
        forwarded: forwarded.clone(),
    };
    let response = receiver.serve(&head, body.into_data_stream(), Arc::new(arrival)).await;
    if is_interactive() {
        let (status, took) = (response.status(), started_at.elapsed().as_millis());
        let name = name
            .get()
            .map_or(if status == 200 { "an event that came before" } else { "a request" }, |name| name);
        let status = styled(&status.to_string(), if status == 200 { SUCCESS } else { ERROR });
        print_notice(format_args!("{name}: {status} after {took} ms"));
    }
    ListenerResponse { response, was_handled: name.get().is_some(), forwarded }
}

fn into_axum(response: WebhookResponse) -> Response {
    http::Response::from(response).map(Body::from)
}
