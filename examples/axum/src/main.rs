//! Receives SmartShape webhooks with axum and prints each event as one line of JSON.
//!
//! Settings: `LISTEN` (default 127.0.0.1:8042), `SMARTSHAPE_WEBHOOK_SECRET` or
//! `SMARTSHAPE_WEBHOOK_SECRET_FILE`; `INBOX` (a path, or a `postgres://` URL) for the durable mode, and with it
//! `CONSOLE_PASSWORD` for its console. Routes: `POST /callback`, `GET /health`, `GET /ready`, `/console`.

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::map_request;
use axum::routing::get;
use axum_server::Handle;
use example_common::CLOSE_TIMEOUT;
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_tower::{BoxHandler, ClientAddr, Receiver, Secret, endpoint};

#[tokio::main]
async fn main() {
    example_common::exit(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    example_common::start_log()?;
    let receiver = Receiver::new(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)?;
    let inbox = example_common::open_inbox().await?;
    let console = example_common::console(inbox.as_ref())?;
    let signal = example_common::stop_signal()?;
    let listener = example_common::listen()?;

    // Your code is the handler. With an inbox, deliveries are stored and acknowledged, and a worker calls it
    // afterwards.
    let handler = example_common::print_event;
    let worker = inbox.as_ref().map(|inbox| inbox.worker(handler).spawn());
    let handler = inbox.clone().map_or_else(|| BoxHandler::new(handler), BoxHandler::new);
    let app = Router::new()
        .route_service("/callback", endpoint(receiver.clone(), handler))
        .route("/health", get(|| async { "ok" }))
        .route("/ready", get(ready))
        .merge(console.map_or_else(Router::new, |ui| Router::new().nest_service("/console", ui)))
        .layer(map_request(set_client_addr))
        .with_state((receiver.clone(), inbox));

    // `axum::serve` has no time limits for heads and idle connections.
    let handle = Handle::new();
    let server = example_common::http1_server(listener)?.handle(handle.clone());
    let serving = tokio::spawn(server.serve(app.into_make_service_with_connect_info::<SocketAddr>()));

    let stopped = example_common::until_stopped(signal, &receiver, worker).await;
    handle.graceful_shutdown(Some(CLOSE_TIMEOUT));
    serving.await??;
    stopped
}

/// Tells the receiver the sender's address, so that a flood from one address does not hold up others.
async fn set_client_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(ClientAddr::from(peer));
    request
}

async fn ready(State((receiver, inbox)): State<(Receiver, Option<Inbox>)>) -> StatusCode {
    match example_common::is_ready(&receiver, inbox.as_ref()).await {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}
