//! Routes deliveries to one handler per event.

use std::collections::HashMap;
use std::fmt;

use crate::delivery::Delivery;
use crate::delivery::handler::{Handler, HandlerError, HandlerFuture};
use crate::events::{DecodeError, Event, EventKind, TypedEvent};

/// A type that can be extracted from a delivery: the delivery itself, its [`Event`], or one of the nine typed events,
/// which is then the only event accepted.
pub trait FromDelivery: Sized + Send + 'static {
    /// Extracts the value.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEvent`] if the delivery is another event, or its data cannot be decoded.
    fn from_delivery(delivery: &Delivery) -> Result<Self, UnexpectedEvent>;
}

/// Why a typed event cannot be extracted from a delivery.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UnexpectedEvent {
    /// The delivery is another event, documented or not.
    OtherEvent,
    /// The event matches, but its data does not have the documented form.
    Undecodable(DecodeError),
}

impl FromDelivery for Delivery {
    fn from_delivery(delivery: &Delivery) -> Result<Self, UnexpectedEvent> {
        Ok(delivery.clone())
    }
}

impl FromDelivery for Event {
    fn from_delivery(delivery: &Delivery) -> Result<Self, UnexpectedEvent> {
        Ok(delivery.event().clone())
    }
}

impl<E: TypedEvent> FromDelivery for E {
    fn from_delivery(delivery: &Delivery) -> Result<Self, UnexpectedEvent> {
        match delivery.event() {
            Event::Undecoded(event) if event.kind() == E::KIND => {
                Err(UnexpectedEvent::Undecodable(event.error().clone()))
            }
            event => E::from_event(event).cloned().ok_or(UnexpectedEvent::OtherEvent),
        }
    }
}

/// Routes deliveries to one handler per event. [`fallback`](Self::fallback) completes it into a [`Handler`].
///
/// ```
/// use smartshape_webhook::{AttributeUpdated, Delivery, EventRouter, FileUploaded, Handler, HandlerError};
///
/// #[derive(Clone)]
/// struct App; // cheap to clone: a connection pool, settings in an Arc
///
/// async fn on_upload(app: App, file: FileUploaded, delivery: Delivery) -> Result<(), HandlerError> {
///     println!("{:?} was uploaded to {}", file.name, delivery.file());
///     Ok(())
/// }
///
/// fn handler(app: App) -> impl Handler {
///     EventRouter::new()
///         .on(move |file, delivery| on_upload(app.clone(), file, delivery))
///         .on(|attributes: AttributeUpdated, delivery: Delivery| async move {
///             println!("{} attributes of {} changed", attributes.attributes().count(), delivery.file());
///             Ok(())
///         })
///         .fallback(|delivery: Delivery| async move {
///             println!("{} is of no interest", delivery.event_name());
///             Ok(())
///         })
/// }
/// # let _ = handler(App);
/// ```
#[derive(Default)]
#[must_use = "a router does nothing until `fallback` completes it"]
pub struct EventRouter {
    routes: HashMap<EventKind, Route>,
}

impl EventRouter {
    /// Makes a router without any handler.
    pub fn new() -> Self {
        Self::default()
    }

    /// Routes events of type `E` to `handler`. A later handler for the same event replaces an earlier one.
    pub fn on<E, F, Fut>(mut self, handler: F) -> Self
    where
        E: TypedEvent,
        F: Fn(E, Delivery) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let route = move |delivery: &Delivery| {
            let event = E::from_delivery(delivery).ok()?;
            let future: HandlerFuture = Box::pin(handler(event, delivery.clone()));
            Some(future)
        };
        self.routes.insert(E::KIND, Box::new(route));
        self
    }

    /// Routes everything else to `handler`: other events, events with an unknown name, and events with undecodable
    /// data. There is no default, so that none of them is lost unnoticed.
    pub fn fallback<H: Handler>(self, handler: H) -> RoutedHandler<H> {
        RoutedHandler { router: self, fallback: handler }
    }
}

/// Calls the handler of one event; `None` if the event cannot be extracted.
type Route = Box<dyn Fn(&Delivery) -> Option<HandlerFuture> + Send + Sync>;

/// The handler made by [`EventRouter::fallback`].
pub struct RoutedHandler<H> {
    router: EventRouter,
    fallback: H,
}

impl<H: Handler> Handler for RoutedHandler<H> {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let route = delivery.kind().and_then(|kind| self.router.routes.get(&kind));
        match route.and_then(|route| route(&delivery)) {
            Some(future) => future.await,
            None => self.fallback.handle(delivery).await,
        }
    }
}

impl fmt::Debug for EventRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.keys()).finish()
    }
}

impl<H> fmt::Debug for RoutedHandler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.router, f)
    }
}
