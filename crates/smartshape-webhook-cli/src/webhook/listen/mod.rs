//! `smartshape webhook listen`: registers webhooks, prints deliveries, and deletes the webhooks at exit.

mod forward;
mod line_writer;
mod record;
mod serve;
mod sink;
mod stop;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Uri;
use smartshape_api::is_loopback_url;
use smartshape_fake::EventPayload;
use smartshape_webhook::{EventKind, Secret};
use smartshape_webhook_ui::{Deliveries, Ui};

use self::forward::Forward;
pub(crate) use self::forward::send;
use self::record::Recorder;
use self::serve::{Identity, Server, Sinks};
use self::sink::Sink;
use self::stop::{Reason, Stop};
use super::desired_webhook;
use super::journal::{self, Created, Intent, Journal};
use super::prune::{self, Undeletable};
use crate::console::{self, Console};
use crate::escape::escape;
use crate::failure::{CliResult, Failure, api_chain, failed, usage};
use crate::input::{self, SecretArgument};
use crate::output::{self, end_progress, print_notice};
use crate::settings::{Api, Settings};
use crate::{http_client, http_server};

const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = "\
Each payload is one line of JSON on standard output, and nothing else is there; it is acknowledged once it was
flushed. On ^C, SIGTERM, SIGHUP, or when the reader of the output ends, it deletes the webhooks that it created.

The webhooks have a fresh secret, which nobody else learns, unless one is given: by --secret, or by
SMARTSHAPE_WEBHOOK_SECRET or SMARTSHAPE_WEBHOOK_SECRET_FILE in the environment. --forward-to needs a given one, since
that endpoint gets the token that SmartShape sent, and checks it by the same secret. Body and headers are passed on
byte for byte, but for those of the connection alone (Connection and what it names, Keep-Alive, Host, Content-Length,
Transfer-Encoding, TE, Trailer, Upgrade, Expect, Proxy-*), at most 8 events at the same time.

A recording holds each delivery's time, body and response. Of its token it holds only prefix, cost, and fingerprints of
salt and token, which are equal if the originals are. `smartshape token inspect --recording FILE` evaluates it, and
`smartshape ui FILE` shows it.

The inspector of --ui shows how each delivery was checked, what it changed, and its response; it sends samples, and sends
a delivery again to --forward-to. Its address holds a key, which works in one browser. An address that other machines can
reach wants a password in SMARTSHAPE_UI_PASSWORD.

Exit codes: 0 stopped, and all its webhooks are deleted; 1 otherwise, and webhooks that are left are noted for
`smartshape webhook prune`; 2 wrong usage or settings.

  smartshape webhook listen --event attribute_updated --public-url https://abc.example.com | jq .file")]
pub(crate) struct Listen {
    /// Event to register for; may be repeated. Defaults to all nine
    #[arg(long = "event", value_name = "EVENT", value_parser = input::event())]
    events: Vec<EventKind>,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, visible_alias = "bind", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// URL at which SmartShape reaches the listener, such as a tunnel's. Defaults to the address itself
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Registers even if the listener's own URL is not reachable from here
    #[arg(long)]
    no_probe: bool,
    /// Appends each delivery, including retries, to this file, synced before the response
    #[arg(long, value_name = "FILE")]
    record: Option<String>,
    /// Responds 500 to the first COUNT deliveries, to observe SmartShape's retries
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    fail_first: u32,
    /// Also posts each event unchanged to this endpoint, and reports its responses on standard error
    #[arg(long, value_name = "URL")]
    forward_to: Option<String>,
    /// Serves the inspector: the deliveries in the browser, rejected ones too. Prints its address on standard error
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    ui: Option<SocketAddr>,
    #[command(flatten)]
    secret: SecretArgument,
}

impl Listen {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        let mut events = if self.events.is_empty() { EventKind::ALL.to_vec() } else { self.events.clone() };
        events.sort_unstable();
        events.dedup();
        let api = settings.api()?;
        let endpoint = |url| http_client::parse_endpoint(url, "the endpoint of --forward-to", settings);
        let forward_to = self.forward_to.as_deref().map(endpoint).transpose()?;
        let secret = self.secret(forward_to.is_some())?;
        let recorder = match &self.record {
            Some(path) => Some(Recorder::start(path).await?),
            None => None,
        };
        let (recorder, recorded) = recorder.unzip();
        let (listener, address) =
            http_server::bind(self.listen, "cannot listen on", "choose another --listen").await?;
        let identity = Identity { id: random()?, nonce: random()? };
        let url = self.url(address, &identity.id, &api)?;
        let mut stop = Stop::new()?;

