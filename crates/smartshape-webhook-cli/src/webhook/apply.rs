//! `smartshape webhook apply`: reconciles the account's webhooks with a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smartshape_api::{
    CompletedStep, Deletion, DesiredWebhook, ErrorKind, Plan, Registration, Step, WebhookRecord,
};
use smartshape_webhook::{EventKind, Secret};

use super::desired_webhook;
use super::print::print_webhook;
use crate::escape::escape;
use crate::failure::{CliResult, Failure, failed, usage};
use crate::files;
use crate::input::{self, SECRET_VARIABLE, SecretSource};
use crate::output::{self, print_notice};
use crate::settings::{Api, Settings};
use crate::signals::Signals;

#[derive(Args)]
#[command(after_help = r#"The file, of which url and secret may stand at the top for all:

  {"url": "https://example.com/callback", "webhooks": [
    {"event": "file_uploaded", "secret": {"env": "UPLOADS_SECRET"}},
    {"event": "file_optimized", "secret": {"file": "/run/secrets/optimized"}}]}

A webhook without a secret gets that of SMARTSHAPE_WEBHOOK_SECRET. Created webhooks are recorded beside the file, in
FILE.records.json, without any secret: keep it. One run at a time uses the records. A recorded webhook that is left out
of the file is deleted; what others created is left and named, unless --prune deletes it. A webhook that `webhook rotate`
put in the place of a recorded one is adopted: its secret is taken to be the declared one."#)]
pub(crate) struct Apply {
    /// The file that declares the webhooks
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Prints the plan and changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Also deletes unrecorded webhooks at the file's URLs, regardless of who created them
    #[arg(long)]
    prune: bool,
    /// Replaces the webhook of this event, because its secret is new. May be repeated
    #[arg(long, value_name = "EVENT", value_parser = input::event())]
    renew: Vec<EventKind>,
}

/// A webhook of the file.
pub(crate) struct EventSecret {
    pub(crate) event: EventKind,
    url: String,
    pub(crate) secret: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    url: Option<String>,
    secret: Option<SecretSource>,
    webhooks: Vec<DeclaredWebhook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredWebhook {
    event: String,
    url: Option<String>,
    secret: Option<SecretSource>,
}

/// The records that are kept from run to run.
#[derive(Serialize, Deserialize)]
struct RecordsFile {
    api_url: String,
    /// The account that owns the webhooks; unknown if only a token was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    webhooks: Vec<WebhookRecord>,
}

impl Apply {
    /// The command with this file and without any option.
    pub(crate) fn from_path(path: &Path) -> Self {
        Self { path: path.to_owned(), dry_run: false, prune: false, renew: Vec::new() }
    }

    /// Reconciles the account's webhooks with the file. `take_over` says which signals are not to end the program in
    /// the middle of it.
    pub(crate) async fn run(&self, settings: &Settings, take_over: fn() -> CliResult<Signals>) -> CliResult {
        let desired = self.desired()?;
        let api = settings.api()?;
        let client = &api.client;
        let path = PathBuf::from(format!("{}.records.json", self.path.display()));
        let _lock = if self.dry_run { None } else { self.lock(&path)? };
        let RecordsFile { api_url, account, webhooks: mut records } = read(&path, &api)?;
        let plan = client.plan(&desired, &records).await?;
        let plan = if self.prune { plan.prune() } else { plan };
        // The plan is carried out even if nobody reads standard output.
        let mut printed = plan.kept().iter().try_for_each(|record| print_webhook("kept", record));
        if self.dry_run {
            printed = printed.and_then(|()| plan.steps().iter().try_for_each(print_step));
        } else if !plan.is_empty() {
            // A creation that is cut off may leave a webhook without a record. Each call is bounded in time.
            let _signals = take_over()?;
            let save = |records: &[WebhookRecord], done: Option<&CompletedStep>| {
                if printed.is_ok()
                    && let Some(done) = done
                {
                    printed = print_done(done);
                }
                let (api_url, account) = (api_url.clone(), account.clone());
                let kept = RecordsFile { api_url, account, webhooks: records.to_vec() };
                let written = files::replace(&path, &serde_json::to_vec_pretty(&kept)?);
                Ok(written.map_err(|error| format!("cannot write {}: {error}", path.display()))?)
            };
            let applied = client.apply(plan.clone(), &mut records, save).await;
            if let Err(error) = applied {
                // The error's text says what was done.
                if error.kind() == ErrorKind::NotRecorded {
                    return Err(error.into());
                }
                let more = "not all was done: what was is recorded, and another run completes it";
                return Err(Failure::from(error).and(more));
            }
            let recorded = format!("all was done, and is recorded in {}", path.display());
            printed = printed.map_err(|failure| failure.and(&recorded));
        }
        printed?;
        print_left(&plan, settings)
    }

