//! `smartshape relay`: receives events, stores them, acknowledges, and passes them on.

mod config;
#[cfg(unix)]
mod exec;
mod route;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use clap::Args;
use http::StatusCode;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use smartshape_webhook::Receiver;
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_tower::endpoint;
use smartshape_webhook_ui::Ui;
use tokio::sync::oneshot;
use tracing_subscriber::filter::{LevelFilter, Targets};

use self::config::{Config, ConsoleConfig, Retries};
use self::route::Routes;
use crate::console::Console;
use crate::failure::{CliResult, Failure, failed};
use crate::http_server::{self, Server};
use crate::input::SecretArgument;
use crate::output::{end_progress, print_notice, start_log};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::webhook::apply::Apply;

/// Maximum time that a connection is idle. It is longer than the 60 seconds of load balancers, which have to be the
/// side that closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Maximum time at shutdown for deliveries that are being stored, and then for connections to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after the first failed attempt.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Pauses between attempts to register.
const MIN_REGISTER_PAUSE: Duration = Duration::from_secs(5);
const MAX_REGISTER_PAUSE: Duration = Duration::from_secs(600);
/// Interval at which the exporter drains its histograms, which grow until then.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
const SECONDS_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0, 60.0];

#[derive(Args)]
#[command(after_help = "\
Each event is verified, stored in the inbox, acknowledged, and then passed on, again and again until the target has
taken it. After about a day of attempts it is a dead letter: `smartshape inbox list INBOX --state dead-letter`.

Targets:
  https://… or http://…  POST of the body, signed as Standard Webhooks describe with the secret of
                         SMARTSHAPE_RELAY_SIGNING_SECRET or SMARTSHAPE_RELAY_SIGNING_SECRET_FILE (whsec_ and random
                         base64). A status of 2xx means that the event was taken.
  nats://…/STREAM        publishes to a stream of NATS JetStream, once for each event.
  exec:PROGRAM           runs the program with the body on standard input and the attributes of the CloudEvent in the
                         environment (CE_ID, CE_TYPE, CE_SUBJECT …), for 60 seconds at most. Exit code 0 means that the
                         event was taken, 65 that it never will be, any other that it is to be tried again.

The relay responds at /health, /ready and /metrics (Prometheus) too. The log is on standard error, as JSON with --json;
RUST_LOG sets its level. docs/relay.md describes the settings file, which may have several routes.

  smartshape relay --inbox relay.db --to https://app.example.com/events")]
pub(crate) struct Relay {
    /// A file of settings in TOML. Flags come before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on. Defaults to 127.0.0.1:8042
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Path of the webhook's URL. Defaults to /callback
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The inbox: a file, which is created, or a postgres:// URL; - reads it from standard input
    #[arg(long, value_name = "URL")]
    inbox: Option<String>,
    /// Where the events go
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// Permits a target that is not on the public internet, such as localhost or 10.0.0.1
    #[arg(long, requires = "to")]
    allow_private_addresses: bool,
    /// Registers the webhooks of this file, as `webhook apply` does, and takes their secrets
    #[arg(long, value_name = "FILE")]
    apply: Option<PathBuf>,
    /// Shows the inbox in the browser, at this address; without one, at a free port of this machine. Needs a password
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    ui: Option<SocketAddr>,
    /// File with the console's password, of at least 12 characters. Also by SMARTSHAPE_UI_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    #[command(flatten)]
    secret: SecretArgument,
}

impl Relay {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        // The recorder has to be there before the first metric is described.
        let metrics = install_metrics()?;
        let Config { listen, path, inbox, secrets, routes, apply, console, retries } =
            Config::from_flags(&self)?;
        if apply.is_some() {
            settings.api()?;
            end_progress();
        }
        let mut receiver = Receiver::builder();
        for secret in secrets {
            receiver = receiver.named_secret(secret);
        }
        let receiver = receiver.build().map_err(|error| Failure::usage(error.to_string()))?;
        start_log(levels());
        // All webhooks lead to the same targets, so the order of a file's events has to hold across webhooks.
        let inbox = Inbox::builder(&inbox).order_across_webhooks(retries.ordered_by_file).open().await?;
        let mut signals = Signals::new()?;
        let (listener, address) =
            http_server::bind(listen, "cannot listen on", "choose another address by --listen").await?;

