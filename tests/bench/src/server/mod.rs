//! The servers that are measured. Each is this program again, in a process of its own with one worker thread.

mod actix;
mod axum;
mod warp;

use std::io::Write as _;
use std::net::SocketAddr;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use smartshape_webhook::{Delivery, HandlerError, NamedSecret, Receiver, Secret};
use tokio::net::TcpListener;

use crate::Result;

const SUCCESS: &str = r#"{"success":true}"#;
/// The secret of all servers. It protects nothing.
pub(crate) const SECRET: &str = "a secret of the benchmark's own";

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Framework {
    #[default]
    Axum,
    Actix,
    Warp,
}

pub(crate) const FRAMEWORKS: [(&str, Framework); 3] =
    [("axum", Framework::Axum), ("actix-web", Framework::Actix), ("warp", Framework::Warp)];

/// How a server handles a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The adapter's `endpoint()` with a handler that does nothing.
    #[default]
    Receiver,
    /// Reads the body and responds.
    Bare,
    /// Responds 401 and leaves the body to the framework.
    Rejecting,
    /// What one writes in an afternoon: checks the token on the async thread and parses everything. On axum only.
    Naive,
    /// Posts the body to `target` and responds with its status. On axum only.
    Forwarder { target: SocketAddr },
}

/// A server, as the command line of its process describes it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) framework: Framework,
    pub(crate) kind: Kind,
    /// Sets `ClientAddr`, which axum does not do by itself.
    pub(crate) client_addr: bool,
    /// How many secrets a receiver has before `SECRET`.
    pub(crate) other_secrets: usize,
}

/// Serves until the benchmark ends it, or ends itself.
pub(crate) fn run(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // As in production: warnings, and no line for each delivery.
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        // The listener queues connections that come before the server is up.
        writeln!(std::io::stderr(), "listening on http://{}", listener.local_addr()?)?;
        match spec.framework {
            Framework::Axum => axum::serve(spec, listener).await,
            Framework::Actix => actix::serve(spec, listener).await,
            Framework::Warp => warp::serve(spec, listener).await,
        }
    })
}

fn receiver(spec: Spec) -> Result<Receiver> {
    // The server has one core.
    let mut builder = Receiver::builder().verify_threads(1);
    for other in 0..spec.other_secrets {
        let secret = format!("the secret of webhook {other}");
        builder = builder.named_secret(NamedSecret::new(secret.clone(), Secret::new(secret)?));
    }
    Ok(builder.secret(Secret::new(SECRET)?).build()?)
}

/// The handler of every receiver: what a user's handler takes is not measured.
async fn handler(_: Delivery) -> std::result::Result<(), HandlerError> {
    Ok(())
}
