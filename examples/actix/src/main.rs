//! Receives SmartShape webhooks with actix-web and prints each event as one line of JSON.
//!
//! Settings: `LISTEN` (default 127.0.0.1:8042), `SMARTSHAPE_WEBHOOK_SECRET` or
//! `SMARTSHAPE_WEBHOOK_SECRET_FILE`; `INBOX` (a path, or a `postgres://` URL) for the durable mode, and with it
//! `CONSOLE_PASSWORD` for its console. Routes: `POST /callback`, `GET /health`, `GET /ready`, `/console`.

use std::error::Error;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use example_common::{CLOSE_TIMEOUT, IDLE_TIMEOUT};
use smartshape_webhook_actix::{BoxHandler, Receiver, Secret, endpoint};
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_ui::actix;

/// Maximum time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

#[actix_web::main]
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
    let served = receiver.clone();
    let app = move || {
        App::new()
            .app_data(web::Data::new((served.clone(), inbox.clone())))
            .route("/callback", endpoint(served.clone(), handler.clone()))
            .route("/health", web::get().to(|| async { "ok" }))
            .route("/ready", web::get().to(ready))
            .route("/console", console.clone().map_or_else(web::route, actix::console))
    };

    let server = HttpServer::new(app)
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(IDLE_TIMEOUT)
        .shutdown_timeout(CLOSE_TIMEOUT.as_secs())
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    let serving = actix_web::rt::spawn(server);

    let stopped = example_common::until_stopped(signal, &receiver, worker).await;
    handle.stop(true).await;
    serving.await??;
    stopped
}

async fn ready(state: web::Data<(Receiver, Option<Inbox>)>) -> HttpResponse {
    let (receiver, inbox) = &**state;
    HttpResponse::new(match example_common::is_ready(receiver, inbox.as_ref()).await {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    })
}