        let console = match console {
            Some(ConsoleConfig { listen, password }) => {
                let inbox = inbox.clone();
                let console =
                    Console::start(listen, Some(password), |access| Ui::inbox(inbox, access)).await?;
                tracing::info!(url = console.url, "console");
                Some(console)
            }
            None => None,
        };
        for route in &routes {
            let events = match &route.events {
                Some(events) => events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", "),
                None if routes.len() == 1 => "all".to_owned(),
                None => "all others".to_owned(),
            };
            tracing::info!(to = route.target.name, events, "route");
        }
        let Retries { concurrency, max_attempts, max_backoff, ordered_by_file, shutdown_timeout } = retries;
        let worker = inbox
            .worker(Routes::new(routes))
            .concurrency(concurrency as usize)
            .max_attempts(max_attempts)
            // No target can end this process, so a lost lease is an attempt like any other.
            .max_lost_leases(max_attempts)
            .backoff(INITIAL_BACKOFF, max_backoff)
            .shutdown_timeout(shutdown_timeout);
        let mut worker = if ordered_by_file { worker.ordered_by_file() } else { worker }.spawn();
        let app = Router::new()
            .route_service(&path, endpoint(receiver.clone(), inbox.clone()))
            .route("/health", get(|| async { "ok" }))
            .route("/ready", get(ready))
            .route("/metrics", get(async move || metrics.render()))
            .with_state((receiver.clone(), inbox));
        let server = Server::start(listener, app, IDLE_TIMEOUT, DRAIN_TIMEOUT);
        print_notice(format_args!("listening on http://{address}{path}"));

        let (stop_registering, stopped) = oneshot::channel();
        let running = async {
            tokio::select! {
                () = signals.next() => {}
                () = worker.stopped() => {}
            }
            tracing::info!("shutting down");
            drop(stop_registering);
            receiver.drain(DRAIN_TIMEOUT).await;
            let ended = worker.shutdown().await;
            let stop_console = async {
                if let Some(console) = console {
                    console.stop().await;
                }
            };
            tokio::join!(server.stop(), stop_console);
            ended
        };
        let (ended, ()) = tokio::join!(running, register(apply, settings, stopped));
        Ok(ended?)
    }
}

async fn ready(State((receiver, inbox)): State<(Receiver, Inbox)>) -> StatusCode {
    if inbox.is_ready().await && !receiver.is_draining() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Registers the declared webhooks. Earlier ones may send already, so the relay serves whether this succeeds or not. A
/// creation is not cancelled by the stop, since it would be unclear whether there is a webhook.
async fn register(apply: Option<Apply>, settings: &Settings, mut stopped: oneshot::Receiver<()>) {
    let Some(apply) = apply else { return };
    let mut pause = MIN_REGISTER_PAUSE;
    loop {
        // SIGHUP ends a relay at all times.
        let applied = apply.run(settings, Signals::new).await;
        end_progress();
        let Err(failure) = applied else { return };
        let seconds = pause.as_secs();
        tracing::error!(error = failure.text, "the webhooks are not registered; trying again in {seconds} s");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = &mut stopped => return,
        }
        pause = (pause * 2).min(MAX_REGISTER_PAUSE);
    }
}

fn install_metrics() -> CliResult<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder);
    let metrics = builder.map_err(|error| failed!("no metrics: {error}"))?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(METRICS_UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(metrics)
}

/// The log's levels, which RUST_LOG sets.
fn levels() -> Targets {
    let levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse().ok());
    levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}
