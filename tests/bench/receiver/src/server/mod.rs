//! The servers that are measured. Each is this program again, in a process of its own.

mod actix;
mod axum;
mod by_hand;
mod naive;
mod receiver;
pub(crate) mod signed;
mod warp;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tracing_subscriber::filter::LevelFilter;

use crate::Outcome;
use crate::cores::{self, Cores};
use crate::process::LISTENING;

/// The body that acknowledges a delivery.
pub(crate) const SUCCESS: &str = r#"{"success":true}"#;
/// Of all servers. Nothing is secret about it.
pub(crate) const SECRET: &str = "a secret of the benchmark's own";
/// What is logged: what an operator must see, as in production. A line for each delivery is not.
pub(crate) const LOG_LEVEL: LevelFilter = LevelFilter::WARN;

/// What a server is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Framework {
    Axum,
    Actix,
    Warp,
}

impl Framework {
    pub(crate) const ALL: [Self; 3] = [Self::Axum, Self::Actix, Self::Warp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Actix => "actix-web",
            Self::Warp => "warp",
        }
    }
}

/// What a server does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Reads the body and answers.
    Bare,
    /// Answers 401 and leaves the body to the framework: at once, or as late as the receiver does at most.
    Rejecting,
    /// The adapter's `endpoint()` with a handler that does nothing.
    Ours,
    /// Compares the token, reads the envelope and remembers the key, as one could write it by hand. On axum only.
    ByHand,
    /// Reads the body, checks the token on the async thread, parses all into a `serde_json::Value`.
    Naive,
    /// Reads the body, checks a signature over it, reads the envelope. On axum only.
    Signed,
}

/// A server, as the command line of its process says it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) core: usize,
    pub(crate) framework: Framework,
    pub(crate) kind: Kind,
    /// How many secrets it holds. The benchmark's is the last.
    pub(crate) secrets: usize,
    /// How many deliveries it has seen already.
    pub(crate) seen: usize,
    /// How many it can remember.
    pub(crate) seen_capacity: usize,
    /// How many deliveries may be at work.
    pub(crate) max_in_flight: usize,
    /// Whether the handler takes long.
    pub(crate) slow: bool,
    /// Whether it is told where requests come from, where its framework does not know by itself.
    pub(crate) sources: bool,
    /// Whether it finds out by itself that HTTP/2 is spoken; those on hyper always do.
    pub(crate) http2: bool,
}

impl Spec {
    pub(crate) fn new(cores: Cores, framework: Framework, kind: Kind) -> Self {
        Self {
            core: cores.server,
            framework,
            kind,
            secrets: 1,
            seen: 0,
            seen_capacity: 100_000,
            max_in_flight: 256,
            slow: false,
            sources: false,
            http2: false,
        }
    }
}

/// Serves until the parent closes our standard input, so that no server outlives a run.
pub(crate) fn run(spec: &str) -> Outcome<()> {
    let spec: Spec = serde_json::from_str(spec)?;
    cores::stay_on([spec.core])?;
    tracing_subscriber::fmt().with_max_level(LOG_LEVEL).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The runtime's own lets as many wait for the server as connect at once; the standard library's 128.
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?.into_std()?;
    let address = listener.local_addr()?;
    let (closed, stop) = oneshot::channel::<()>();
    runtime.block_on(async {
        let served = async {
            match spec.framework {
                Framework::Axum => axum::serve(spec, listener).await,
                Framework::Actix => actix::serve(spec, listener).await,
                Framework::Warp => warp::serve(spec, listener).await,
            }
        };
        tokio::select! {
            outcome = served => outcome,
            outcome = tell(address, closed, stop) => outcome,
        }
    })
}

/// What a handler that rejects waits for, with the request in its hands. If it is slow: as many as the receiver lets wait
/// for the hash of one token, for as long as it does.
async fn before_rejecting(spec: Spec) {
    static PLACES: Semaphore = Semaphore::const_new(256);
    if spec.slow
        && let Ok(_place) = PLACES.try_acquire()
    {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// The listener queues whoever comes before the server is up.
async fn tell(
    address: std::net::SocketAddr,
    closed: oneshot::Sender<()>,
    stop: oneshot::Receiver<()>,
) -> Outcome<()> {
    writeln!(std::io::stderr(), "{LISTENING}{address}")?;
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    Ok(stop.await?)
}
