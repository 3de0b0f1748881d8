//! The receiver: from a request's head to a claimed delivery, and its response.

mod claimed;
mod concurrency_limit;
mod config;
mod detach;
mod log;
mod pipeline;

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_core::Stream;

use crate::auth::secret::{NamedSecret, Secret};
use crate::auth::{KeyringEntry, Verifier};
use crate::dedup::in_flight::Deduplicator;
use crate::delivery::Delivery;
use crate::delivery::handler::Handler;
use crate::delivery::router::{FromDelivery, UnexpectedEvent};
use crate::escape::escape_for_log;
use crate::memory_limit::MemoryLimit;
use crate::metrics::{self, GaugeGuard, Timer};
use crate::request::body::BodyLimits;
use crate::request::head::RequestHead;
use crate::response::WebhookResponse;
use crate::response::rejection::{Rejection, RejectionKind};
pub use claimed::{Claimed, Outcome};
use concurrency_limit::ConcurrencyLimit;
pub use config::{ConfigError, OnUnexpectedEvent, ReceiverBuilder};
use log::DeliveryLog;
pub use log::ReceiverStats;

/// Receives deliveries. Checks the head, verifies the token, reads the body, parses the envelope and claims the
/// delivery, in this order.
///
/// Build one receiver and clone it, which is cheap: two receivers do not deduplicate each other's deliveries. The
/// adapters call it. To write an adapter for another framework, call [`serve`](Self::serve) or
/// [`receive`](Self::receive).
///
/// Needs a tokio runtime with time enabled.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use smartshape_webhook::{Delivery, RequestHead, Receiver, Secret};
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
/// let response = receiver.serve(&RequestHead::from_parts("POST", headers), stream, handler).await;
/// assert_eq!(response.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    verifier: Verifier,
    min_cost: u32,
    max_cost: u32,
    body: BodyLimits,
    memory: Arc<MemoryLimit>,
    concurrency: ConcurrencyLimit,
    dedup: Arc<Deduplicator>,
    on_unexpected_event: OnUnexpectedEvent,
    log: DeliveryLog,
}

/// An accepted request.
#[derive(Debug)]
#[must_use = "a claimed delivery that is dropped is released"]
pub enum Received {
    /// A new delivery. Handle it.
    New(Claimed),
    /// A delivery that was handled before. Respond with [`WebhookResponse::success`].
    Duplicate,
}

impl Receiver {
    /// Builds a receiver with one secret and the default settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRandomness`] when the system gives no random bytes.
    pub fn new(secret: Secret) -> Result<Self, ConfigError> {
        Self::builder().secret(secret).build()
    }

