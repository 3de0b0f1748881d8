//! Deletes what a listener registered, and nobody else's; `smartshape webhook prune`.

use clap::Args;
use serde_json::json;
use smartshape_api::{Client, Error, ErrorKind, Registration};

use super::journal::{Intent, Journal};
use super::print::{delete_command, print_deleted};
use crate::escape::escape;
use crate::failure::{CliResult, Failure, api_chain};
use crate::output::{self, print_notice};
use crate::settings::{Api, Settings};

#[derive(Args)]
#[command(after_help = "\
`webhook listen` notes what it registers. What a listener that crashed, or could not reach SmartShape at its end,
left behind is deleted here, and by the next `webhook listen`; listeners that run are left alone.")]
pub(crate) struct Prune {
    /// Also forgets webhooks that cannot be deleted, such as those at a server that no longer exists
    #[arg(long)]
    forget: bool,
}

/// What happens to a journal whose webhooks cannot all be deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Undeletable {
    Keep,
    Forget,
}

/// The result of pruning all journals.
pub(super) struct PruneReport {
    /// Ids of the deleted webhooks.
    pub(super) deleted: Vec<String>,
    /// Number of journals that were dropped though webhooks of their listeners may be left.
    forgotten: usize,
    /// No journal is left.
    is_complete: bool,
}

/// The result of pruning one journal.
#[derive(Default)]
pub(super) struct PruneOutcome {
    /// Ids of the deleted webhooks.
    pub(super) deleted: Vec<String>,
    /// Webhooks that may be the listener's: the list shows no URLs, so nobody can tell.
    pub(super) unclear: Vec<Registration>,
}

impl Prune {
    pub(crate) async fn run(self, settings: &Settings) -> CliResult {
        let api = settings.api()?;
        let undeletable = if self.forget { Undeletable::Forget } else { Undeletable::Keep };
        let PruneReport { deleted, forgotten, is_complete } = prune(&api, undeletable).await?;
        for id in &deleted {
            print_deleted(id)?;
        }
        if forgotten > 0 {
            let text = format_args!("forgot {forgotten} listener(s)");
            output::done(&json!({"forgotten": forgotten}), text)?;
        } else if deleted.is_empty() && is_complete && !settings.json {
            output::line("nothing is left behind")?;
        }
        if is_complete { Ok(()) } else { Err(Failure::printed()) }
    }
}

/// Deletes the webhooks that crashed listeners left at this server. Prints why a journal is left.
pub(super) async fn prune(api: &Api, undeletable: Undeletable) -> CliResult<PruneReport> {
    let (journals, problems) = Journal::abandoned()?;
    let mut report = PruneReport { deleted: Vec::new(), forgotten: 0, is_complete: problems.is_empty() };
    for problem in problems {
        print_notice(problem);
    }
    for journal in journals {
        let is_pruned = prune_one(api, &journal, &mut report.deleted).await;
        if !is_pruned && undeletable == Undeletable::Keep {
            report.is_complete = false;
            continue;
        }
        report.forgotten += usize::from(!is_pruned);
        journal.end();
    }
    Ok(report)
}

/// Whether nothing is left of this journal's listener; prints why something is.
async fn prune_one(api: &Api, journal: &Journal, deleted: &mut Vec<String>) -> bool {
    if let Some(text) = why_not_deletable(api, &journal.intent) {
        print_notice(text);
        return false;
    }
    match remove(&api.client, journal).await {
        Ok(removed) => {
            print_unclear(&removed.unclear);
            let is_known = !removed.deleted.is_empty() || is_its_account(api, journal);
            deleted.extend(removed.deleted);
            is_known && removed.unclear.is_empty()
        }
        Err(error) => {
            print_notice(format_args!("what a listener left cannot be deleted: {}", api_chain(&error)));
            false
        }
    }
}

/// Why the journal's webhooks cannot be deleted at this server or by this user; `None` if they can.
fn why_not_deletable(api: &Api, intent: &Intent) -> Option<String> {
    if intent.api_url != api.client.base_url() {
        let url = escape(&intent.api_url);
        return Some(format!(
            "a listener left webhooks at {url}: prune there with --api-url {url}, or --forget them"
        ));
    }
    let theirs =
        intent.account.as_ref().filter(|theirs| api.account.as_ref().is_some_and(|ours| ours != *theirs))?;
    Some(format!("a listener of {} left webhooks: log in as that user, or --forget them", escape(theirs)))
}

/// Whether a webhook that this user does not find is gone; says so if it may be another user's.
fn is_its_account(api: &Api, journal: &Journal) -> bool {
    if journal.created.is_empty() || journal.intent.account == api.account {
        return true;
    }
    let whose = journal.intent.account.as_deref().map_or_else(
        || "the auth token that was set then".to_owned(),
        |account| format!("the login of {}", escape(account)),
    );
    print_notice(format_args!(
        "no webhook that a listener left is found, perhaps because it ran with {whose}: prune as that user, or --forget it"
    ));
    false
}

pub(super) fn print_unclear(unclear: &[Registration]) {
    for webhook in unclear {
        let event = webhook.event.as_deref().unwrap_or("an event that is not shown");
        print_notice(format_args!(
            "{} ({}) came after the listener began, and its URL is not shown: if nobody else registered it, {}",
            escape(&webhook.id),
            escape(event),
            delete_command(&webhook.id)
        ));
    }
}

/// Deletes the webhooks of this journal's listener: those that it noted, and those at its URL, which no other
/// listener has.
pub(super) async fn remove(client: &Client, journal: &Journal) -> Result<PruneOutcome, Error> {
    let mut removed = PruneOutcome::default();
    for created in &journal.created {
        delete(client, &created.id, &mut removed).await?;
    }
    let intent = &journal.intent;
    let has = |event| journal.created.iter().any(|created| created.event == event);
    let unrecorded: Vec<_> = intent.events.iter().copied().filter(|event| !has(*event)).collect();
    if unrecorded.is_empty() {
        return Ok(removed);
    }
    for webhook in client.list_webhooks().await? {
        if intent.listed_before.contains(&webhook.id) || removed.deleted.contains(&webhook.id) {
            continue;
        }
        match &webhook.url {
            // The server may show it in another form.
            Some(url) if url.contains(&intent.id) => delete(client, &webhook.id, &mut removed).await?,
            None if webhook.event.is_none()
                || webhook.kind().is_some_and(|kind| unrecorded.contains(&kind)) =>
            {
                removed.unclear.push(webhook);
            }
            Some(_) | None => {}
        }
    }
    Ok(removed)
}

async fn delete(client: &Client, id: &str, removed: &mut PruneOutcome) -> Result<(), Error> {
    match client.delete_webhook(id).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        outcome => {
            outcome?;
            removed.deleted.push(id.to_owned());
        }
    }
    Ok(())
}
