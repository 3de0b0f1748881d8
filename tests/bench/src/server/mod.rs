//! The servers that are measured. Each is this program again, in a process of its own with one worker thread.

mod actix;
mod axum;
mod warp;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smartshape_webhook::{Delivery, HandlerError, NamedSecret, Receiver, Secret};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing_subscriber::filter::LevelFilter;

use crate::Result;

const SUCCESS: &str = r#"{"success":true}"#;
/// The secret of all servers. It protects nothing.
pub(crate) const SECRET: &str = "a secret of the benchmark's own";
/// Every server prints this and its address to standard error.
pub(crate) const LISTENING: &str = "listening on http://";
/// The servers log as in production: warnings, and no line for each delivery.
const LOG_LEVEL: LevelFilter = LevelFilter::WARN;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
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

/// How a server handles a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Reads the body and responds.
    Bare,
    /// Responds 401 and leaves the body to the framework.
    Rejecting,
    /// `Rejecting` after it has waited as a receiver does for a forged token's hash.
    Waiting,
    /// The adapter's `endpoint()` with a handler that does nothing.
    Receiver,
    /// What one writes in an afternoon: checks the token on the async thread and parses everything. On axum only.
    Naive,
    /// Posts the body to `target` and responds with its status. On axum only.
    Forwarder { target: SocketAddr },
}

/// A server, as the command line of its process describes it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) framework: Framework,
    pub(crate) kind: Kind,
    /// Sets `ClientAddr`, which axum does not do by itself.
    pub(crate) client_addr: bool,
    /// How many secrets a receiver has. The last is `SECRET`.
    pub(crate) secrets: usize,
}

impl Spec {
    pub(crate) fn new(framework: Framework, kind: Kind) -> Self {
        Self { framework, kind, client_addr: false, secrets: 1 }
    }
}

/// Serves until standard input closes, so that no server outlives the benchmark.
pub(crate) fn run(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec)?;
    tracing_subscriber::fmt().with_max_level(LOG_LEVEL).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let served = async {
            match spec.framework {
                Framework::Axum => axum::serve(spec, listener).await,
                Framework::Actix => actix::serve(spec, listener).await,
                Framework::Warp => warp::serve(spec, listener).await,
            }
        };
        tokio::select! {
            outcome = served => outcome,
            outcome = announce(address) => outcome,
        }
    })
}

/// The listener queues connections that come before the server is up.
async fn announce(address: SocketAddr) -> Result<()> {
    writeln!(std::io::stderr(), "{LISTENING}{address}")?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

fn receiver(spec: Spec) -> Result<Receiver> {
    // The server has one core.
    let mut builder = Receiver::builder().verify_threads(1);
    for other in 1..spec.secrets {
        let secret = other_secret(other);
        builder = builder.named_secret(NamedSecret::new(secret.clone(), Secret::new(secret)?));
    }
    Ok(builder.secret(Secret::new(SECRET)?).build()?)
}

/// Another webhook's secret, and its name.
pub(crate) fn other_secret(number: usize) -> String {
    format!("the secret of webhook {number}")
}

/// The handler of every receiver: what a user's handler takes is not measured.
async fn handler(_: Delivery) -> std::result::Result<(), HandlerError> {
    Ok(())
}

/// Waits as the receiver does for a forged token's hash: up to 256 requests, for 2 seconds.
async fn before_rejecting(kind: Kind) {
    static PERMITS: Semaphore = Semaphore::const_new(256);
    if kind == Kind::Waiting
        && let Ok(_permit) = PERMITS.try_acquire()
    {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
