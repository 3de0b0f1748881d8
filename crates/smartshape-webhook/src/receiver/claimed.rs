//! A claimed delivery, from the handler's start to the response.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::Permit;
use super::detach::DetachOnDrop;
use crate::dedup::in_flight::Claim;
use crate::delivery::Delivery;
use crate::delivery::handler::{Handler, HandlerError, HandlerErrorKind};
use crate::delivery::router::FromDelivery;
use crate::metrics::Timer;
use crate::response::WebhookResponse;
use crate::response::rejection::{Rejection, RejectionKind};

/// A delivery claimed by this process, with an `E` extracted from it. No other process handles it meanwhile.
///
/// [`acknowledge`](Self::acknowledge) completes it. Dropping it releases the claim: the sender's next attempt is
/// handled, and duplicates that wait are rejected with 503. Dereferences to the [`Delivery`].
#[must_use = "a claimed delivery that is dropped is released"]
pub struct Claimed<E = ()> {
    extracted: E,
    work: Work,
}

/// A claim and what is released with it. The claim is dropped before the permit, so that `drain`, which waits for the
/// permits, leaves no claim behind.
struct Work {
    claim: Option<Claim>,
    delivery: Delivery,
    timer: Timer,
    permit: Permit,
}

/// How the handling of a delivery ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled. The claim is completed.
    Acknowledged,
    /// Failed. The claim is released, so that a retry is handled. The text is logged as a warning.
    Failed(String),
    /// Failed permanently. The claim is completed, so that retries are not handled. The text is logged as an error.
    Discarded(String),
}

impl Claimed {
    pub(super) fn new(delivery: Delivery, claim: Claim, permit: Permit, timer: Timer) -> Self {
        let work = Work { claim: Some(claim), delivery, timer, permit };
        Self { extracted: (), work }
    }

    /// Extracts an `E` from the delivery, and applies the receiver's [`OnUnexpectedEvent`](crate::OnUnexpectedEvent) if
    /// that fails.
    ///
    /// # Errors
    ///
    /// The [`WebhookResponse`] to send at once.
    pub async fn extract<E: FromDelivery>(mut self) -> Result<Claimed<E>, WebhookResponse> {
        match self.work.permit.receiver().extract_from(&self.work.delivery) {
            Ok(extracted) => Ok(Claimed { extracted, work: self.work }),
            Err((response, outcome)) => {
                self.work.end(outcome).await;
                Err(response)
            }
        }
    }

    /// Runs `handler` and returns the response. If the returned future is dropped, the handler keeps running.
    pub fn handle<H: Handler>(
        self,
        handler: Arc<H>,
    ) -> impl Future<Output = WebhookResponse> + Send + use<H> {
        let delivery = self.work.delivery.clone();
        let handled = self.run(async move { outcome_and_response(handler.handle(delivery).await) });
        async { handled.await.unwrap_or_else(|response| response) }
    }

    /// Runs `work`, ends the claim with the [`Outcome`] that it returns, and then returns its value. If the returned
    /// future is dropped, the work keeps running in a task of its own.
    ///
    /// # Errors
    ///
    /// The [`WebhookResponse`] to send if the work panicked.
    pub fn run<T, W>(mut self, work: W) -> impl Future<Output = Result<T, WebhookResponse>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = (Outcome, T)> + Send + 'static,
    {
        let span = self.work.delivery.span();
        let task = async move {
            let (outcome, value) = work.await;
            self.work.end(outcome).await;
            value
        };
        let running = DetachOnDrop::new(task.instrument(span));
        async { running.await.map_err(|_| failed()) }
    }
}

impl<E> Claimed<E> {
    /// What was extracted from the delivery.
    pub fn extracted(&self) -> &E {
        &self.extracted
    }

    /// The delivery.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.work.delivery
    }

    /// Completes the claim, and returns the success response.
    pub async fn acknowledge(mut self) -> WebhookResponse {
        self.work.end(Outcome::Acknowledged).await;
        WebhookResponse::success()
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
            .field("extracted", &self.extracted)
            .field("delivery", &self.work.delivery)
            .finish_non_exhaustive()
    }
}

impl Work {
    async fn end(&mut self, outcome: Outcome) {
        let Some(claim) = &mut self.claim else { return };
        let now = Instant::now();
        let took = now - claim.since();
        if !matches!(outcome, Outcome::Failed(_))
            && let Err(error) = claim.complete(now).await
        {
            // The handler has run, so the delivery is acknowledged. A late duplicate may be handled again.
            tracing::error!(key = %self.delivery.key(), %error, "a completed delivery could not be recorded");
        }
        self.claim = None;
        self.permit.receiver().log().record_outcome(&self.delivery, &outcome, took, self.timer);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            let took = claim.since().elapsed();
            drop(claim);
            let panicking = std::thread::panicking();
            let why = if panicking {
                "the handler panicked"
            } else {
                "the webhook was dropped before it was acknowledged: the handler returned something else, or its client is gone"
            };
            self.permit.receiver().log().record_outcome(
                &self.delivery,
                &Outcome::Failed(why.to_owned()),
                took,
                self.timer,
            );
        }
    }
}

fn outcome_and_response(handled: Result<(), HandlerError>) -> (Outcome, WebhookResponse) {
    let Err(error) = handled else { return (Outcome::Acknowledged, WebhookResponse::success()) };
    let why = error.display_chain();
    match error.kind() {
        HandlerErrorKind::Permanent => (Outcome::Discarded(why), WebhookResponse::success()),
        HandlerErrorKind::Retry => (Outcome::Failed(why), failed()),
        HandlerErrorKind::RetryAfter(wait) => (Outcome::Failed(why), unavailable(wait)),
    }
}

fn failed() -> WebhookResponse {
    Rejection::from(RejectionKind::HandlerFailed).after_verification().into()
}

fn unavailable(wait: Duration) -> WebhookResponse {
    Rejection::from(RejectionKind::HandlerUnavailable).retry_in(wait).after_verification().into()
}
