//! An HTTP/1 server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use smartshape_webhook::ClientAddr;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_service::Service as _;

use crate::failure::{CliResult, usage};

/// Maximum time that a client may read no byte of its responses.
#[cfg(target_os = "linux")]
const WRITE_TIMEOUT_MS: u32 = 10_000;
/// Maximum length in bytes of a request's head. hyper's own limit is 400 KiB for each connection.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Interval of the warnings that no connection can be accepted.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// A listener at the address, and the address with its port. `cannot` and `remedy` are for the error.
pub(crate) async fn bind(
    listen: SocketAddr,
    cannot: &str,
    remedy: &str,
) -> CliResult<(TcpListener, SocketAddr)> {
    let wrong = |error: std::io::Error| usage!("{cannot} {listen}: {error}: {remedy}");
    let listener = TcpListener::bind(listen).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    Ok((listener, address))
}

/// A server that runs until [`stop`](Self::stop).
pub(crate) struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `app` with a timeout for heads and idle connections, which `axum::serve` lacks. Each request has the
    /// [`ClientAddr`] of its connection. After the stop, requests in flight have `grace` to complete.
    pub(crate) fn start(listener: TcpListener, app: Router, idle_timeout: Duration, grace: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(serve(listener, app, idle_timeout, grace, stopped)) }
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        // The task does not panic.
        let _ = self.task.await;
    }
}

async fn serve(
    listener: TcpListener,
    app: Router,
    idle_timeout: Duration,
    grace: Duration,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    // A sender that has shut its side down still waits for its response.
    http.timer(TokioTimer::new()).header_read_timeout(idle_timeout).half_close(true);
    http.max_buf_size(MAX_HEAD_BYTES);
    // Every connection inherits the listener's option, so a client that reads no response is cut off.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&listener, WRITE_TIMEOUT_MS) {
        tracing::warn!(%error, "clients that read no response are not cut off");
    }
    let connections = GracefulShutdown::new();
    let mut warned_at = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The process is usually out of file descriptors, until connections end.
                if warned_at.is_none_or(|at: Instant| at.elapsed() > WARN_INTERVAL) {
                    tracing::warn!(%error, "no connection can be accepted");
                    warned_at = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let app = app.clone();
        let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ClientAddr::from(peer));
            // A router is always ready.
            app.clone().call(request)
        });
        tokio::spawn(connections.watch(http.serve_connection(TokioIo::new(stream), service)));
    }
    let _ = tokio::time::timeout(grace, connections.shutdown()).await;
}
