//! What to do so that the registrations are the wanted ones. Decides, and touches nothing.

use std::fmt;

use smartshape_webhook::EventKind;

use super::{Reason, Record, Step, Wanted};
use crate::error::Error;
use crate::registration::Registration;
use crate::text::shown;
use crate::url::redact_url;

/// What [`Client::ensure`](crate::Client::ensure) would do, to be shown or to be
/// [applied](crate::Client::apply). `Display` gives a line for each step and for what is kept; of URLs it
/// shows what [`redact_url`] leaves.
///
/// All creations come before all deletions, so that no event is missed. Only what was created by this crate is
/// deleted, that is what is recorded, unless [`prune`](Self::prune) asks for more.
///
/// | registered | wanted | what is done |
/// |---|---|---|
/// | recorded for this event and URL | yes | kept: its secret is trusted, since lists do not show secrets. Of several the one recorded last is kept |
/// | recorded for this event and URL | yes, and [renewed](Wanted::renewed) | created anew, then deleted |
/// | recorded, but not listed, and another one stands at the same URL for the same event | yes | that one was put in its place, as `smartshape webhook rotate` does: adopted, its secret is trusted to be the wanted one |
/// | the same | yes, and [renewed](Wanted::renewed) | created anew, then deleted |
/// | at a wanted URL, not recorded | any | left, and [shown](Self::unrecorded); [`prune`](Self::prune) deletes it |
/// | recorded | no | deleted |
/// | recorded, but not listed | any | deleted, which is no error when it is gone |
/// | recorded, but listed with another event | any | as if it were not recorded |
/// | without a listed URL, not recorded | any | left, and [shown](Self::unclear) when it may be one of ours |
/// | anything else | any | left |
///
/// ```
/// use smartshape_api::{EventKind, Plan, Wanted, WebhookSecret};
///
/// let secret = WebhookSecret::new("a long and random string")?;
/// let wanted = [Wanted::new(EventKind::FileUploaded, "https://example.com/callback", secret)?];
/// let plan = Plan::new(&wanted, &[], &[])?;
/// assert_eq!(plan.to_string(), "create file_uploaded at https://example.com/callback");
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    kept: Vec<Record>,
    steps: Vec<Step>,
    unrecorded: Vec<Registration>,
    unclear: Vec<Registration>,
}

impl Plan {
    /// Plans, from what is wanted, what is recorded (oldest first), and what is
    /// [listed](crate::Client::list_webhooks).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when an event is wanted twice for one URL.
    pub fn new(wanted: &[Wanted], records: &[Record], listed: &[Registration]) -> Result<Self, Error> {
        for (index, one) in wanted.iter().enumerate() {
            if wanted.iter().take(index).any(|other| is_for(one, other.event, &other.url)) {
                let text =
                    format!("{} is wanted twice for one URL: want it once, with one secret", one.event);
                return Err(Error::settings(text));
            }
        }
        let record_of = |registration: &Registration| {
            let record = records.iter().rev().find(|record| record.id == registration.id)?;
            let agrees = registration.event.as_deref().is_none_or(|event| event == record.event.as_str());
            agrees.then_some(record)
        };

        let is_recorded = |registration: &Registration| record_of(registration).is_some();
        let mut kept: Vec<Record> = Vec::new();
        let mut successors: Vec<&str> = Vec::new();
        let mut steps = Vec::new();
        for one in wanted {
            let recorded = || records.iter().rev().filter(|record| is_for(one, record.event, &record.url));
            let known =
                recorded().find(|record| listed.iter().any(|listed| record_of(listed) == Some(record)));
            // Put in the place of a recorded one that is gone.
            let successor = listed.iter().find(|registration| {
                let place = registration.kind().zip(registration.url.as_deref());
                let same = place.is_some_and(|(event, url)| is_for(one, event, url));
                same && !is_recorded(registration) && known.is_none() && recorded().next().is_some()
            });
            successors.extend(successor.map(|registration| registration.id.as_str()));
            match (known, successor) {
                (Some(record), _) if !one.renewed => kept.push(record.clone()),
                (None, Some(Registration { id, .. })) if !one.renewed => {
                    let record = Record::new(id, one.event, &one.url);
                    steps.push(Step::Adopt(record.clone()));
                    kept.push(record);
                }
                _ => steps.push(Step::Create(one.clone())),
            }
        }

        let mut deletions: Vec<(String, Option<String>, Reason)> = Vec::new();
        let (mut unrecorded, mut unclear) = (Vec::new(), Vec::new());
        for registration in listed {
            let Registration { id, event, url, .. } = registration;
            if kept.iter().any(|record| record.id == *id) || deletions.iter().any(|(known, ..)| known == id) {
                continue;
            }
            let record = record_of(registration);
            let kind = record.map(|record| record.event).or(registration.kind());
            // A record is believed: the server may show the URL in another form.
            let url = record.map(|record| record.url.as_str()).or(url.as_deref());
            if record.is_some() || successors.contains(&id.as_str()) {
                let place = kind.zip(url);
                let taken_by = |event, url| wanted.iter().any(|one| is_for(one, event, url));
                let has_kept = |event, url| kept.iter().any(|one| one.event == event && one.url == url);
                let reason = match place {
                    Some((event, url)) if has_kept(event, url) => Reason::OneTooMany,
                    Some((event, url)) if taken_by(event, url) => Reason::Replaced,
                    _ => Reason::NotWanted,
                };
                deletions.push((id.clone(), event.clone(), reason));
            } else if wanted.iter().any(|one| Some(one.url.as_str()) == url) {
                if !unrecorded.contains(registration) {
                    unrecorded.push(registration.clone());
                }
            } else if url.is_none() && kind.is_none_or(|kind| wanted.iter().any(|one| one.event == kind)) {
                unclear.push(registration.clone());
            }
        }
        for record in records {
            let is_listed = listed.iter().any(|registration| registration.id == record.id);
            if !is_listed && deletions.iter().all(|(id, ..)| *id != record.id) {
                deletions.push((record.id.clone(), Some(record.event.to_string()), Reason::NotListed));
            }
        }
        steps.extend(deletions.into_iter().map(|(id, event, reason)| Step::Delete { id, event, reason }));
        kept.retain(|record| !successors.contains(&record.id.as_str()));
        Ok(Self { kept, steps, unrecorded, unclear })
    }

