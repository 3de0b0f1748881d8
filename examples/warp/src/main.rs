//! Receives SmartShape webhooks with warp and prints each event as one line of JSON.
//!
//! Settings: `LISTEN` (default 127.0.0.1:8042), `SMARTSHAPE_WEBHOOK_SECRET` or
//! `SMARTSHAPE_WEBHOOK_SECRET_FILE`; `INBOX` (a path, or a `postgres://` URL) for the durable mode.
//! Routes: `POST /callback`, `GET /health`, `GET /ready`.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use smartshape_webhook_inbox::{Inbox, InboxError, WorkerHandle};
use smartshape_webhook_warp::{BoxHandler, ClientAddr, Delivery, HandlerError, Receiver, Secret, endpoint};
use tokio::net::TcpListener;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use warp::http::StatusCode;
use warp::{Filter, Reply};

/// How long a connection may be idle: longer than the 60 s of load balancers, which must be those that close, or they
/// send a delivery over a connection that just ended. hyper has one limit for this and for a request's head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take no byte of its responses.
#[cfg(target_os = "linux")]
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long running handlers and open connections get at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    start_log();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "example-warp: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let secret = Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?;
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8042".to_owned());
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| format!("cannot listen on LISTEN={address}: {error}"))?;
    let inbox = match std::env::var("INBOX") {
        Ok(place) => Some(Inbox::open(&place).await?),
        Err(_) => None,
    };
    let stop = stop_signal()?;
    writeln!(std::io::stderr(), "listening on http://{}", listener.local_addr()?)?;

    let receiver = Receiver::new(secret)?;
    // With an inbox, deliveries are stored and answered, and worked off afterwards.
    let worker = inbox.as_ref().map(|inbox| inbox.worker(on_delivery).spawn());
    let handler = inbox.clone().map_or_else(|| BoxHandler::new(on_delivery), BoxHandler::new);
    let ready = receiver.clone();
    let routes = warp::path("callback")
        .and(warp::path::end())
        .and(endpoint(receiver.clone(), handler))
        .or(warp::path!("health").and(warp::get()).map(|| "ok"))
        .or(warp::path!("ready").and(warp::get()).then(move || is_ready(ready.clone(), inbox.clone())));

    serve(listener, routes, receiver, worker, stop).await?;
    Ok(())
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

async fn is_ready(receiver: Receiver, inbox: Option<Inbox>) -> StatusCode {
    let works = match inbox {
        Some(inbox) => inbox.is_ready().await,
        None => true,
    };
    if works && !receiver.is_draining() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// As `warp::serve`, which has no time limits for heads and idle connections.
async fn serve<F>(
    listener: TcpListener,
    routes: F,
    receiver: Receiver,
    mut worker: Option<WorkerHandle>,
    stop: impl Future<Output = ()>,
) -> Result<(), InboxError>
where
    F: Filter<Error = warp::Rejection> + Clone + Send + Sync + 'static,
    F::Extract: Reply,
{
    let service = warp::service(routes);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    // A sender that has shut its side down still waits for its response.
    http.half_close(true);
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(async {
        tokio::select! {
            () = stop => {}
            () = ended(&mut worker) => {}
        }
        // The server goes on meanwhile: new deliveries are told to come again.
        receiver.drain(SHUTDOWN_TIMEOUT).await;
        finish(worker).await
    });
    let worked = loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            worked = &mut shutdown => break worked,
        };
        let Ok((stream, peer)) = accepted else {
            // Usually out of file descriptors: wait for connections to end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT));
        let service = TowerToHyperService::new(service.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ClientAddr::from(peer));
            service.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connections.watch(connection));
    };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, connections.shutdown()).await;
    worked
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
