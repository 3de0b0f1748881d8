//! What the example servers have in common, whatever their framework: the log, the listener, the handler, and the end.
#![allow(
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "a part of three programs, not an API"
)]

use std::env::VarError;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use smartshape_webhook::{Delivery, HandlerError, Receiver};
use smartshape_webhook_inbox::{Inbox, WorkerHandle};
use smartshape_webhook_ui::{Access, Ui, Visitor};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Maximum time that a connection may be idle: longer than the 60 seconds of load balancers. They must be the side that
/// closes, or they send a delivery over a connection that has just ended.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Maximum time for running handlers to finish at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time for open connections to finish after that: only their responses are missing.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length in bytes of a request's head on hyper, whose own limit is 400 KiB for each connection.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Interval of the warnings that no connection can be accepted.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time that a client may read no byte of its responses.
#[cfg(target_os = "linux")]
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends the process with 0, or with 2 and one line on standard error. To return from `main` would wait for handlers
/// that still print, for as long as nobody reads it.
#[allow(clippy::exit, reason = "it is called at the end of `main`")]
pub fn exit(outcome: Result<(), Box<dyn Error>>) -> ! {
    let Err(error) = outcome else { std::process::exit(0) };
    let _ = writeln!(std::io::stderr(), "{}: {error}", program());
    std::process::exit(2)
}

fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The value of an environment variable, if it is set.
fn variable(name: &str) -> Result<Option<String>, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8").into()),
    }
}