        let forward = forward_to.clone().map(Forward::new).transpose();
        let forward = forward.map_err(|fault| Failure::usage(fault.to_string()))?;
        let failures = stop.failures.clone();
        let sink = Sink::new(self.fail_first, forward.clone(), failures.clone())
            .map_err(|error| failed!("no threads: {error}"))?;
        let inspector = match self.ui {
            Some(listen) => Some(Inspector::start(listen, address, &identity.id, forward_to, &secret).await?),
            None => None,
        };
        let deliveries = inspector.as_ref().map(|inspector| inspector.deliveries.clone());
        let sinks = Sinks { sink: Arc::new(sink), recorder, deliveries, failures };
        let server = Server::start(listener, identity.clone(), secret.clone(), sinks)?;
        print_notice(format_args!("listening on {address}"));

        let registering = async {
            if !self.no_probe {
                probe(&url, &identity.nonce).await?;
            }
            begin(&api, &identity.id, &url, &events).await
        };
        let registered = tokio::select! {
            registered = registering => registered,
            // Nothing is registered yet.
            _ = stop.wait() => {
                print_notice("stopped before anything was registered");
                return Ok(());
            }
        };
        let outcome = match registered {
            Ok(mut journal) => {
                let listened = listen(&api, &mut journal, &url, &secret, &mut stop).await;
                let cleaned = tokio::select! {
                    cleaned = clean_up(&api, journal) => cleaned,
                    () = stop.aborted() => {
                        let text = "stopped in the middle of it: run `smartshape webhook prune` later";
                        return Err(Failure::failed(text));
                    }
                };
                // The earlier failure is the one that `main` prints, last.
                if let (Err(failure), Err(_)) = (&cleaned, &listened) {
                    output::print_failure(failure);
                }
                listened.and(cleaned)
            }
            Err(failure) => Err(failure),
        };
        if let Some(inspector) = inspector {
            inspector.console.stop().await;
        }
        server.stop().await;
        if let Some(recorded) = recorded {
            // Deliveries whose clients have disconnected may still have to be recorded.
            let _ = tokio::time::timeout(serve::GRACE, recorded).await;
        }
        if let Some(forward) = forward {
            forward.finish().await;
        }
        outcome
    }

    /// The URL of the webhooks.
    fn url(&self, address: SocketAddr, id: &str, api: &Api) -> CliResult<String> {
        let api_is_here = is_loopback_url(&api.client.base_url());
        let base = match &self.public_url {
            Some(url) => {
                let uri = http_client::parse_url(url, "the URL of --public-url")?;
                if uri.query().is_some() {
                    return Err(Failure::usage("the URL of --public-url holds a query: end it before the ?"));
                }
                url.clone()
            }
            None if address.ip().is_unspecified() || (address.ip().is_loopback() && !api_is_here) => {
                return Err(usage!(
                    "SmartShape cannot reach {address}: say by --public-url how it can, such as a tunnel's URL"
                ));
            }
            None => format!("http://{address}"),
        };
        Ok(format!("{}/{id}", base.trim_end_matches('/')))
    }

    /// The secret of the webhooks.
    fn secret(&self, known_elsewhere: bool) -> CliResult<Secret> {
        match self.secret.get_if_set()? {
            Some(secret) => Ok(secret),
            // Fails with an error that names the missing secret.
            None if known_elsewhere => self
                .secret
                .get()
                .map_err(|none| none.and("--forward-to needs it, since that endpoint checks it too")),
            None => Ok(Secret::generate()?),
        }
    }
}

/// A console, and the deliveries that it shows.
struct Inspector {
    console: Console,
    deliveries: Deliveries,
}

