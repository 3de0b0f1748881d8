//! Receives SmartShape webhooks with actix-web and prints each event as one line of JSON.
//!
//! Settings: `LISTEN` (default 127.0.0.1:8042), `SMARTSHAPE_WEBHOOK_SECRET` or
//! `SMARTSHAPE_WEBHOOK_SECRET_FILE`; `INBOX` (a path, or a `postgres://` URL) for the durable mode.
//! Routes: `POST /callback`, `GET /health`, `GET /ready`.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use smartshape_webhook_actix::{BoxHandler, Delivery, HandlerError, Receiver, Secret, endpoint};
use smartshape_webhook_inbox::{Inbox, InboxError, WorkerHandle};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long a client may take for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle: longer than the 60 s of load balancers, which must be those that close, or they
/// send a delivery over a connection that just ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take no byte of its responses.
#[cfg(target_os = "linux")]
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long running handlers and open connections get at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

#[actix_web::main]
async fn main() -> ExitCode {
    start_log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "example-actix: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let secret = Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?;
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8042".to_owned());
    let listener =
        TcpListener::bind(&address).map_err(|error| format!("cannot listen on LISTEN={address}: {error}"))?;
    let inbox = match std::env::var("INBOX") {
        Ok(place) => Some(Inbox::open(&place).await?),
        Err(_) => None,
    };
    let stop = stop_signal()?;
    writeln!(std::io::stderr(), "listening on http://{}", listener.local_addr()?)?;

    let receiver = Receiver::new(secret)?;
    // With an inbox, deliveries are stored and answered, and worked off afterwards.
    let mut worker = inbox.as_ref().map(|inbox| inbox.worker(on_delivery).spawn());
    let handler = inbox.clone().map_or_else(|| BoxHandler::new(on_delivery), BoxHandler::new);
    let drained = receiver.clone();
    let app = move || {
        App::new()
            .app_data(web::Data::new((receiver.clone(), inbox.clone())))
            .route("/callback", endpoint(receiver.clone(), handler.clone()))
            .route("/health", web::get().to(|| async { "ok" }))
            .route("/ready", web::get().to(ready))
    };

    let server = HttpServer::new(app)
        .on_connect(|connection, _| end_slow_reader(connection))
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(IDLE_TIMEOUT)
        .shutdown_timeout(SHUTDOWN_TIMEOUT.as_secs())
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    let stopping = actix_web::rt::spawn(async move {
        tokio::select! {
            () = stop => {}
            () = ended(&mut worker) => {}
        }
        // The server goes on meanwhile: new deliveries are told to come again.
        drained.drain(SHUTDOWN_TIMEOUT).await;
        let worked = finish(worker).await;
        handle.stop(true).await;
        worked
    });
    server.await?;
    Ok(stopping.await??)
}

/// actix-web has no limit for a client that does not read.
fn end_slow_reader(connection: &dyn std::any::Any) {
    #[cfg(target_os = "linux")]
    if let Some(stream) = connection.downcast_ref::<tokio::net::TcpStream>() {
        let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = connection;
}

/// Logs to standard error; `RUST_LOG=debug` or `RUST_LOG=smartshape_webhook=debug` shows more.
fn start_log() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse().ok());
    let levels = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
}

/// Your code goes here.
async fn on_delivery(delivery: Delivery) -> Result<(), HandlerError> {
    // Whoever reads our output may be slow, and an async thread must not wait for them.
    tokio::task::spawn_blocking(move || {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", delivery.to_json_line())?;
        stdout.flush()
    })
    .await??;
    Ok(())
}

async fn ready(state: web::Data<(Receiver, Option<Inbox>)>) -> HttpResponse {
    let (receiver, inbox) = &**state;
    let works = match inbox {
        Some(inbox) => inbox.is_ready().await,
        None => true,
    };
    if works && !receiver.is_draining() {
        HttpResponse::Ok().finish()
    } else {
        HttpResponse::ServiceUnavailable().finish()
    }
}

/// Ends when there is a worker that cannot work at all.
async fn ended(worker: &mut Option<WorkerHandle>) {
    match worker {
        Some(worker) => worker.stopped().await,
        None => std::future::pending().await,
    }
}

async fn finish(worker: Option<WorkerHandle>) -> Result<(), InboxError> {
    match worker {
        Some(worker) => worker.shutdown().await,
        None => Ok(()),
    }
}

/// Listens for the signals from now on; the future ends with the first one.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
