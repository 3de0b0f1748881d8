//! Carrying out a plan, step by step.

use super::{Done, Plan, Record, Step, Wanted};
use crate::client::Client;
use crate::error::{BoxError, Error, ErrorKind};

impl Client {
    /// Makes the registrations of this account be the wanted ones, as far as this crate created them: plans
    /// as [`Plan`] says, applies the plan and returns it.
    ///
    /// `records` is what the caller keeps from run to run (see [`Record`]; empty in the first one).
    /// It is given to `save`, which should store it at once, before the first step, so that nothing is
    /// created that could not be recorded, and again, brought up to date, after each step. Where lists do not show URLs, records alone tell which webhooks are ours.
    ///
    /// After an error nothing is lost, and another run completes the work. One case leaves a rest:
    /// where the answer to a creation is lost (see
    /// [`create_webhook`](Self::create_webhook)), or the process dies before `save`, a webhook
    /// exists that no record names. The next run creates another. Where lists show URLs the first is
    /// [unrecorded](Plan::unrecorded), and [pruning](Plan::prune) deletes it; where they do not, it is
    /// [unclear](Plan::unclear), and somebody has to delete it.
    ///
    /// Two runs at the same time may both create; of one of the two there is then no record either.
    ///
    /// ```no_run
    /// use smartshape_api::{Client, Error, EventKind, Wanted, WebhookSecret};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = WebhookSecret::new("a long and random string")?;
    /// let wanted = [Wanted::new(EventKind::FileUploaded, "https://example.com/callback", secret)?];
    /// let mut records = match std::fs::read("webhooks.json") {
    ///     Ok(text) => serde_json::from_slice(&text)?,
    ///     Err(_) => Vec::new(),
    /// };
    /// println!("{}", client.plan(&wanted, &records).await?); // a dry run
    /// client
    ///     .ensure(&wanted, &mut records, |records| {
    ///         Ok(std::fs::write("webhooks.json", serde_json::to_vec(records)?)?)
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan) and [`apply`](Self::apply).
    pub async fn ensure(
        &self,
        wanted: &[Wanted],
        records: &mut Vec<Record>,
        mut save: impl FnMut(&[Record]) -> Result<(), BoxError>,
    ) -> Result<Plan, Error> {
        let plan = self.plan(wanted, records).await?;
        self.apply(plan.clone(), records, |records, _| save(records)).await?;
        Ok(plan)
    }

    /// A dry run of [`ensure`](Self::ensure): lists, and says what would be done.
    ///
    /// # Errors
    ///
    /// As [`list_webhooks`](Self::list_webhooks), and [`ErrorKind::Settings`] when an event is wanted
    /// twice for one URL.
    pub async fn plan(&self, wanted: &[Wanted], records: &[Record]) -> Result<Plan, Error> {
        // Rejected before anything is sent.
        let _ = Plan::new(wanted, records, &[])?;
        Plan::new(wanted, records, &self.list_webhooks().await?)
    }

    /// Carries out a plan. Stops at the first error; what was done until then is in `records`. `save` gets the step
    /// that was just carried out; none before the first one.
    ///
    /// # Errors
    ///
    /// As [`create_webhook`](Self::create_webhook) and [`delete_webhook`](Self::delete_webhook), but a
    /// webhook that is gone counts as deleted. [`ErrorKind::NotRecorded`] when `save` fails; the text
    /// then says what was done, if anything.
    pub async fn apply(
        &self,
        plan: Plan,
        records: &mut Vec<Record>,
        mut save: impl FnMut(&[Record], Option<&Done>) -> Result<(), BoxError>,
    ) -> Result<(), Error> {
        let not_recorded = |text: String, source: BoxError| {
            let text = format!("{text}: make the records storable, then run this again");
            Error::new(ErrorKind::NotRecorded, text).with_source(source)
        };
        if !plan.is_empty() {
            let text = "nothing was done, since it could not be recorded";
            save(records, None).map_err(|source| not_recorded(text.to_owned(), source))?;
        }
        for step in plan.into_steps() {
            let done = match step {
                Step::Create(wanted) => {
                    let record = self.create_webhook(&wanted).await?;
                    records.push(record.clone());
                    Done::Created(record)
                }
                Step::Adopt(record) => {
                    records.push(record.clone());
                    Done::Adopted(record)
                }
                Step::Delete { id, event, reason } => {
                    match self.delete_webhook(&id).await {
                        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                    records.retain(|record| record.id != id);
                    Done::Deleted { id, event, reason }
                }
            };
            save(records, Some(&done))
                .map_err(|source| not_recorded(format!("{done}; but that could not be recorded"), source))?;
        }
        Ok(())
    }
}
