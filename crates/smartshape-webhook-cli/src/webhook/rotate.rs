//! `smartshape webhook rotate`: a new secret for a webhook.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use smartshape_api::{
    Client, DesiredWebhook, ErrorKind, Registration, WebhookRecord, WebhookSecret, redact_url,
};
use smartshape_webhook::{EventKind, Secret};

use super::desired_webhook;
use super::print::{delete_command, print_deleted, print_webhook};
use crate::escape::escape;
use crate::failure::{CliResult, Failure, failed, usage};
use crate::files::private_file;
use crate::input::{self, SECRET_VARIABLE};
use crate::output::{self, print_notice};
use crate::settings::Settings;
use crate::signals::Signals;

const NEW_SECRET_VARIABLE: &str = "SMARTSHAPE_NEW_WEBHOOK_SECRET";

#[derive(Args)]
#[command(after_help = "\
SmartShape cannot change a webhook. So a new one is created, for the same event and URL, and then the old one is
deleted: no event is missed. In between both send (the overlap): an event may come twice, each signed with another
secret. So the receiver has to accept both secrets before, and the old one for as long as SmartShape may still repeat
what the old webhook sent. A receiver of this project takes several secrets, each with a name (NamedSecret).

The receiver knows the new secret already:
  smartshape webhook rotate 5c6fd --new-secret - < new-secret.txt
  smartshape webhook rotate --url https://example.com/callback --event file_uploaded   # SMARTSHAPE_NEW_WEBHOOK_SECRET

It does not, so the old webhook stays until it does:
  smartshape webhook rotate 5c6fd --generate new-secret.txt --keep-old
  smartshape webhook delete 5c6fd     # once the receiver accepts both

The new secret: --new-secret, or else SMARTSHAPE_NEW_WEBHOOK_SECRET, or the file that
SMARTSHAPE_NEW_WEBHOOK_SECRET_FILE names. A webhook that `webhook apply` made is rotated by its --renew, or
here: the next `webhook apply` then adopts the new one.")]
pub(crate) struct Rotate {
    /// The webhook, by the ID column of `webhook list`; or else --url and --event name it
    #[arg(value_parser = input::id)]
    id: Option<String>,
    /// The webhook's callback URL; with an ID needed only if `webhook list` shows no URLs
    #[arg(long)]
    url: Option<String>,
    /// The webhook's event
    #[arg(long, value_parser = input::event())]
    event: Option<EventKind>,
    /// The new secret; - reads it from standard input
    #[arg(long, value_name = "SECRET", conflicts_with = "generate")]
    new_secret: Option<String>,
    /// Makes a random secret, and writes it to this new file, which only you can read; requires --keep-old
    #[arg(long, value_name = "FILE")]
    generate: Option<PathBuf>,
    /// Leaves the old webhook, so that both send until `webhook delete`
    #[arg(long)]
    keep_old: bool,
    /// Prints the plan and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// The webhook that is to be replaced.
struct OldWebhook {
    id: String,
    event: EventKind,
    url: String,
}

impl Rotate {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        if self.id.is_none() && (self.url.is_none() || self.event.is_none()) {
            return Err(Failure::usage("which webhook? Name its ID, or --url and --event"));
        }
        let secret = self.secret()?;
        let client = settings.api()?.client;
        let listed = client.list_webhooks().await?;
        let old = self.find(&listed)?;
        let desired = desired_webhook(old.event, &old.url, &secret)?;
        if self.dry_run {
            return self.print_plan(&old);
        }
        // Half a rotation would leave two webhooks that send. Each call is bounded in time.
        let _signals = Signals::with_hangup()?;
        let created = self.create(&client, &desired, &old).await?;
        // The old webhook is deleted even if nobody reads standard output, since both would send otherwise.
        let printed = print_webhook("created", &created);
        if created.id == old.id {
            print_notice(
                "the server changed the webhook in place: it signs with the new secret from now on, and the receiver \
                 should accept the old one as long as SmartShape may repeat what was sent before",
            );
            return printed;
        }
        if self.keep_old {
            return printed.and(print_kept(&old));
        }
        let printed = if delete(&client, &old, &created).await? {
            let deleted = format!("deleted {}", escape(&old.id));
            printed.map_err(|failure| failure.and(&deleted)).and(print_deleted(&old.id))
        } else {
            print_notice(format_args!(
                "{} was gone already: if another rotation replaced it too, both new webhooks send: see `smartshape webhook list`",
                escape(&old.id)
            ));
            printed
        };
        print_notice(
            "the receiver should accept the old secret as long as SmartShape may repeat what the old webhook sent",
        );
        printed
    }

    fn secret(&self) -> CliResult<Secret> {
        if self.generate.is_some() {
            if !self.keep_old {
                let text = "--generate wants --keep-old: the receiver does not know the new secret yet, so the old \
                            webhook has to stay until it does";
                return Err(Failure::usage(text));
            }
            return Ok(Secret::generate()?);
        }
        let how = "give it by --new-secret (- reads it from standard input), or let it be made by --generate";
        let secret = input::secret_from(self.new_secret.as_deref(), NEW_SECRET_VARIABLE, how)?;
        if Secret::from_env(SECRET_VARIABLE).is_ok_and(|old| old.expose() == secret.expose()) {
            return Err(usage!("the new secret is that of {SECRET_VARIABLE}: choose another"));
        }
        Ok(secret)
    }

