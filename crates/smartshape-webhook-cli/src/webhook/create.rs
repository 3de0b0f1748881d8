//! `smartshape webhook create`.

use clap::Args;
use smartshape_api::Registration;
use smartshape_webhook::EventKind;

use super::desired_webhook;
use super::print::{delete_command, print_webhook};
use crate::escape::escape;
use crate::failure::CliResult;
use crate::input::{self, SECRET_VARIABLE};
use crate::output::print_notice;
use crate::settings::Settings;
use crate::signals::Signals;

#[derive(Args)]
#[command(after_help = "\
A webhook is for one event. Where there is one already for the same event and URL it is created all the same, and you are
warned: each event comes twice then. `webhook apply` creates only what is missing.

  smartshape webhook create https://example.com/callback file_uploaded - < secret.txt")]
pub(crate) struct Create {
    /// The callback URL
    url: String,
    /// The event
    #[arg(value_parser = input::event())]
    event: EventKind,
    /// The secret, which the receiver knows too; - reads it from standard input, and without it
    /// SMARTSHAPE_WEBHOOK_SECRET is taken
    secret: Option<String>,
}

impl Create {
    pub(super) async fn run(self, settings: &Settings) -> CliResult {
        let how = "give it after the event (- reads it from standard input)";
        let secret = input::secret_from(self.secret.as_deref(), SECRET_VARIABLE, how)?;
        let desired = desired_webhook(self.event, self.url, &secret)?;
        let client = settings.api()?.client;
        // A creation that is cut off may leave a webhook whose id nobody knows. Each call is bounded in time.
        let _signals = Signals::with_hangup()?;
        let created = client.create_webhook(&desired).await?;
        let printed = print_webhook("created", &created);
        // An account may be allowed to create and not to list.
        let listed = client.list_webhooks().await.unwrap_or_default();
        let is_equal = |one: &&Registration| {
            one.id != created.id
                && one.kind() == Some(created.event)
                && one.url.as_ref() == Some(&created.url)
        };
        for one in listed.iter().filter(is_equal) {
            print_notice(format_args!(
                "warning: {} is for the same event and URL, so each event comes twice: delete one, such as by `{}`",
                escape(&one.id),
                delete_command(&one.id)
            ));
        }
        printed
    }
}
