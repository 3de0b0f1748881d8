//! Computes the steps of a reconciliation, without side effects.

use std::collections::{HashMap, HashSet};
use std::fmt;

use smartshape_webhook::EventKind;

use super::step::{DeleteReason, Deletion, Step};
use crate::error::Error;
use crate::problem::escape_and_truncate;
use crate::registration::Registration;
use crate::url::redact_url;
use crate::webhook::{DesiredWebhook, WebhookRecord};

/// The steps of [`Client::reconcile`](crate::Client::reconcile), to be displayed or [applied](crate::Client::apply).
/// `Display` prints a line for each step and each kept webhook, with [`redact_url`] applied to URLs.
///
/// All creations come before all deletions, so that no event is missed. Only recorded webhooks are deleted, unless
/// [`prune`](Self::prune) is called.
///
/// | registered | desired | action |
/// |---|---|---|
/// | recorded for this event and URL | yes | kept; its secret is assumed to be the desired one, because lists do not show secrets. Of several, the one recorded last is kept |
/// | recorded for this event and URL | yes, and [renewed](DesiredWebhook::renewed) | a new one is created, then this one is deleted |
/// | recorded, but not listed, and another webhook has its event and URL | yes | the other one is adopted: it replaced the recorded one, as `smartshape webhook rotate` does, and its secret is assumed to be the desired one |
/// | the same | yes, and [renewed](DesiredWebhook::renewed) | a new one is created, then this one is deleted |
/// | at a desired URL, not recorded | any | left and reported as [unrecorded](Self::unrecorded); [`prune`](Self::prune) deletes it |
/// | recorded | no | deleted |
/// | recorded, but not listed | any | deleted; it may be gone already |
/// | recorded, but listed with another event | any | treated as not recorded |
/// | without a listed URL, not recorded | any | left, and reported as [unclear](Self::unclear) if it may be ours |
/// | anything else | any | left |
///
/// ```
/// use smartshape_api::{EventKind, Plan, DesiredWebhook, WebhookSecret};
///
/// let secret = WebhookSecret::new("a long and random string")?;
/// let desired = [DesiredWebhook::new(EventKind::FileUploaded, "https://example.com/callback", secret)?];
/// let plan = Plan::new(&desired, &[], &[])?;
/// assert_eq!(plan.to_string(), "create file_uploaded at https://example.com/callback");
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    kept: Vec<WebhookRecord>,
    pub(super) steps: Vec<Step>,
    unrecorded: Vec<Registration>,
    unclear: Vec<Registration>,
}

impl Plan {
    /// Computes the plan from the desired webhooks, the records (oldest first) and the
    /// [listed](crate::Client::list_webhooks) webhooks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when two desired webhooks have the same event
    /// and URL.
    pub fn new(
        desired: &[DesiredWebhook],
        records: &[WebhookRecord],
        listed: &[Registration],
    ) -> Result<Self, Error> {
        let mut places = HashSet::new();
        for webhook in desired {
            if !places.insert((webhook.event, &*webhook.url)) {
                let text =
                    format!("{} is desired twice for one URL: list it once, with one secret", webhook.event);
                return Err(Error::settings(text));
            }
        }
        // The last one of an id counts.
        let by_id: HashMap<&str, &WebhookRecord> =
            records.iter().map(|record| (&*record.id, record)).collect();
        let record_for = |registration: &Registration| {
            let record = *by_id.get(&*registration.id)?;
            let agrees = registration.event.as_deref().is_none_or(|event| event == record.event.as_str());
            agrees.then_some(record)
        };

        let is_recorded = |registration: &Registration| record_for(registration).is_some();
        let listed_records: HashMap<&str, &WebhookRecord> =
            listed.iter().filter_map(record_for).map(|record| (&*record.id, record)).collect();
        let mut kept: Vec<WebhookRecord> = Vec::new();
        let mut replacements: Vec<&str> = Vec::new();
        let mut steps = Vec::new();
        for webhook in desired {
            let recorded =
                || records.iter().rev().filter(|record| is_for(webhook, record.event, &record.url));
            let known = recorded().find(|record| listed_records.get(&*record.id) == Some(record));
            // Replaced a recorded webhook that is gone.
            let replacement = listed.iter().find(|registration| {
                let place = registration.kind().zip(registration.url.as_deref());
                let same = place.is_some_and(|(event, url)| is_for(webhook, event, url));
                same && !is_recorded(registration) && known.is_none() && recorded().next().is_some()
            });
            replacements.extend(replacement.map(|registration| registration.id.as_str()));
            match (known, replacement) {
                (Some(record), _) if !webhook.renewed => kept.push(record.clone()),
                (None, Some(Registration { id, .. })) if !webhook.renewed => {
                    let record = WebhookRecord::new(id, webhook.event, &webhook.url);
                    steps.push(Step::Adopt(record.clone()));
                    kept.push(record);
                }
                _ => steps.push(Step::Create(webhook.clone())),
            }
        }

        let mut deletions: Vec<Deletion> = Vec::new();
        let (mut unrecorded, mut unclear) = (Vec::new(), Vec::new());
        for registration in listed {
            let Registration { id, event, url, .. } = registration;
            if kept.iter().any(|record| record.id == *id) || deletions.iter().any(|known| known.id == *id) {
                continue;
            }
            let record = record_for(registration);
            let kind = record.map(|record| record.event).or(registration.kind());
            // The record wins: the server may show the URL in another form.
            let url = record.map(|record| record.url.as_str()).or(url.as_deref());
            if record.is_some() || replacements.contains(&id.as_str()) {
                let place = kind.zip(url);
                let taken_by = |event, url| desired.iter().any(|webhook| is_for(webhook, event, url));
                let has_kept =
                    |event, url| kept.iter().any(|record| record.event == event && record.url == url);
                let reason = match place {
                    Some((event, url)) if has_kept(event, url) => DeleteReason::Duplicate,
                    Some((event, url)) if taken_by(event, url) => DeleteReason::Replaced,
                    _ => DeleteReason::NotDesired,
                };
                deletions.push(Deletion { id: id.clone(), event: event.clone(), reason });
            } else if desired.iter().any(|webhook| Some(webhook.url.as_str()) == url) {
                if !unrecorded.contains(registration) {
                    unrecorded.push(registration.clone());
                }
            } else if url.is_none()
                && kind.is_none_or(|kind| desired.iter().any(|webhook| webhook.event == kind))
            {
                unclear.push(registration.clone());
            }
        }
        for record in records {
            let is_listed = listed.iter().any(|registration| registration.id == record.id);
            if !is_listed && deletions.iter().all(|known| known.id != record.id) {
                let (id, event) = (record.id.clone(), Some(record.event.to_string()));
                deletions.push(Deletion { id, event, reason: DeleteReason::NotListed });
            }
        }
        steps.extend(deletions.into_iter().map(Step::Delete));
        kept.retain(|record| !replacements.contains(&record.id.as_str()));
        Ok(Self { kept, steps, unrecorded, unclear })
    }

