//! `smartshape webhook`: registrations at SmartShape.

use clap::{Args, Subcommand};
use serde_json::json;
use smartshape_api::{DesiredWebhook, Registration, WebhookSecret, redact_url};
use smartshape_webhook::EventKind;

use crate::apply::Apply;
use crate::failure::{Failure, Outcome, api_chain};
use crate::input::{self, SECRET_VARIABLE};
use crate::listen::{Listen, Prune};
use crate::output::{self, say, shown};
use crate::rotate::{Rotate, tell_created};
use crate::settings::{Settings, warn_of_fake};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Registers a webhook
    Create(Create),
    /// Lists the webhooks
    List,
    /// Deletes webhooks
    Delete(Delete),
    /// Makes the registrations be those that a file declares
    Apply(Apply),
    /// Gives a webhook a new secret: creates a new one, then deletes the old one
    Rotate(Rotate),
    /// Registers webhooks, prints what they send as lines of JSON, and deletes them at its end
    Listen(Box<Listen>),
    /// Deletes what listeners that crashed left behind
    Prune(Prune),
}

#[derive(Args)]
#[command(after_help = "\
A webhook is for one event. Where there is one already for the same event and URL it is created all the same, and you are
warned: each event comes twice then. `webhook apply` creates only what is missing.

  smartshape webhook create https://example.com/callback file_uploaded - < secret.txt")]
pub(crate) struct Create {
    /// Where SmartShape sends to
    url: String,
    /// The event
    #[arg(value_parser = input::event())]
    event: EventKind,
    /// The secret, which the receiver knows too; - reads it from standard input, and without it
    /// SMARTSHAPE_WEBHOOK_SECRET is taken
    secret: Option<String>,
}

#[derive(Args)]
pub(crate) struct Delete {
    /// The webhooks, by the ID column of `webhook list`
    #[arg(required = true, value_name = "ID", value_parser = input::id)]
    ids: Vec<String>,
}

impl Command {
    pub(crate) async fn run(self, settings: &Settings) -> Outcome {
        match self {
            Self::Create(create) => create.run(settings).await,
            Self::List => list(settings).await,
            Self::Delete(delete) => delete.run(settings).await,
            Self::Apply(apply) => apply.run(settings).await,
            Self::Rotate(rotate) => rotate.run(settings).await,
            Self::Listen(listen) => listen.run(settings).await,
            Self::Prune(prune) => prune.run(settings).await,
        }
    }
}

impl Create {
    async fn run(self, settings: &Settings) -> Outcome {
        let how = "give it after the event (- reads it from standard input)";
        let secret = input::secret_from(self.secret.as_deref(), SECRET_VARIABLE, how)?;
        let wanted = DesiredWebhook::new(self.event, self.url, WebhookSecret::new(secret.expose())?)?;
        let client = settings.api()?.client;
        let created = client.create_webhook(&wanted).await;
        warn_of_fake(&client);
        let created = created?;
        let told = tell_created(&created, settings);
        // An account may be allowed to create and not to list.
        let listed = client.list_webhooks().await.unwrap_or_default();
        let is_equal = |one: &&Registration| {
            one.id != created.id
                && one.kind() == Some(created.event)
                && one.url.as_ref() == Some(&created.url)
        };
        for one in listed.iter().filter(is_equal) {
            say(format_args!(
                "warning: {} is for the same event and URL, so each event comes twice: delete one, such as by `{}`",
                shown(&one.id),
                command_to_delete(&one.id)
            ));
        }
        told
    }
}

async fn list(settings: &Settings) -> Outcome {
    let client = settings.api()?.client;
    let listed = client.list_webhooks().await;
    warn_of_fake(&client);
    let listed = listed?;
    if settings.json {
        return listed.iter().try_for_each(|Registration { id, event, url, owner, .. }| {
            output::json(&json!({"id": id, "event": event, "url": url, "owner": owner}))
        });
    }
    if listed.is_empty() {
        say("there are no webhooks");
    }
    let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    // Tables end up in logs; --json has the whole URL.
    let url = |one: &Registration| cell(one.url.as_deref().map(redact_url));
    let row = |one: Registration| vec![one.id.clone(), cell(one.event.clone()), url(&one), cell(one.owner)];
    let rows: Vec<_> = listed.into_iter().map(row).collect();
    output::table(&["ID", "EVENT", "URL", "OWNER"], &rows)
}

impl Delete {
    async fn run(self, settings: &Settings) -> Outcome {
        let client = settings.api()?.client;
        let mut failure = None;
        let mut ids = self.ids.iter();
        while let Some(id) = ids.next() {
            match client.delete_webhook(id).await {
                Ok(()) => {
                    // Nobody reads: the others are to be deleted all the same.
                    failure = failure.or(tell_deleted(id, settings).err());
                }
                // The others may be there all the same.
                Err(error) if error.kind() == smartshape_api::ErrorKind::NotFound => {
                    say(format_args!("there is no webhook {}: see `smartshape webhook list`", shown(id)));
                    failure = Some(Failure::told());
                }
                Err(error) => {
                    say(format_args!("{}: {}", shown(id), api_chain(&error)));
                    let rest: Vec<_> = ids.by_ref().map(|id| shown(id)).collect();
                    if !rest.is_empty() {
                        say(format_args!("not tried any more: {}", rest.join(" ")));
                    }
                    failure = Some(Failure::from(error).silent());
                }
            }
        }
        warn_of_fake(&client);
        failure.map_or(Ok(()), Err)
    }
}

/// The command that deletes a webhook, to be copied to a shell: the server chose the id, which is one word there
/// whatever it holds.
pub(crate) fn command_to_delete(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let word = if !id.is_empty() && id.bytes().all(is_plain) {
        id.to_owned()
    } else {
        format!("'{}'", shown(id).replace('\'', r"'\''"))
    };
    let no_option = if id.starts_with('-') { "-- " } else { "" };
    format!("smartshape webhook delete {no_option}{word}")
}

/// A line of the result.
pub(crate) fn tell_deleted(id: &str, settings: &Settings) -> Outcome {
    if settings.json {
        return output::json(&json!({"deleted": id}));
    }
    output::line(format_args!("deleted {}", shown(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_word_of_a_shell_and_no_option() {
        for (id, word) in [
            ("5c6f_d-E", "5c6f_d-E"),
            ("5c6f$(touch PWNED)", "'5c6f$(touch PWNED)'"),
            ("a'b;`c`", r"'a'\''b;`c`'"),
            ("~", "'~'"),
            ("two\nlines", r"'two\nlines'"),
            ("", "''"),
            ("--help", "-- --help"),
            ("-a b", "-- '-a b'"),
        ] {
            assert_eq!(command_to_delete(id), format!("smartshape webhook delete {word}"));
        }
    }
}
