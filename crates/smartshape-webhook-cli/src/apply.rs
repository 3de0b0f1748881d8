//! `smartshape webhook apply`: makes the registrations be those that a file declares.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smartshape_api::{Client, ErrorKind, Plan, Record, Registration, Step, Wanted, WebhookSecret};
use smartshape_webhook::{EventKind, Secret};

use crate::failure::{Failure, Outcome};
use crate::input::{self, SECRET_VARIABLE};
use crate::output;
use crate::settings::{Settings, private_file, warn_of_fake};

#[derive(Args)]
#[command(after_help = r#"The file, of which url and secret may stand at the top for all:

  {"url": "https://example.com/callback", "webhooks": [
    {"event": "file_uploaded", "secret": {"env": "UPLOADS_SECRET"}},
    {"event": "file_optimized", "secret": {"file": "/run/secrets/optimized"}}]}

Without a secret it is that of SMARTSHAPE_WEBHOOK_SECRET. What was created is recorded beside the file, in
FILE.records.json, without any secret: keep it. Touched is what is recorded there, and what points at one of the
URLs; a webhook that is left out of the file is deleted."#)]
pub(crate) struct Apply {
    /// The file that declares the webhooks
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Only shows what would be done
    #[arg(long)]
    dry_run: bool,
    /// The secret of this event's webhook is a new one: replaces it. May be repeated
    #[arg(long, value_name = "EVENT", value_parser = input::event())]
    renew: Vec<EventKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    url: Option<String>,
    secret: Option<Source>,
    webhooks: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    event: String,
    url: Option<String>,
    secret: Option<Source>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Source {
    Env(String),
    File(PathBuf),
}

/// What is kept from run to run.
#[derive(Serialize, Deserialize)]
struct Kept {
    api_url: String,
    webhooks: Vec<Record>,
}

impl Apply {
    pub(crate) async fn run(self, settings: &Settings) -> Outcome {
        let wanted = self.wanted()?;
        let client = settings.api()?.client;
        let path = PathBuf::from(format!("{}.records.json", self.path.display()));
        let mut records = read(&path, &client)?;
        let plan = client.plan(&wanted, &records).await;
        warn_of_fake(&client);
        let plan = plan?;
        if !self.dry_run && !plan.is_empty() {
            let save = |records: &[Record]| {
                let kept = Kept { api_url: client.base_url(), webhooks: records.to_vec() };
                let written = write(&path, &kept);
                Ok(written.map_err(|error| format!("cannot write {}: {error}", path.display()))?)
            };
            let applied = client.apply(plan.clone(), &mut records, save).await;
            if let Err(error) = applied {
                // Its own text says what was done.
                if error.kind() == ErrorKind::NotRecorded {
                    return Err(error.into());
                }
                let more = "not all was done: what was is recorded, and another run completes it";
                return Err(Failure::from(error).and(more));
            }
        }
        if settings.json { output::json(&self.report(&plan)) } else { output::line(&plan) }
    }

    fn wanted(&self) -> Outcome<Vec<Wanted>> {
        if self.path == Path::new("-") {
            return Err(Failure::usage(
                "the declaration cannot be standard input: its records stand beside it",
            ));
        }
        let text = input::file(&self.path.to_string_lossy(), "the declared webhooks")?;
        let declared: Declared = serde_json::from_slice(&text).map_err(|error| {
            // Not serde's own text, which may quote a secret that was put there.
            let (line, column) = (error.line(), error.column());
            let text = format!(
                "{} is not as `smartshape webhook apply --help` shows it, at line {line}, column {column}",
                self.path.display()
            );
            Failure::usage(text)
        })?;
        let mut wanted = Vec::new();
        for one in declared.webhooks {
            let event: EventKind = one
                .event
                .parse()
                .map_err(|error| Failure::usage(format!("{}: {error}", output::shown(&one.event))))?;
            let Some(url) = one.url.or_else(|| declared.url.clone()) else {
                return Err(Failure::usage(format!(
                    "{} has no url: set one for it, or at the top",
                    one.event
                )));
            };
            let secret = match one.secret.or_else(|| declared.secret.clone()) {
                Some(Source::Env(name)) => Secret::from_env(&name)?,
                Some(Source::File(path)) => Secret::from_file(path)?,
                None => {
                    let how = "declare where it is";
                    input::secret_from(None, SECRET_VARIABLE, how)?
                }
            };
            let one = Wanted::new(event, url, WebhookSecret::new(secret.expose())?)?;
            wanted.push(if self.renew.contains(&one.event()) { one.renewed() } else { one });
        }
        if let Some(event) = self.renew.iter().find(|event| wanted.iter().all(|one| one.event() != **event)) {
            return Err(Failure::usage(format!("--renew {event}: the file declares no such webhook")));
        }
        Ok(wanted)
    }

    fn report(&self, plan: &Plan) -> Value {
        let steps = plan.steps().iter().map(|step| match step {
            Step::Create(wanted) => json!({"create": wanted.event(), "url": wanted.url()}),
            Step::Delete { id, event, reason, .. } => {
                json!({"delete": id, "event": event, "reason": reason.to_string()})
            }
            step => json!({"other": step.to_string()}),
        });
        let unclear = |Registration { id, event, .. }: &Registration| json!({"id": id, "event": event});
        json!({
            "applied": !self.dry_run, "kept": plan.kept(), "steps": steps.collect::<Vec<_>>(),
            "unclear": plan.unclear().iter().map(unclear).collect::<Vec<_>>(),
        })
    }
}

fn read(path: &Path, client: &Client) -> Outcome<Vec<Record>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    };
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| {
        let text = format!("{} is broken ({error}): repair it, or restore an older one", path.display());
        Failure::usage(text)
    })?;
    if kept.api_url != client.base_url() {
        let text = format!(
            "{} is of {}, and not of {}: use another file for another server",
            path.display(),
            output::shown(&kept.api_url),
            client.base_url()
        );
        return Err(Failure::usage(text));
    }
    Ok(kept.webhooks)
}

/// Whole or not at all.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    // Left by a run that ended in the middle.
    let _ = fs::remove_file(&new);
    let mut file = private_file(&new)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
