//! A claimed delivery, from the handler's start to the answer.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::Place;
use super::detach::Detaching;
use crate::answer::Answer;
use crate::claims::Claim;
use crate::delivery::Delivery;
use crate::dispatch::FromDelivery;
use crate::handler::{Handler, HandlerError, HandlerErrorKind};
use crate::measure::Arrived;
use crate::refusal::{Refusal, RefusalKind};

/// A delivery that this process alone may handle now, with an `E` taken out of it.
///
/// [`acknowledge`](Self::acknowledge) completes it. Dropping it gives it back: the sender's next
/// attempt is handled, and duplicates that wait are told to try again. Dereferences to the
/// [`Delivery`].
#[must_use = "a claimed delivery that is dropped is given back"]
pub struct Claimed<E = ()> {
    data: E,
    work: Work,
}

/// The parts that end together. The claim goes first, so that a free place means free claims.
struct Work {
    claim: Option<Claim>,
    delivery: Delivery,
    arrived: Arrived,
    place: Place,
}

/// What became of the work on a claimed delivery.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// It was handled: complete the claim.
    Handled,
    /// It failed: give the claim back. The text is for the log.
    Failed(String),
    /// It failed for good: complete the claim, and log the text as an error.
    Abandoned(String),
}

impl Claimed {
    pub(super) fn new(delivery: Delivery, claim: Claim, place: Place, arrived: Arrived) -> Self {
        let work = Work { claim: Some(claim), delivery, arrived, place };
        Self { data: (), work }
    }

    /// Takes an `E` out of the delivery, by the receiver's [`OnMismatch`](crate::OnMismatch) where that fails.
    ///
    /// # Errors
    ///
    /// The [`Answer`] to give at once.
    pub async fn typed<E: FromDelivery>(mut self) -> Result<Claimed<E>, Answer> {
        match self.work.place.receiver().take(&self.work.delivery) {
            Ok(data) => Ok(Claimed { data, work: self.work }),
            Err((answer, ending)) => {
                self.work.end(ending).await;
                Err(answer)
            }
        }
    }

    /// Runs `handler` to its end, whether or not the caller stays, and answers.
    pub fn handle<H: Handler>(self, handler: Arc<H>) -> impl Future<Output = Answer> + Send + use<H> {
        let delivery = self.work.delivery.clone();
        let handled = self.run(async move {
            let outcome = handler.handle(delivery).await;
            (Ending::from(&outcome), answer(&outcome))
        });
        async { handled.await.unwrap_or_else(|answer| answer) }
    }

    /// Runs `work` to its end, and ends the claim as the work says, before it returns what the work
    /// returned. Dropping the returned future does not stop the work: it goes on as a task of its own.
    ///
    /// # Errors
    ///
    /// The [`Answer`] to give, when the work panicked.
    pub fn run<T, W>(mut self, work: W) -> impl Future<Output = Result<T, Answer>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = (Ending, T)> + Send + 'static,
    {
        let span = self.work.delivery.span();
        let task = async move {
            let (ending, value) = work.await;
            self.work.end(ending).await;
            value
        };
        let running = Detaching::new(task.instrument(span));
        async { running.await.map_err(|_| RefusalKind::HandlerFailed.into()) }
    }
}

impl<E> Claimed<E> {
    /// What was taken out of the delivery.
    pub fn data(&self) -> &E {
        &self.data
    }

    /// The delivery.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.work.delivery
    }

    /// Records that the delivery was handled, and returns the success to answer.
    pub async fn acknowledge(mut self) -> Answer {
        self.work.end(Ending::Handled).await;
        Answer::success()
    }
}

impl<E> Deref for Claimed<E> {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.work.delivery
    }
}

impl<E: fmt::Debug> fmt::Debug for Claimed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed")
            .field("data", &self.data)
            .field("delivery", &self.work.delivery)
            .finish_non_exhaustive()
    }
}

impl Work {
    async fn end(&mut self, ending: Ending) {
        let Some(claim) = &mut self.claim else { return };
        let now = Instant::now();
        let took = now - claim.since();
        if !matches!(ending, Ending::Failed(_))
            && let Err(error) = claim.complete(now).await
        {
            // Handled it is, so the sender is told so; a late duplicate may be handled again.
            tracing::error!(key = %self.delivery.key(), %error, "a handled delivery could not be recorded");
        }
        self.claim = None;
        self.place.receiver().report().ended(&self.delivery, &ending, took, self.arrived);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            let took = claim.since().elapsed();
            drop(claim);
            let panicking = std::thread::panicking();
            let why =
                if panicking { "the handler panicked" } else { "it was dropped without an acknowledgement" };
            self.place.receiver().report().ended(
                &self.delivery,
                &Ending::Failed(why.to_owned()),
                took,
                self.arrived,
            );
        }
    }
}

impl From<&Result<(), HandlerError>> for Ending {
    fn from(outcome: &Result<(), HandlerError>) -> Self {
        match outcome {
            Ok(()) => Self::Handled,
            Err(error) if error.kind() == HandlerErrorKind::Permanent => Self::Abandoned(error.chain()),
            Err(error) => Self::Failed(error.chain()),
        }
    }
}

fn answer(outcome: &Result<(), HandlerError>) -> Answer {
    match outcome.as_ref().map_err(HandlerError::kind) {
        Ok(()) | Err(HandlerErrorKind::Permanent) => Answer::success(),
        Err(HandlerErrorKind::Retry) => RefusalKind::HandlerFailed.into(),
        Err(HandlerErrorKind::RetryAfter(wait)) => unavailable(wait),
    }
}

fn unavailable(wait: Duration) -> Answer {
    Refusal::from(RefusalKind::HandlerUnavailable).retry_in(wait).into()
}
