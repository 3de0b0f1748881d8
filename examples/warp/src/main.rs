//! Receives SmartShape webhooks with warp and prints each event as one line of JSON.
//!
//! Settings: `LISTEN` (default 127.0.0.1:8042), `SMARTSHAPE_WEBHOOK_SECRET` or
//! `SMARTSHAPE_WEBHOOK_SECRET_FILE`; `INBOX` (a path, or a `postgres://` URL) for the durable mode, and with it
//! `CONSOLE_PASSWORD` for its console. Routes: `POST /callback`, `GET /health`, `GET /ready`, `/console`.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use axum_server::Handle;
use example_common::CLOSE_TIMEOUT;
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_warp::{BoxHandler, ClientAddr, Receiver, Secret, endpoint};
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;
use warp::http::{Request, StatusCode};
use warp::{Filter, Reply};

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
    let ready = receiver.clone();
    let console = match console {
        Some(ui) => smartshape_webhook_ui::warp::console(ui).map(Reply::into_response).boxed(),
        None => warp::any().and_then(async || Err(warp::reject::not_found())).boxed(),
    };
    let routes = warp::path("callback")
        .and(warp::path::end())
        .and(endpoint(receiver.clone(), handler))
        .or(warp::path!("console").and(console))
        .or(warp::path!("health").and(warp::get()).map(|| "ok"))
        .or(warp::path!("ready").and(warp::get()).then(move || is_ready(ready.clone(), inbox.clone())));

    let service = warp::service(routes);
    let make_service = tower::service_fn(move |peer: SocketAddr| {
        // Tells the receiver the sender's address, so that a flood from one address does not hold up others.
        let set_client_addr = MapRequestLayer::new(move |mut request: Request<_>| {
            request.extensions_mut().insert(ClientAddr::from(peer));
            request
        });
        let service = ServiceBuilder::new().layer(set_client_addr).service(service.clone());
        async { Ok::<_, Infallible>(service) }
    });
    // `warp::serve` has no time limits for heads and idle connections.
    let handle = Handle::new();
    let server = example_common::http1_server(listener)?.handle(handle.clone());
    let serving = tokio::spawn(server.serve(make_service));

    let stopped = example_common::until_stopped(signal, &receiver, worker).await;
    handle.graceful_shutdown(Some(CLOSE_TIMEOUT));
    serving.await??;
    stopped
}

async fn is_ready(receiver: Receiver, inbox: Option<Inbox>) -> StatusCode {
    match example_common::is_ready(&receiver, inbox.as_ref()).await {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}