/// Logs to standard error; `RUST_LOG=debug` or `RUST_LOG=smartshape_webhook=debug` shows more.
pub fn start_log() -> Result<(), Box<dyn Error>> {
    let levels = variable("RUST_LOG")?.and_then(|levels| levels.parse().ok());
    let levels = levels.unwrap_or_else(|| {
        // actix-web logs an error for each malformed request, which anybody can send.
        let quiet = ("actix_http::h1::dispatcher", LevelFilter::OFF);
        Targets::new().with_default(LevelFilter::INFO).with_targets([quiet])
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
    Ok(())
}

/// Opens the inbox of `INBOX`, a path or a `postgres://` URL, if it is set.
pub async fn open_inbox() -> Result<Option<Inbox>, Box<dyn Error>> {
    match variable("INBOX")? {
        Some(url) => Ok(Some(Inbox::open(&url).await?)),
        None => Ok(None),
    }
}

/// The console of the inbox: for the user `ops` with the password of `CONSOLE_PASSWORD`, or for whoever has the link
/// with the key of `CONSOLE_KEY`. None if neither is set. An application with a login of its own uses `Access::decide`.
pub fn console(inbox: Option<&Inbox>) -> Result<Option<Ui>, Box<dyn Error>> {
    let access = match (variable("CONSOLE_PASSWORD")?, variable("CONSOLE_KEY")?) {
        (Some(password), _) => Access::password("ops", &password, Visitor::owner("ops"))?,
        (None, Some(key)) => Access::key(&key, Visitor::owner("ops"))?,
        (None, None) => return Ok(None),
    };
    Ok(inbox.map(|inbox| Ui::inbox(inbox.clone(), access)))
}

/// Listens on `LISTEN`, 127.0.0.1:8042 if it is not set.
pub fn listen() -> Result<TcpListener, Box<dyn Error>> {
    let address = variable("LISTEN")?.unwrap_or_else(|| "127.0.0.1:8042".to_owned());
    let listener =
        TcpListener::bind(&address).map_err(|error| format!("cannot listen on LISTEN={address}: {error}"))?;
    listener.set_nonblocking(true)?;
    // Every connection inherits it.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&listener).set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
    writeln!(std::io::stderr(), "listening on http://{}", listener.local_addr()?)?;
    Ok(listener)
}

/// A server on hyper with the time limits that `axum::serve` and `warp::serve` do not have. It speaks HTTP/1 only:
/// hyper has no such limits for HTTP/2, nor for telling the two apart.
pub fn http1_server(listener: TcpListener) -> std::io::Result<axum_server::Server<SocketAddr>> {
    // An error comes 20 times a second while there are no file descriptors.
    let warn = once_in(WARN_INTERVAL, |error| tracing::warn!(%error, "no connection can be accepted"));
    let server = axum_server::from_tcp(listener)?.http1_only();
    let mut server = server.accept_error_handler(move |_, error| warn(error));
    limit_http1(server.http_builder());
    Ok(server)
}

/// hyper has one limit for a request's head and for an idle connection.
pub fn limit_http1(http: &mut auto::Builder<TokioExecutor>) {
    let mut http = http.http1();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    // A sender that has shut its side down still waits for its response.
    http.half_close(true);
}

/// Passes on the first error of each interval.
fn once_in(
    interval: Duration,
    warn: impl Fn(&std::io::Error) + Send + Sync,
) -> impl Fn(&std::io::Error) + Send + Sync {
    let warned_at = Mutex::new(None::<Instant>);
    move |error| {
        let Ok(mut warned_at) = warned_at.lock() else { return };
        if warned_at.is_none_or(|at| at.elapsed() >= interval) {
            *warned_at = Some(Instant::now());
            warn(error);
        }
    }
}

/// The handler: prints the event as one line of JSON.
pub async fn print_event(delivery: Delivery) -> Result<(), HandlerError> {
    // The program that reads our output may be slow, and an async thread must not wait for it.
    tokio::task::spawn_blocking(move || print_line(&delivery.to_json_line())).await??;
    Ok(())
}

fn print_line(line: &str) -> std::io::Result<()> {
    /// Whether the output may end in half a line, since a write has failed.
    static TORN: AtomicBool = AtomicBool::new(false);
    let mut stdout = std::io::stdout().lock();
    let start = if TORN.swap(true, Ordering::Relaxed) { "\n" } else { "" };
    // One write for a line: the buffer of standard output would keep a part of it, and write that later.
    stdout.write_all(format!("{start}{line}\n").as_bytes())?;
    stdout.flush()?;
    TORN.store(false, Ordering::Relaxed);
    Ok(())
}

/// Whether `/ready` responds 200.
pub async fn is_ready(receiver: &Receiver, inbox: Option<&Inbox>) -> bool {
    let inbox_is_ready = match inbox {
        Some(inbox) => inbox.is_ready().await,
        None => true,
    };
    inbox_is_ready && !receiver.is_draining()
}

/// Waits for the signal, or for a worker that cannot go on, and then for running handlers. New deliveries get a 503
/// meanwhile, so the server has to be stopped afterwards.
pub async fn until_stopped(
    signal: impl Future<Output = ()>,
    receiver: &Receiver,
    mut worker: Option<WorkerHandle>,
) -> Result<(), Box<dyn Error>> {
    let ended = async {
        match &mut worker {
            Some(worker) => worker.stopped().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signal => {}
        () = ended => {}
    }
    let deliveries = receiver.drain(DRAIN_TIMEOUT).await;
    if deliveries > 0 {
        tracing::warn!(deliveries, "handlers that had not finished are given up");
    }
    match worker {
        Some(worker) => Ok(worker.shutdown().await?),
        None => Ok(()),
    }
}

/// Catches SIGTERM and ^C from now on; the future ends with the first one.
#[cfg(unix)]
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Catches ^C; the future ends with it.
#[cfg(not(unix))]
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_logged_once_in_an_interval() {
        for (interval, expected) in [(Duration::from_secs(3600), 1), (Duration::ZERO, 3)] {
            let count = std::sync::atomic::AtomicUsize::new(0);
            let warn = once_in(interval, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            for _ in 0..3 {
                warn(&std::io::Error::other("too many open files"));
            }
            assert_eq!(count.load(Ordering::Relaxed), expected);
        }
    }
}
