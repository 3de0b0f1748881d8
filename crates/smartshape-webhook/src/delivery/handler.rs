//! Handlers of deliveries, and their errors.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Delivery;

/// Causes shown by [`HandlerError::display_chain`]. The chain may be endless, since `source` is foreign code.
const CAUSES: usize = 16;

/// Handles deliveries. Implemented for closures and functions.
///
/// The delivery is acknowledged when the handler returns `Ok`. A handler runs again for a delivery that it failed to
/// handle, or that was in flight when the process ended: make its effect idempotent, for example with [`Delivery::key`]
/// in a unique index.
///
/// ```
/// use smartshape_webhook::{Delivery, Event, Handler};
///
/// fn check(handler: impl Handler) {}
/// check(|delivery: Delivery| async move {
///     match delivery.event() {
///         Event::FileUploaded(file) => println!("{:?} was uploaded", file.name),
///         other => println!("{} is of no interest", other.name()),
///     }
///     Ok(())
/// });
/// ```
///
/// State, such as a connection pool, is cloned for each delivery:
///
/// ```
/// use smartshape_webhook::{Delivery, Handler, HandlerError};
///
/// #[derive(Clone)]
/// struct App;
///
/// async fn on_delivery(app: App, delivery: Delivery) -> Result<(), HandlerError> {
///     # let _ = (app, delivery);
///     Ok(())
/// }
///
/// fn handler(app: App) -> impl Handler {
///     move |delivery| on_delivery(app.clone(), delivery)
/// }
/// # let _ = handler(App);
/// ```
#[diagnostic::on_unimplemented(
    note = "a handler is an `async fn(Delivery) -> Result<(), HandlerError>`; complete an `EventRouter` with `.fallback(…)`"
)]
pub trait Handler: Send + Sync + 'static {
    /// Handles one delivery.
    fn handle(&self, delivery: Delivery) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    fn handle(&self, delivery: Delivery) -> impl Future<Output = Result<(), HandlerError>> + Send {
        self(delivery)
    }
}

pub(super) type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// A boxed handler, to choose between types at run time. Cheap to clone.
///
/// ```
/// use smartshape_webhook::{BoxHandler, Delivery};
///
/// let quiet = std::env::args().count() > 100;
/// let handler = if quiet {
///     BoxHandler::new(|_: Delivery| async { Ok(()) })
/// } else {
///     BoxHandler::new(|delivery: Delivery| async move {
///         println!("{}", delivery.to_json_line());
///         Ok(())
///     })
/// };
/// # let _ = handler;
/// ```
#[derive(Clone)]
pub struct BoxHandler(Arc<dyn Fn(Delivery) -> HandlerFuture + Send + Sync>);

impl BoxHandler {
    /// Boxes a handler.
    pub fn new(handler: impl Handler) -> Self {
        let handler = Arc::new(handler);
        Self(Arc::new(move |delivery| -> HandlerFuture {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler.handle(delivery).await })
        }))
    }
}

impl Handler for BoxHandler {
    fn handle(&self, delivery: Delivery) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (self.0)(delivery)
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxHandler")
    }
}

/// An error of a handler, and what happens to the delivery.
///
/// `?` converts any error, also one of `anyhow` or a string, into [`HandlerErrorKind::Retry`].
///
/// ```
/// use std::time::Duration;
/// use smartshape_webhook::{HandlerError, HandlerErrorKind};
///
/// fn work() -> Result<u32, HandlerError> {
///     Ok("12 apples".parse::<u32>()?)
/// }
/// assert_eq!(work().unwrap_err().kind(), HandlerErrorKind::Retry);
///
/// let full = HandlerError::retry_after(Duration::from_secs(30), "the queue is full");
/// assert_eq!(full.to_string(), "the queue is full");
/// ```
#[derive(Debug)]
pub struct HandlerError {
    kind: HandlerErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

/// What happens to a delivery whose handler failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerErrorKind {
    /// The response has status 500, after which SmartShape retries.
    Retry,
    /// The response has status 503 and asks to retry after this time.
    RetryAfter(Duration),
    /// The delivery is acknowledged, so that it is not retried, and the failure is logged as an error.
    Permanent,
}

impl HandlerError {
    /// An error after which the delivery may be retried.
    pub fn retry(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: HandlerErrorKind::Retry, source: source.into() }
    }

    /// An error after which the delivery may be retried in `wait`.
    pub fn retry_after(wait: Duration, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: HandlerErrorKind::RetryAfter(wait), source: source.into() }
    }

    /// An error that a retry would meet again.
    pub fn permanent(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: HandlerErrorKind::Permanent, source: source.into() }
    }

    /// What happens to the delivery.
    #[must_use]
    pub fn kind(&self) -> HandlerErrorKind {
        self.kind
    }

    /// The underlying error.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }

    /// The error and up to 16 of its causes on one line.
    ///
    /// ```
    /// let error = smartshape_webhook::HandlerError::from("the disk is full");
    /// assert_eq!(error.display_chain(), "the disk is full");
    /// ```
    #[must_use]
    pub fn display_chain(&self) -> String {
        let mut text = self.source.to_string();
        let mut cause = self.source.source();
        for _ in 0..CAUSES {
            let Some(error) = cause else { break };
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

// `HandlerError` does not implement `Error`: this would conflict with `From<T> for T`.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}
