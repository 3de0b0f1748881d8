//! `smartshape ui`: an inbox in the browser.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::console::{self, Console};
use crate::failure::{Failure, Outcome};
use crate::output::{self, end_progress, print_notice};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{inbox, input};

#[derive(Args)]
#[command(after_help = "\
Prints the console's address and serves it until ^C. The address holds a key, which works in one browser: the first
that opens it. Whoever has it sees all events and may replay and purge them, unless --read-only forbids it.

With a password the address holds no key: the browser asks for the user smartshape and the password. An address that
other machines can reach wants one; put TLS in front of it.

With --read-only the inbox is not changed in any way. Otherwise an inbox of an older version is migrated first.

  smartshape ui inbox.db --open
  smartshape ui - < url.txt")]
pub(crate) struct Ui {
    /// The inbox: a path, or a postgres:// URL; - reads it from standard input, since a URL may hold a password
    #[arg(value_name = "PLACE")]
    place: String,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// Opens it in the browser
    #[arg(long)]
    open: bool,
    /// Changes nothing, and lets nobody change anything
    #[arg(long)]
    read_only: bool,
    /// File with the console's password, of at least 12 characters; - is standard input. Also by SMARTSHAPE_UI_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
}

impl Ui {
    pub(crate) async fn run(self, _: &Settings) -> Outcome {
        let mut signals = Signals::new().map_err(|error| Failure::failed(format!("no signals: {error}")))?;
        let password = console::password(self.password_file.as_deref())?;
        let place = input::hidden(&self.place, "the URL of the inbox")?;
        let inbox = inbox::open(&place, self.read_only).await?;
        let mut console = Console::start(self.bind, password, |access| {
            let ui = smartshape_webhook_ui::Ui::inbox(inbox, access);
            ui.label(&label(&place)).read_only(self.read_only)
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
}

/// The name of an inbox for people: the file's, or host and database without user and password.
fn label(place: &str) -> String {
    if !place.contains("://") {
        let name = Path::new(place).file_name().unwrap_or(place.as_ref());
        return name.to_string_lossy().into_owned();
    }
    let url = place.parse::<http::Uri>().ok();
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
