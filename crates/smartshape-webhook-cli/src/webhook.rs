//! `smartshape webhook`: registrations at SmartShape.

use clap::{Args, Subcommand};
use serde_json::json;
use smartshape_api::{Registration, Wanted, WebhookSecret};
use smartshape_webhook::EventKind;

use crate::apply::Apply;
use crate::failure::{Failure, Outcome, chain};
use crate::input;
use crate::listen::{Listen, Prune};
use crate::output::{self, say, shown};
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
    /// Registers webhooks, prints what they send as lines of JSON, and deletes them at its end
    Listen(Box<Listen>),
    /// Deletes what listeners that crashed left behind
    Prune(Prune),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Where SmartShape sends to
    url: String,
    /// The event, such as file_uploaded
    event: EventKind,
    /// The secret; - reads it from standard input, and without it SMARTSHAPE_WEBHOOK_SECRET is taken
    secret: Option<String>,
}

#[derive(Args)]
pub(crate) struct Delete {
    /// What `webhook list` shows
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Command {
    pub(crate) async fn run(self, settings: &Settings) -> Outcome {
        match self {
            Self::Create(create) => create.run(settings).await,
            Self::List => list(settings).await,
            Self::Delete(delete) => delete.run(settings).await,
            Self::Apply(apply) => apply.run(settings).await,
            Self::Listen(listen) => listen.run(settings).await,
            Self::Prune(prune) => prune.run(settings).await,
        }
    }
}

impl Create {
    async fn run(self, settings: &Settings) -> Outcome {
        let secret = input::secret(self.secret.as_deref())?;
        if secret.is_short() {
            say("warning: the secret is short: whoever sees one delivery can guess it");
        }
        let wanted = Wanted::new(self.event, self.url, WebhookSecret::new(secret.expose())?)?;
        let client = settings.api()?.client;
        let created = client.create_webhook(&wanted).await;
        warn_of_fake(&client);
        let created = created?;
        if settings.json {
            return output::json(&json!(created));
        }
        output::line(format_args!("created {}: {} at {}", shown(&created.id), created.event, created.url))
    }
}

async fn list(settings: &Settings) -> Outcome {
    let client = settings.api()?.client;
    let listed = client.list_webhooks().await;
    warn_of_fake(&client);
    let listed = listed?;
    if settings.json {
        let listed = listed.iter().map(|Registration { id, event, url, owner, .. }| {
            json!({"id": id, "event": event, "url": url, "owner": owner})
        });
        return output::json(&listed.collect());
    }
    let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<_> =
        listed.into_iter().map(|one| vec![one.id, cell(one.event), cell(one.url), cell(one.owner)]).collect();
    output::table(&["ID", "EVENT", "URL", "OWNER"], &rows)
}

impl Delete {
    async fn run(self, settings: &Settings) -> Outcome {
        let client = settings.api()?.client;
        let mut failure = None;
        for id in &self.ids {
            match client.delete_webhook(id).await {
                Ok(()) => {
                    let told = if settings.json {
                        output::json(&json!({"deleted": id}))
                    } else {
                        output::line(format_args!("deleted {}", shown(id)))
                    };
                    // Nobody reads: the others are to be deleted all the same.
                    failure = failure.or(told.err());
                }
                // The others may be there all the same.
                Err(error) if error.kind() == smartshape_api::ErrorKind::NotFound => {
                    say(format_args!("there is no webhook {}: see `smartshape webhook list`", shown(id)));
                    failure = Some(Failure::told());
                }
                Err(error) => {
                    say(format_args!("{}: {}", shown(id), chain(&error)));
                    failure = Some(Failure::from(error).silent());
                    break;
                }
            }
        }
        warn_of_fake(&client);
        failure.map_or(Ok(()), Err)
    }
}
