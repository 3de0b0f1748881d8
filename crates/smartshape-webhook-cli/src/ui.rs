//! `smartshape ui`: an inbox, or a recording of deliveries, in the browser.

use std::collections::HashSet;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use smartshape_webhook::RejectionKind;
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_ui::{Deliveries, ReceivedDelivery};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::console::{self, Console};
use crate::failure::{CliResult, Failure, failed};
use crate::input::SecretArgument;
use crate::output::{self, end_progress, print_notice};
use crate::recording::{self, is_recording};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{http_client, inbox, input, webhook};

#[derive(Args)]
#[command(after_help = "\
Prints the console's address and serves it until ^C. The address holds a key, which works in one browser: the first
that opens it. Whoever has it sees all events and may replay and purge them, unless --read-only forbids it.

With a password the address holds no key: the browser asks for the user smartshape and the password. An address that
other machines can reach wants one; put TLS in front of it.

With --read-only the inbox is not changed in any way. Otherwise an inbox of an older version is migrated first.
Each change is a line on standard error.

A recording of `webhook listen --record` shows its newest 500 deliveries. --forward-to sends one of them again, signed
with the secret of --secret, SMARTSHAPE_WEBHOOK_SECRET or SMARTSHAPE_WEBHOOK_SECRET_FILE.

  smartshape ui inbox.db --open
  smartshape ui - < url.txt")]
pub(crate) struct Ui {
    /// The inbox, a path or a postgres:// URL, or the path of a recording; - reads the URL from standard input, since
    /// it may hold a password
    #[arg(value_name = "URL")]
    url: String,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, visible_alias = "bind", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Opens it in the browser
    #[arg(long)]
    open: bool,
    /// Changes nothing, and lets nobody change anything
    #[arg(long)]
    read_only: bool,
    /// File with the console's password, of at least 12 characters; - is standard input. Also by SMARTSHAPE_UI_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// For a recording: the endpoint to which deliveries can be sent again
    #[arg(long, value_name = "URL")]
    forward_to: Option<String>,
    #[command(flatten)]
    secret: SecretArgument,
}

impl Ui {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        // The log says what visitors of the console change, and why it cannot be read.
        output::start_log(Targets::new().with_target("smartshape_webhook_ui", LevelFilter::INFO));
        let mut signals = Signals::with_hangup()?;
        let password = console::password(self.password_file.as_deref())?;
        let url = input::argument_or_stdin(&self.url, "the URL of the inbox")?;
        let source = if is_recording(Path::new(&url)) {
            Source::Recording(self.recording(&url, settings)?)
        } else if self.forward_to.is_some() {
            return Err(Failure::usage("--forward-to is for a recording: leave it out"));
        } else {
            Source::Inbox(inbox::open(&url, self.read_only).await?)
        };
        let mut console = Console::start(self.listen, password, |access| {
            let ui = match source {
                Source::Inbox(inbox) => smartshape_webhook_ui::Ui::inbox(inbox, access),
                Source::Recording(deliveries) => smartshape_webhook_ui::Ui::deliveries(deliveries, access),
            };
            ui.label(&label(&url)).read_only(self.read_only)
        })
        .await?;
        end_progress();
        output::result(&json!({"url": console.url}), &console.url)?;
        print_notice("^C ends it");
        if self.open {
            console.open();
        }
        signals.next().await;
        console.stop().await;
        Ok(())
    }

    /// The deliveries of a recording.
    fn recording(&self, path: &str, settings: &Settings) -> CliResult<Deliveries> {
        let mut deliveries = Deliveries::new();
        if let Some(url) = &self.forward_to {
            let url = http_client::parse_endpoint(url, "the endpoint of --forward-to", settings)?;
            let (shown, secret) = (url.to_string(), self.secret.get()?);
            deliveries =
                deliveries.resend_to(&shown, move |body| webhook::send(url.clone(), secret.clone(), body));
        }
        let mut accepted = HashSet::new();
        for line in input::lines(path, "the recording")?.split(b'\n') {
            let line = line.map_err(|error| failed!("cannot read {path}: {error}"))?;
            let read = recording::entry(&line).map_err(|why| failed!("{path} {why}"))?;
            let Some((entry, body)) = read else { continue };
            let at =
                i64::try_from(entry.received_ms).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
            let rejection =
                RejectionKind::ALL.iter().find(|kind| entry.rejection.as_deref() == Some(kind.name()));
            let took = Duration::from_millis(entry.took_ms);
            let delivery =
                ReceivedDelivery::recorded(at.unwrap_or_default(), took, entry.status, rejection.copied());
            let uuid = entry.event.filter(|_| entry.status == 200).map(|event| event.uuid);
            let delivery = delivery
                .token(&entry.token.prefix, entry.token.cost)
                .duplicate(uuid.is_some_and(|uuid| !accepted.insert(uuid)));
            deliveries.push(match body {
                Some(body) => delivery.body(body),
                None => delivery,
            });
        }
        Ok(deliveries)
    }
}

enum Source {
    Inbox(Inbox),
    Recording(Deliveries),
}

/// The name of an inbox for people: the file's, or host and database without user and password.
fn label(url: &str) -> String {
    if !url.contains("://") {
        let name = Path::new(url).file_name().unwrap_or(url.as_ref());
        return name.to_string_lossy().into_owned();
    }
    let url = url.parse::<http::Uri>().ok();
    url.and_then(|url| Some(format!("{}{}", url.host()?, url.path()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn label_has_no_user_password_or_options() {
        assert_eq!(label("/var/lib/app/inbox.db"), "inbox.db");
        assert_eq!(label("postgres://ada:hunter2@db.example:5432/events?password=x"), "db.example/events");
        assert_eq!(label("postgres://ada:hunter 2@db.example/events"), "");
    }
}