    /// Keeps other runs from using the records. `None` where locks are not possible, such as in a folder in which the
    /// records cannot be written either.
    fn lock(&self, records: &Path) -> CliResult<Option<File>> {
        // The records are another file after each step.
        let path = PathBuf::from(format!("{}.lock", records.display()));
        let file =
            files::private_file(&path).or_else(|_| OpenOptions::new().read(true).write(true).open(&path));
        let Ok(file) = file else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Err(failed!(
                "another run is applying {}: run this again once it has ended",
                self.path.display()
            )),
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// The webhooks of the file, with their secrets.
    pub(crate) fn declared(&self) -> CliResult<Vec<EventSecret>> {
        if self.path == Path::new("-") {
            return Err(Failure::usage(
                "the declaration cannot be standard input: its records stand beside it",
            ));
        }
        let text = input::file(&self.path.to_string_lossy(), "the declared webhooks")?;
        let declared: Declared = serde_json::from_slice(&text).map_err(|error| {
            // serde's own text may quote a secret that was put there, so it is left out.
            let (line, column) = (error.line(), error.column());
            usage!(
                "{} is not as `smartshape webhook apply --help` shows it, at line {line}, column {column}",
                self.path.display()
            )
        })?;
        let mut webhooks = Vec::new();
        for one in declared.webhooks {
            let event: Result<EventKind, _> = one.event.parse();
            let event = event.map_err(|error| usage!("{}: {error}", escape(&one.event)))?;
            let Some(url) = one.url.or_else(|| declared.url.clone()) else {
                return Err(usage!("{} has no url: set one for it, or at the top", one.event));
            };
            let secret = match one.secret.as_ref().or(declared.secret.as_ref()) {
                Some(source) => source.secret()?,
                None => input::secret_from(None, SECRET_VARIABLE, "declare where it is")?,
            };
            webhooks.push(EventSecret { event, url, secret });
        }
        Ok(webhooks)
    }

    fn desired(&self) -> CliResult<Vec<DesiredWebhook>> {
        let mut desired = Vec::new();
        for EventSecret { event, url, secret } in self.declared()? {
            let one = desired_webhook(event, url, &secret)?;
            desired.push(if self.renew.contains(&one.event()) { one.renewed() } else { one });
        }
        if let Some(event) = self.renew.iter().find(|event| desired.iter().all(|one| one.event() != **event))
        {
            return Err(usage!("--renew {event}: the file declares no such webhook"));
        }
        Ok(desired)
    }
}

fn removal(Deletion { id, event, reason, .. }: &Deletion) -> Value {
    json!({"id": id, "event": event, "why": reason.to_string()})
}

fn print_done(done: &CompletedStep) -> CliResult {
    let json = match done {
        CompletedStep::Created(record) => json!({"created": record}),
        CompletedStep::Adopted(record) => json!({"adopted": record}),
        CompletedStep::Deleted(deletion) => json!({"deleted": removal(deletion)}),
        done => json!({"done": done.to_string()}),
    };
    output::result(&json, done)
}

fn print_step(step: &Step) -> CliResult {
    let json = match step {
        Step::Create(desired) => json!({"would_create": {"event": desired.event(), "url": desired.url()}}),
        Step::Adopt(record) => json!({"would_adopt": record}),
        Step::Delete(deletion) => json!({"would_delete": removal(deletion)}),
        step => json!({"would": step.to_string()}),
    };
    output::result(&json, format_args!("would {step}"))
}

/// Prints the webhooks that were left alone and may be duplicates.
fn print_left(plan: &Plan, settings: &Settings) -> CliResult {
    let unrecorded = "not created from this file: --prune deletes it";
    let unclear = "no URL is listed: delete it by its id if it is yours";
    let left = plan.unrecorded().iter().map(|one| (one, unrecorded));
    for (Registration { id, event, url, .. }, why) in
        left.chain(plan.unclear().iter().map(|one| (one, unclear)))
    {
        let name = event.as_deref().unwrap_or("unknown event");
        output::result(
            &json!({"left": {"id": id, "event": event, "url": url, "why": why}}),
            format_args!("left {}: {}, {why}", escape(id), escape(name)),
        )?;
    }
    if plan.is_empty() && !settings.json {
        print_notice("nothing is to be done");
    }
    Ok(())
}

/// The records of this server and account.
fn read(path: &Path, api: &Api) -> CliResult<RecordsFile> {
    let (api_url, account) = (api.client.base_url(), api.account.clone());
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(RecordsFile { api_url, account, webhooks: Vec::new() });
        }
        Err(error) => return Err(usage!("cannot read {}: {error}", path.display())),
    };
    let kept: RecordsFile = serde_json::from_slice(&text).map_err(|error| {
        usage!("{} is broken ({error}): repair it, or restore an older one", path.display())
    })?;
    if kept.api_url != api_url {
        return Err(usage!(
            "{} is of {}, and not of {api_url}: use another file for another server",
            path.display(),
            escape(&kept.api_url)
        ));
    }
    if let (Some(theirs), Some(ours)) = (&kept.account, &account)
        && theirs != ours
    {
        return Err(usage!(
            "{} is of the account {}, and not of {}: log in as that user, or use another file for another account",
            path.display(),
            escape(theirs),
            escape(ours)
        ));
    }
    Ok(RecordsFile { account: kept.account.or(account), ..kept })
}
