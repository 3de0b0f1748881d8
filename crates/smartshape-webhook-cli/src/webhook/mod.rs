//! `smartshape webhook`: webhooks registered at SmartShape.

pub(crate) mod apply;
mod create;
mod delete;
mod journal;
mod list;
mod listen;
mod print;
mod prune;
mod rotate;

use clap::Subcommand;
use smartshape_api::{DesiredWebhook, WebhookSecret};
use smartshape_webhook::{EventKind, Secret};

pub(crate) use self::listen::send;

use crate::failure::CliResult;
use crate::settings::Settings;
use crate::signals::Signals;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Registers a webhook
    Create(create::Create),
    /// Lists the webhooks
    List,
    /// Deletes webhooks
    Delete(delete::Delete),
    /// Reconciles the account's webhooks with a file
    Apply(apply::Apply),
    /// Gives a webhook a new secret: creates a new one, then deletes the old one
    Rotate(rotate::Rotate),
    /// Registers webhooks, prints deliveries as JSON lines, and deletes the webhooks at exit
    Listen(Box<listen::Listen>),
    /// Deletes webhooks left behind by crashed listeners
    Prune(prune::Prune),
}

/// A webhook to be registered with a secret of the receiver, whose rules are stricter than the client's.
fn desired_webhook(event: EventKind, url: impl Into<String>, secret: &Secret) -> CliResult<DesiredWebhook> {
    Ok(DesiredWebhook::new(event, url, WebhookSecret::new(secret.expose())?)?)
}

impl Command {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        match self {
            Self::Create(create) => create.run(settings).await,
            Self::List => list::run(settings).await,
            Self::Delete(delete) => delete.run(settings).await,
            Self::Apply(apply) => apply.run(settings, Signals::with_hangup).await,
            Self::Rotate(rotate) => rotate.run(settings).await,
            Self::Listen(listen) => listen.run(settings).await,
            Self::Prune(prune) => prune.run(settings).await,
        }
    }
}