    /// Deletes at the wanted URLs also what is not recorded, whoever created it.
    ///
    /// ```no_run
    /// use smartshape_api::{Client, Error, Record, Wanted};
    ///
    /// # async fn example(client: Client, wanted: &[Wanted], records: &mut Vec<Record>) -> Result<(), Error> {
    /// let plan = client.plan(wanted, records).await?.prune();
    /// assert!(plan.unrecorded().is_empty());
    /// client.apply(plan, records, |_, _| Ok(())).await
    /// # }
    /// ```
    #[must_use]
    pub fn prune(mut self) -> Self {
        let pruned = self.unrecorded.drain(..).map(|Registration { id, event, .. }| Step::Delete {
            id,
            event,
            reason: Reason::NotRecorded,
        });
        self.steps.extend(pruned);
        self
    }

    /// The steps, in their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The records of what is wanted and there.
    #[must_use]
    pub fn kept(&self) -> &[Record] {
        &self.kept
    }

    /// What points at one of the wanted URLs, but is not recorded: others created it, or a creation whose response was
    /// lost. Left as it is, unless it is [pruned](Self::prune): each event that it sends too comes twice.
    #[must_use]
    pub fn unrecorded(&self) -> &[Registration] {
        &self.unrecorded
    }

    /// What may be ours, but not for certain: its event is a wanted one (or not shown), no URL is
    /// shown, and no record names it. Left as it is; whoever knows better may delete it by its id.
    #[must_use]
    pub fn unclear(&self) -> &[Registration] {
        &self.unclear
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

fn is_for(one: &Wanted, event: EventKind, url: &str) -> bool {
    one.event == event && one.url == url
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.iter().map(|record| {
            let url = shown(&redact_url(&record.url));
            format!("keep {}: {} at {url}", shown(&record.id), record.event)
        });
        let steps = self.steps.iter().map(Step::to_string);
        let leave = |Registration { id, event, .. }: &Registration, why: &str| {
            let event = event.as_deref().map_or("unknown event".to_owned(), shown);
            format!("leave {}: {event}, {why}", shown(id))
        };
        let unrecorded = self.unrecorded.iter().map(|one| leave(one, "not recorded"));
        let unclear =
            self.unclear.iter().map(|one| leave(one, "no URL is listed; delete it by its id if it is yours"));
        let lines: Vec<String> = kept.chain(steps).chain(unrecorded).chain(unclear).collect();
        f.write_str(if lines.is_empty() { "nothing to do" } else { "" })?;
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