    /// Returns a builder for a receiver with other settings.
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder::new()
    }

    fn from_builder(builder: ReceiverBuilder) -> Result<Self, ConfigError> {
        let process = getrandom::u64().map_err(|_| ConfigError::NoRandomness)?;
        metrics::describe(RejectionKind::ALL.iter().map(|kind| kind.name()));
        Ok(Self(Arc::new(Inner {
            verifier: Verifier::new(builder.secrets, &builder.verify)
                .map_err(|_| ConfigError::NoRandomness)?,
            min_cost: builder.min_cost,
            max_cost: builder.max_cost,
            memory: MemoryLimit::new(builder.memory_limit, builder.body.max_bytes),
            body: builder.body,
            concurrency: ConcurrencyLimit::new(builder.max_in_flight),
            dedup: Deduplicator::new(builder.dedup_store, builder.dedup, process),
            on_unexpected_event: builder.on_unexpected_event,
            log: DeliveryLog::default(),
        })))
    }

    /// Receives a request up to a claimed delivery. The body is not polled before the token is verified. It need not be
    /// `Send`: actix-web's body is bound to one thread.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which converts into the [`WebhookResponse`] to send. It has been logged.
    pub async fn receive(
        &self,
        head: &RequestHead,
        body: impl Stream<Item = Result<impl Buf, impl Into<Box<dyn Error + Send + Sync>>>>,
    ) -> Result<Received, Rejection> {
        let timer = Timer::start();
        // Pinned here, so that the stages pass on a pointer instead of moving it.
        let body = pin!(body);
        self.receive_inner(head, body, timer)
            .await
            .inspect_err(|rejection| self.0.log.record_rejection(rejection))
    }

    /// Receives a delivery, runs the handler and returns the response: a complete endpoint. If the client disconnects,
    /// the handler keeps running in a task of its own.
    pub async fn serve(
        &self,
        head: &RequestHead,
        body: impl Stream<Item = Result<impl Buf, impl Into<Box<dyn Error + Send + Sync>>>>,
        handler: Arc<impl Handler>,
    ) -> WebhookResponse {
        match self.receive(head, body).await {
            Ok(Received::New(claimed)) => claimed.handle(handler).await,
            Ok(Received::Duplicate) => WebhookResponse::success(),
            Err(rejection) => rejection.into(),
        }
    }

    /// Receives a delivery and extracts a `T` from it: a complete extractor.
    ///
    /// # Errors
    ///
    /// The [`WebhookResponse`] to send at once: a rejection, or success for a duplicate.
    pub async fn extract<T: FromDelivery>(
        &self,
        head: &RequestHead,
        body: impl Stream<Item = Result<impl Buf, impl Into<Box<dyn Error + Send + Sync>>>>,
    ) -> Result<Claimed<T>, WebhookResponse> {
        match self.receive(head, body).await {
            Ok(Received::New(claimed)) => claimed.extract().await,
            Ok(Received::Duplicate) => Err(WebhookResponse::success()),
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Replaces the secrets. Tokens of removed secrets are rejected from now on. A request whose token is already
    /// verified completes. To rotate a secret: add the new one, register the webhooks again, then remove the old one.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for the builder. The secrets then stay unchanged.
    pub fn replace_secrets(&self, secrets: Vec<NamedSecret>) -> Result<(), ConfigError> {
        config::check_secrets(&secrets)?;
        self.0.verifier.replace(secrets);
        Ok(())
    }

    /// The names of the current secrets.
    #[must_use]
    pub fn secret_names(&self) -> Vec<String> {
        self.0.verifier.names()
    }

    /// Rejects new deliveries with 503 and waits up to `deadline` for those in flight. Returns the number still in
    /// flight then; 0 means a clean shutdown. Call it before stopping the server: a runtime that shuts down aborts the
    /// handlers of clients that have disconnected.
    pub async fn drain(&self, deadline: Duration) -> usize {
        match tokio::time::timeout(deadline, self.0.concurrency.drain()).await {
            Ok(()) => 0,
            Err(_) => self.0.concurrency.in_use(),
        }
    }

    /// Whether [`drain`](Self::drain) has been called, so that a readiness probe should fail.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.concurrency.is_draining()
    }

    /// Counters since the receiver was built, for health checks and tests.
    #[must_use]
    pub fn stats(&self) -> ReceiverStats {
        self.0.log.stats(self.0.concurrency.in_use(), self.0.memory.reserved(), self.0.verifier.hashes())
    }

    /// Extracts an `E` from a delivery, and applies [`OnUnexpectedEvent`] if that fails.
    ///
    /// # Errors
    ///
    /// The [`WebhookResponse`] to send, a rejection with status 422 or a success; and the [`Outcome`] to end the claim
    /// with, which is logged and counted.
    pub fn extract_from<E: FromDelivery>(
        &self,
        delivery: &Delivery,
    ) -> Result<E, (WebhookResponse, Outcome)> {
        let unexpected = match E::from_delivery(delivery) {
            Ok(event) => return Ok(event),
            Err(unexpected) => unexpected,
        };
        let rejection = match unexpected {
            UnexpectedEvent::OtherEvent => {
                Rejection::with_detail(RejectionKind::EventUnexpected, escape_for_log(delivery.event_name()))
            }
            UnexpectedEvent::Undecodable(error) => {
                Rejection::with_detail(RejectionKind::EventUndecodable, error)
            }
        };
        let why = rejection.to_string();
        Err(match self.0.on_unexpected_event {
            OnUnexpectedEvent::Reject => (rejection.after_verification().into(), Outcome::Failed(why)),
            OnUnexpectedEvent::Acknowledge => (WebhookResponse::success(), Outcome::Discarded(why)),
        })
    }

    fn log(&self) -> &DeliveryLog {
        &self.0.log
    }

    /// Acquires a permit for a delivery with this secret.
    fn acquire_permit(&self, secret: Arc<KeyringEntry>) -> Result<Permit, Rejection> {
        if let Err(kind) = self.0.concurrency.acquire(secret.usage.as_deref()) {
            return Err(Rejection::with_detail(kind, format_args!("for secret {:?}", secret.name())));
        }
        // Created before the gauge, so that the permit is released if the metrics recorder panics.
        let guard = PermitGuard { receiver: self.clone(), secret };
        Ok(Permit { _gauge: metrics::deliveries_in_flight(), guard })
    }
}

/// A concurrency permit. The gauge is dropped first, so that it is at 0 when `drain` returns.
struct Permit {
    _gauge: GaugeGuard,
    guard: PermitGuard,
}

/// Releases the permit on drop. Holds the receiver and the secret, which a delivery needs anyway: each further shared
/// owner would cost every delivery two atomic operations.
struct PermitGuard {
    receiver: Receiver,
    secret: Arc<KeyringEntry>,
}

impl Permit {
    fn receiver(&self) -> &Receiver {
        &self.guard.receiver
    }

    fn secret(&self) -> &KeyringEntry {
        &self.guard.secret
    }
}

impl Drop for PermitGuard {
    fn drop(&mut self) {
        self.receiver.0.concurrency.release(self.secret.usage.as_deref());
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("secrets", &self.secret_names()).finish_non_exhaustive()
    }
}