    /// Also deletes unrecorded webhooks at the desired URLs, regardless of who created them.
    ///
    /// ```no_run
    /// use smartshape_api::{Client, Error, WebhookRecord, DesiredWebhook};
    ///
    /// # async fn example(client: Client, desired: &[DesiredWebhook], records: &mut Vec<WebhookRecord>) -> Result<(), Error> {
    /// let plan = client.plan(desired, records).await?.prune();
    /// assert!(plan.unrecorded().is_empty());
    /// client.apply(plan, records, |_, _| Ok(())).await
    /// # }
    /// ```
    #[must_use]
    pub fn prune(mut self) -> Self {
        let pruned = self.unrecorded.drain(..).map(|Registration { id, event, .. }| {
            Step::Delete(Deletion { id, event, reason: DeleteReason::NotRecorded })
        });
        self.steps.extend(pruned);
        self
    }

    /// The steps, in their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Records of the webhooks that are kept.
    #[must_use]
    pub fn kept(&self) -> &[WebhookRecord] {
        &self.kept
    }

    /// Webhooks at a desired URL without a record: created by others, or by a creation whose response was lost. They
    /// are left alone unless [pruned](Self::prune); their events arrive twice.
    #[must_use]
    pub fn unrecorded(&self) -> &[Registration] {
        &self.unrecorded
    }

    /// Webhooks that may be ours: listed without a URL and without a record, for a desired event or an unknown one.
    /// They are left alone; delete them by id if they are yours.
    #[must_use]
    pub fn unclear(&self) -> &[Registration] {
        &self.unclear
    }

    /// Whether the plan has no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

fn is_for(webhook: &DesiredWebhook, event: EventKind, url: &str) -> bool {
    webhook.event == event && webhook.url == url
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.iter().map(|record| {
            let url = escape_and_truncate(&redact_url(&record.url));
            format!("keep {}: {} at {url}", escape_and_truncate(&record.id), record.event)
        });
        let steps = self.steps.iter().map(Step::to_string);
        let leave = |Registration { id, event, .. }: &Registration, why: &str| {
            let event = event.as_deref().map_or("unknown event".to_owned(), escape_and_truncate);
            format!("leave {}: {event}, {why}", escape_and_truncate(id))
        };
        let unrecorded = self.unrecorded.iter().map(|registration| leave(registration, "not recorded"));
        let unclear = self
            .unclear
            .iter()
            .map(|registration| leave(registration, "no URL is listed; delete it by its id if it is yours"));
        let lines: Vec<String> = kept.chain(steps).chain(unrecorded).chain(unclear).collect();
        f.write_str(if lines.is_empty() { "nothing to do" } else { "" })?;
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
