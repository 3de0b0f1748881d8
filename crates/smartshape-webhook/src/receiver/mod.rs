//! The receiver: what stands between a request and a handler.

mod config;
mod detach;
mod places;
mod report;
mod stages;
mod work;

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_core::Stream;

use crate::answer::Answer;
use crate::body::BodyLimits;
use crate::budget::ByteBudget;
use crate::claims::Claims;
use crate::delivery::Delivery;
use crate::dispatch::{FromDelivery, Mismatch};
use crate::handler::Handler;
use crate::head::Head;
use crate::measure::{self, Arrived};
use crate::printable::printable;
use crate::refusal::{Refusal, RefusalKind};
use crate::secret::{NamedSecret, Secret};
use crate::verify::{PlacedSecret, Verifier};
pub use config::{ConfigError, OnMismatch, ReceiverBuilder};
use places::Places;
use report::Report;
pub use report::Stats;
pub use work::{Claimed, Ending};

/// Receives deliveries: admits, authenticates, reads, parses and claims, in this order.
///
/// Cheap to clone, and made once: a second receiver knows nothing of what the first one has seen.
/// The adapters call it; without one, [`receive`](Self::receive) and [`serve`](Self::serve) are
/// all that a framework needs.
///
/// Needs a tokio runtime with time enabled.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use smartshape_webhook::{Delivery, Head, Receiver, Secret};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let receiver = Receiver::new(Secret::new("a long and random string")?)?;
/// let token = bcrypt::hash("a long and random string", 4)?;
/// let body = r#"{"file": "5c6f", "event": "file_uploaded", "data": {}, "owner": "test@smartshape.io",
///                "runTimestamp": 1550824748604, "uuid": "a36b623a-c1ed-49b5-9585-3532fe8e9881"}"#;
/// let handler = Arc::new(|delivery: Delivery| async move {
///     assert_eq!(delivery.file().as_str(), "5c6f");
///     Ok(())
/// });
///
/// let headers = [("x-smartshape-token", token.as_bytes())];
/// let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
/// let answer = receiver.serve(&Head::read("POST", headers), stream, handler).await;
/// assert_eq!(answer.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    verifier: Verifier,
    min_cost: u32,
    max_cost: u32,
    body: BodyLimits,
    budget: Arc<ByteBudget>,
    places: Places,
    claims: Arc<Claims>,
    on_mismatch: OnMismatch,
    report: Report,
}

/// What a request turned out to be.
#[derive(Debug)]
#[must_use = "a claimed delivery that is dropped is given back"]
pub enum Received {
    /// A delivery to be handled.
    New(Claimed),
    /// A delivery that was handled before: answer [`Answer::success`].
    Duplicate,
}

impl Receiver {
    /// A receiver of one secret, with the default settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRandomness`] when the system gives no random bytes.
    pub fn new(secret: Secret) -> Result<Self, ConfigError> {
        Self::builder().secret(secret).build()
    }