    /// The one webhook that is meant, with what is needed for creating it anew.
    fn find(&self, listed: &[Registration]) -> CliResult<OldWebhook> {
        let one = match &self.id {
            Some(id) => listed.iter().find(|one| one.id == *id).ok_or_else(|| {
                failed!("there is no webhook {}: see `smartshape webhook list`", escape(id))
            })?,
            None => self.find_by_url(listed)?,
        };
        let id = escape(&one.id);
        let url = match (&one.url, &self.url) {
            (Some(url), Some(named)) if url != named => {
                return Err(failed!(
                    "{id} does not point at the URL of --url: see `smartshape webhook list`"
                ));
            }
            (Some(url), _) | (None, Some(url)) => url.clone(),
            (None, None) => {
                return Err(failed!("the list shows no URLs: say by --url where {id} points at"));
            }
        };
        let event = match (&one.event, one.kind(), self.event) {
            (Some(name), kind, Some(named)) if kind != Some(named) => {
                return Err(failed!("{id} is for {}, and not for {named}", escape(name)));
            }
            (_, Some(event), _) | (None, None, Some(event)) => event,
            (Some(name), None, _) => {
                return Err(failed!("{id} is for {}, which is unknown here", escape(name)));
            }
            (None, None, None) => {
                return Err(failed!("the list shows no events: say by --event which one {id} is for"));
            }
        };
        Ok(OldWebhook { id: one.id.clone(), event, url })
    }

    fn find_by_url<'a>(&self, listed: &'a [Registration]) -> CliResult<&'a Registration> {
        let is_there = |one: &&Registration| one.url == self.url && one.kind() == self.event;
        let found: Vec<_> = listed.iter().filter(is_there).collect();
        match *found {
            [one] => Ok(one),
            [] if listed.iter().any(|one| one.url.is_none()) => {
                Err(Failure::failed("the list shows no URLs: name the webhook by its ID, beside --url"))
            }
            [] => {
                let text = "no webhook for this event points at this URL: see `smartshape webhook list`";
                Err(Failure::failed(text))
            }
            _ => {
                let ids: Vec<_> = found.iter().map(|one| escape(&one.id)).collect();
                Err(failed!("several do: {}: name the one by its ID, or delete the others", ids.join(", ")))
            }
        }
    }

    /// Creates the new webhook, once a generated secret is safe in its file.
    async fn create(
        &self,
        client: &Client,
        desired: &DesiredWebhook,
        old: &OldWebhook,
    ) -> CliResult<WebhookRecord> {
        if let Some(path) = &self.generate {
            write_secret(path, desired.secret())?;
        }
        let created = client.create_webhook(desired).await;
        created.map_err(|error| {
            let old = escape(&old.id);
            if error.is_ambiguous() {
                return Failure::from(error).and(&format!(
                    "{old} is as it was: if `smartshape webhook list` shows a new webhook beside it, delete one of the two"
                ));
            }
            if let Some(path) = &self.generate {
                let _ = std::fs::remove_file(path);
            }
            Failure::from(error).and(&format!("nothing was changed, {old} is as it was"))
        })
    }

    fn print_plan(&self, old: &OldWebhook) -> CliResult {
        let (what, verb) = if self.keep_old { ("would_keep", "keep") } else { ("would_delete", "delete") };
        output::result(
            &json!({"would_create": {"event": old.event, "url": old.url}}),
            format_args!("would create {} at {}", old.event, escape(&redact_url(&old.url))),
        )?;
        output::result(&json!({what: old.id}), format_args!("would {verb} {}", escape(&old.id)))
    }
}

fn write_secret(path: &Path, secret: &WebhookSecret) -> CliResult {
    let written = private_file(path).and_then(|mut file| {
        let written = writeln!(file, "{}", secret.expose()).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    });
    written.map_err(|error| {
        failed!("nothing was changed: cannot write the new secret to {}: {error}", path.display())
    })
}

/// Deletes the old webhook. Returns false if it was gone already.
async fn delete(client: &Client, old: &OldWebhook, created: &WebhookRecord) -> CliResult<bool> {
    match client.delete_webhook(&old.id).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::from(error).and(&format!(
            "half done: the new webhook {} is there, and the old one may be too, so that both send: run \
                 `{}`",
            escape(&created.id),
            delete_command(&old.id)
        ))),
    }
}

fn print_kept(old: &OldWebhook) -> CliResult {
    let printed = output::result(&json!({"kept": old.id}), format_args!("kept {}", escape(&old.id)));
    let command = delete_command(&old.id);
    print_notice(format_args!("both send until `{command}`: let the receiver accept both secrets before"));
    printed
}