impl Inspector {
    /// Serves the deliveries of the listener at `address` on the address `listen`.
    async fn start(
        listen: SocketAddr,
        address: SocketAddr,
        id: &str,
        forward_to: Option<Uri>,
        secret: &Secret,
    ) -> CliResult<Self> {
        let mut here = address;
        if here.ip().is_unspecified() {
            here.set_ip(if here.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let here = http_client::parse_url(&format!("http://{here}/{id}"), "the listener's own URL")?;
        let key = secret.clone();
        let sample = |kind| String::from_utf8_lossy(&EventPayload::sample(kind).to_body()).into_owned();
        let mut deliveries =
            Deliveries::new().samples(sample, move |body| send(here.clone(), key.clone(), body));
        if let Some(url) = forward_to {
            let (shown, key) = (url.to_string(), secret.clone());
            deliveries = deliveries.resend_to(&shown, move |body| send(url.clone(), key.clone(), body));
        }
        let shown = deliveries.clone();
        let console = Console::start(listen, console::password(None)?, |access| {
            Ui::deliveries(shown, access).label(&address.to_string())
        });
        let console = console.await?;
        print_notice(format_args!("the console: {}", console.url));
        Ok(Self { console, deliveries })
    }
}

/// Checks that a request to the URL reaches this listener.
async fn probe(url: &str, nonce: &str) -> CliResult {
    let uri = http_client::parse_url(url, "the listener's own URL")?;
    let problem = match http_client::get(&uri, PROBE_TIMEOUT).await {
        Ok(response) if response.status == 200 && response.body == nonce.as_bytes() => return Ok(()),
        Ok(response) => format!("another server responds there, with status {}", response.status),
        Err(fault) => escape(&fault.to_string()),
    };
    Err(failed!(
        "nothing is registered, since {url} does not lead here: {problem}: check --public-url and --listen, or \
         say --no-probe if only this machine cannot reach it"
    ))
}

/// Deletes the webhooks that crashed listeners left, and starts the journal of this one.
async fn begin(api: &Api, id: &str, url: &str, events: &[EventKind]) -> CliResult<Journal> {
    match prune::prune(api, Undeletable::Keep).await {
        Ok(report) => {
            for id in report.deleted {
                print_notice(format_args!("deleted {}, which an earlier listener left", escape(&id)));
            }
        }
        Err(failure) => output::print_failure(&failure),
    }
    let listed = api.client.list_webhooks().await?;
    Journal::begin(Intent {
        version: journal::VERSION,
        id: id.to_owned(),
        api_url: api.client.base_url(),
        account: api.account.clone(),
        url: url.to_owned(),
        events: events.to_vec(),
        listed_before: listed.into_iter().map(|webhook| webhook.id).collect(),
    })
}

/// Registers the webhooks and waits for the stop.
async fn listen(api: &Api, journal: &mut Journal, url: &str, secret: &Secret, stop: &mut Stop) -> CliResult {
    let mut reason = None;
    for event in journal.intent.events.clone() {
        let desired = desired_webhook(event, url, secret)?;
        let mut creating = std::pin::pin!(api.client.create_webhook(&desired));
        // Dropping the call would leave it unclear whether the webhook exists.
        let created = loop {
            tokio::select! {
                created = &mut creating => break created,
                why = stop.wait(), if reason.is_none() => reason = Some(why),
            }
        };
        let created = created.inspect_err(|error| journal.ambiguous = error.is_ambiguous())?;
        journal
            .record(Created { id: created.id, event })
            .map_err(|error| failed!("cannot note what is registered: {error}: is the disk full?"))?;
        if reason.is_some() {
            break;
        }
    }
    let reason = match reason {
        Some(reason) => reason,
        None => {
            let names: Vec<_> = journal.intent.events.iter().map(|event| event.as_str()).collect();
            print_notice(format_args!("registered {} at {url}; ^C ends it", names.join(", ")));
            end_progress();
            stop.wait().await
        }
    };
    match reason {
        Reason::Signal | Reason::OutputClosed => Ok(()),
        Reason::OutputFailed => Err(Failure::printed()),
    }
}

/// Deletes the registered webhooks. The journal stays if that fails.
async fn clean_up(api: &Api, journal: Journal) -> CliResult {
    let path = journal.path.display().to_string();
    match prune::remove(&api.client, &journal).await {
        Ok(removed) => {
            if !removed.deleted.is_empty() {
                print_notice(format_args!("deleted {} webhook(s)", removed.deleted.len()));
            }
            if !removed.unclear.is_empty() {
                prune::print_unclear(&removed.unclear);
                return Err(Failure::printed());
            }
            if journal.ambiguous && removed.deleted.len() == journal.created.len() {
                let text = "the response to a creation was lost, so a webhook may still appear: run \
                            `smartshape webhook prune` in a while";
                return Err(Failure::failed(text));
            }
            journal.end();
            Ok(())
        }
        Err(error) => Err(failed!(
            "webhooks of this listener may still be registered: {}; they are noted in {path}: log in again, then \
             run `smartshape webhook prune`",
            api_chain(&error)
        )),
    }
}

/// 48 random hexadecimal digits.
fn random() -> CliResult<String> {
    Ok(Secret::generate()?.expose().to_owned())
}
