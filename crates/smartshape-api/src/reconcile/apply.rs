//! Executes a plan, step by step.

use super::plan::Plan;
use super::step::{CompletedStep, Step};
use crate::client::Client;
use crate::error::{BoxError, Error, ErrorKind};
use crate::webhook::{DesiredWebhook, WebhookRecord};

impl Client {
    /// Reconciles the account's webhooks with the desired set: makes a [`Plan`], applies it and returns it. Deletes
    /// only webhooks that are recorded.
    ///
    /// `records` is the caller's state, kept from run to run; empty in the first run. `save` must store it durably. It
    /// is called before the first step, so that nothing is created that could not be recorded, and after each step. If
    /// lists do not show URLs, only the records tell which webhooks are ours.
    ///
    /// After an error, another run completes the work. If the response to a creation is lost (see
    /// [`create_webhook`](Self::create_webhook)) or the process dies before `save`, a webhook exists without a record,
    /// and the next run creates another. If lists show URLs, the first is [unrecorded](Plan::unrecorded) and
    /// [`Plan::prune`] deletes it; otherwise it is [unclear](Plan::unclear) and a person has to delete it. Two
    /// concurrent runs can leave a webhook without a record in the same way.
    ///
    /// ```no_run
    /// use smartshape_api::{Client, Error, EventKind, DesiredWebhook, WebhookSecret};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = WebhookSecret::new("a long and random string")?;
    /// let desired = [DesiredWebhook::new(EventKind::FileUploaded, "https://example.com/callback", secret)?];
    /// let mut records = match std::fs::read("webhooks.json") {
    ///     Ok(text) => serde_json::from_slice(&text)?,
    ///     Err(_) => Vec::new(),
    /// };
    /// println!("{}", client.plan(&desired, &records).await?); // a dry run
    /// client
    ///     .reconcile(&desired, &mut records, |records| {
    ///         Ok(std::fs::write("webhooks.json", serde_json::to_vec(records)?)?)
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`plan`](Self::plan) and [`apply`](Self::apply).
    pub async fn reconcile(
        &self,
        desired: &[DesiredWebhook],
        records: &mut Vec<WebhookRecord>,
        mut save: impl FnMut(&[WebhookRecord]) -> Result<(), BoxError>,
    ) -> Result<Plan, Error> {
        let plan = self.plan(desired, records).await?;
        self.apply(plan.clone(), records, |records, _| save(records)).await?;
        Ok(plan)
    }

    /// A dry run of [`reconcile`](Self::reconcile): lists the webhooks and computes the steps.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`list_webhooks`](Self::list_webhooks), and [`ErrorKind::Settings`] when two desired
    /// webhooks have the same event and URL.
    pub async fn plan(&self, desired: &[DesiredWebhook], records: &[WebhookRecord]) -> Result<Plan, Error> {
        // Validates before anything is sent.
        let _ = Plan::new(desired, records, &[])?;
        Plan::new(desired, records, &self.list_webhooks().await?)
    }

    /// Executes a plan. Stops at the first error; `records` then reflects the completed steps. `save` is called with
    /// `None` before the first step, and with each completed step.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`create_webhook`](Self::create_webhook) and [`delete_webhook`](Self::delete_webhook),
    /// except that a missing webhook counts as deleted. [`ErrorKind::NotRecorded`] when `save` fails; the text names
    /// the step that was completed, if any.
    pub async fn apply(
        &self,
        plan: Plan,
        records: &mut Vec<WebhookRecord>,
        mut save: impl FnMut(&[WebhookRecord], Option<&CompletedStep>) -> Result<(), BoxError>,
    ) -> Result<(), Error> {
        let not_recorded = |text: String, source: BoxError| {
            let text = format!("{text}: make the records storable, then run this again");
            Error::new(ErrorKind::NotRecorded, text).with_source(source)
        };
        if !plan.is_empty() {
            let text = "nothing was done, since it could not be recorded";
            save(records, None).map_err(|source| not_recorded(text.to_owned(), source))?;
        }
        let mut created = Vec::new();
        for step in plan.steps {
            let done = match step {
                Step::Create(desired) => {
                    let record = self.create_webhook(&desired).await?;
                    // A server that changes an equal webhook in place returns its id: what was recorded of it is past,
                    // and the step that would delete it is left out.
                    records.retain(|known| known.id != record.id);
                    created.push(record.id.clone());
                    records.push(record.clone());
                    CompletedStep::Created(record)
                }
                Step::Adopt(record) => {
                    records.push(record.clone());
                    CompletedStep::Adopted(record)
                }
                Step::Delete(deletion) if created.contains(&deletion.id) => continue,
                Step::Delete(deletion) => {
                    match self.delete_webhook(&deletion.id).await {
                        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                    records.retain(|record| record.id != deletion.id);
                    CompletedStep::Deleted(deletion)
                }
            };
            save(records, Some(&done))
                .map_err(|source| not_recorded(format!("{done}; but that could not be recorded"), source))?;
        }
        Ok(())
    }
}