    /// Builds a receiver with other settings.
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder::new()
    }

    fn from_builder(builder: ReceiverBuilder) -> Result<Self, ConfigError> {
        let process = getrandom::u64().map_err(|_| ConfigError::NoRandomness)?;
        measure::describe();
        Ok(Self(Arc::new(Inner {
            verifier: Verifier::new(builder.secrets, &builder.verify)
                .map_err(|_| ConfigError::NoRandomness)?,
            min_cost: builder.min_cost,
            max_cost: builder.max_cost,
            budget: ByteBudget::new(builder.byte_budget, builder.body.bytes),
            body: builder.body,
            places: Places::new(builder.max_at_work),
            claims: Claims::new(builder.store, builder.claims, process),
            on_mismatch: builder.on_mismatch,
            report: Report::default(),
        })))
    }

    /// Takes a request as far as a claimed delivery. The body is not touched before the token was
    /// verified. No `Send` bound: the body may belong to one thread, as actix-web's does.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which turns into the [`Answer`] to give. It was logged already.
    pub async fn receive<S, B, E>(&self, head: &Head, body: S) -> Result<Received, Refusal>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let arrived = Arrived::now();
        // Each stage that passes it on would move it otherwise.
        let body = pin!(body);
        self.stages(head, body, arrived).await.inspect_err(|refusal| self.0.report.refused(refusal))
    }

    /// Receives, handles and answers: all of an endpoint. A sender that hangs up does not undo the
    /// handler's work: it goes on as a task of its own.
    pub async fn serve<S, B, E>(&self, head: &Head, body: S, handler: Arc<impl Handler>) -> Answer
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.receive(head, body).await {
            Ok(Received::New(claimed)) => claimed.handle(handler).await,
            Ok(Received::Duplicate) => Answer::success(),
            Err(refusal) => refusal.into(),
        }
    }

    /// Receives and takes an `E` out of the delivery: all of an extractor. Err is the answer to
    /// give at once, be it a refusal or the success that a duplicate is told.
    ///
    /// # Errors
    ///
    /// The [`Answer`].
    pub async fn extract<T, S, B, E>(&self, head: &Head, body: S) -> Result<Claimed<T>, Answer>
    where
        T: FromDelivery,
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.receive(head, body).await {
            Ok(Received::New(claimed)) => claimed.typed().await,
            Ok(Received::Duplicate) => Err(Answer::success()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Puts other secrets in place. Tokens of removed secrets are refused from now on, and tokens
    /// refused before may match an added one. A request that was let in before, and still sends its
    /// body, is finished. To rotate: add the new secret, register the webhooks anew, remove the old
    /// secret.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for the builder; then the secrets stay as they were.
    pub fn replace_secrets(&self, secrets: Vec<NamedSecret>) -> Result<(), ConfigError> {
        config::check_secrets(&secrets)?;
        self.0.verifier.replace(secrets);
        Ok(())
    }

    /// The names of the secrets in place.
    #[must_use]
    pub fn secret_names(&self) -> Vec<String> {
        self.0.verifier.names()
    }

    /// Takes no more deliveries (they are answered 503) and waits for those at work, at most for
    /// `deadline`. Returns how many were still at work then: 0 is a clean end. Call it before the
    /// server is told to stop, since a runtime that ends kills the tasks of senders that left.
    pub async fn drain(&self, deadline: Duration) -> usize {
        match tokio::time::timeout(deadline, self.0.places.drain()).await {
            Ok(()) => 0,
            Err(_) => self.0.places.taken(),
        }
    }

    /// Whether [`drain`](Self::drain) was called: not ready for deliveries any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.places.is_draining()
    }

    /// Counters since the start, for health checks and tests.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.report.stats(self.0.places.taken(), self.0.budget.reserved(), self.0.verifier.hashes())
    }

    /// Takes an `E` out of a delivery, by [`OnMismatch`] where that fails.
    ///
    /// # Errors
    ///
    /// The [`Answer`] to give, a refusal with status 422 or the success with which the event is given up; and the
    /// [`Ending`] with which the claim is to end, which is what is logged and counted.
    pub fn take<E: FromDelivery>(&self, delivery: &Delivery) -> Result<E, (Answer, Ending)> {
        let mismatch = match E::from_delivery(delivery) {
            Ok(event) => return Ok(event),
            Err(mismatch) => mismatch,
        };
        let refusal = match mismatch {
            Mismatch::OtherEvent => {
                Refusal::with_detail(RefusalKind::EventUnexpected, printable(delivery.event_name()))
            }
            Mismatch::Undecodable(error) => Refusal::with_detail(RefusalKind::EventUndecodable, error),
        };
        let why = refusal.to_string();
        Err(match self.0.on_mismatch {
            OnMismatch::Refuse => (refusal.into(), Ending::Failed(why)),
            OnMismatch::Acknowledge => (Answer::success(), Ending::Abandoned(why)),
        })
    }

    fn report(&self) -> &Report {
        &self.0.report
    }

    /// A place at work, for a delivery by this secret.
    fn take_place(&self, secret: Arc<PlacedSecret>) -> Result<Place, Refusal> {
        if let Err(kind) = self.0.places.take(secret.taken.as_deref()) {
            return Err(Refusal::with_detail(kind, format_args!("for secret {:?}", secret.name())));
        }
        // First, so that a metrics recorder that panics gives the place back.
        let permit = Permit { receiver: self.clone(), secret };
        Ok(Place { _measured: measure::at_work(), permit })
    }
}

/// A place at work. It is measured no more before it is free, so that after `drain` the gauge stands at 0.
struct Place {
    _measured: measure::Share,
    permit: Permit,
}

/// One of the receiver's places, with the receiver, which the work needs anyway, and the secret, which was there already.
/// Every further shared owner costs each delivery two atomic operations.
struct Permit {
    receiver: Receiver,
    secret: Arc<PlacedSecret>,
}

impl Place {
    fn receiver(&self) -> &Receiver {
        &self.permit.receiver
    }

    fn secret(&self) -> &PlacedSecret {
        &self.permit.secret
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.receiver.0.places.give_back(self.secret.taken.as_deref());
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("secrets", &self.secret_names()).finish_non_exhaustive()
    }
}
