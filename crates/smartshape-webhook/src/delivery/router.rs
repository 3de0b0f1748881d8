//! A handler made of one handler for each event.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use crate::delivery::Delivery;
use crate::delivery::handler::{Handler, HandlerError};
use crate::events::{AnnotationCreated, AnnotationRemoved, AnnotationUpdated, AttributeUpdated};
use crate::events::{ConfigurationCreated, ConfigurationRemoved, ConfigurationUpdated};
use crate::events::{DecodeError, Event, EventKind, FileOptimized, FileUploaded, TypedEvent};

/// What can be taken out of a delivery: the delivery itself, its [`Event`], or one of the nine
/// typed events, which then is the only event accepted.
pub trait FromDelivery: Sized + Send + 'static {
    /// Takes it out.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEvent`] when the delivery is not of that kind.
    fn from_delivery(delivery: &Delivery) -> Result<Self, UnexpectedEvent>;
}

/// Why a delivery is not of the wanted kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum UnexpectedEvent {
    /// It is another event, known or not.
    OtherEvent,
    /// It is the wanted event, and its data does not have the documented form.
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

macro_rules! from_delivery {
    ($($event:ident)*) => {$(
        impl FromDelivery for $event {
            fn from_delivery(delivery: &Delivery) -> Result<Self, UnexpectedEvent> {
                match delivery.event() {
                    Event::$event(event) => Ok(event.clone()),
                    Event::Undecoded(event) if event.kind() == <$event as TypedEvent>::KIND => {
                        Err(UnexpectedEvent::Undecodable(event.error().clone()))
                    }
                    _ => Err(UnexpectedEvent::OtherEvent),
                }
            }
        }
    )*};
}

from_delivery! {
    AttributeUpdated FileUploaded FileOptimized
    AnnotationCreated AnnotationUpdated AnnotationRemoved
    ConfigurationCreated ConfigurationUpdated ConfigurationRemoved
}

/// Collects one handler for each event of interest; [`fallback`](Self::fallback) makes the
/// whole a [`Handler`].
///
/// ```
/// use smartshape_webhook::{AttributeUpdated, Delivery, EventRouter, FileUploaded};
///
/// let handler = EventRouter::new()
///     .on(|file: FileUploaded, _: Delivery| async move {
///         println!("{:?} was uploaded", file.name);
///         Ok(())
///     })
///     .on(|attributes: AttributeUpdated, delivery: Delivery| async move {
///         println!("{} attributes of {} changed", attributes.attributes().count(), delivery.file());
///         Ok(())
///     })
///     .fallback(|delivery: Delivery| async move {
///         println!("{} is of no interest", delivery.event_name());
///         Ok(())
///     });
/// # let _ = handler;
/// ```
#[derive(Default)]
#[must_use = "a dispatch does nothing until `fallback` makes it a handler"]
pub struct EventRouter {
    routes: HashMap<EventKind, Box<dyn Route>>,
}

impl EventRouter {
    /// Handles no event yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `handler` for events of type `E`. The last handler given for an event counts.
    pub fn on<E, F, Fut>(mut self, handler: F) -> Self
    where
        E: TypedEvent + FromDelivery,
        F: Fn(E, Delivery) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let route = move |delivery: &Delivery| {
            let event = E::from_delivery(delivery).ok()?;
            let outcome: Outcome = Box::pin(handler(event, delivery.clone()));
            Some(outcome)
        };
        self.routes.insert(E::KIND, Box::new(route));
        self
    }

    /// Calls `handler` for everything else: other events, events of unknown name, and events
    /// whose data could not be decoded. There is no default, so that none of them is lost unseen.
    pub fn fallback<H: Handler>(self, handler: H) -> RoutedHandler<H> {
        RoutedHandler { routes: self.routes, fallback: handler }
    }
}

type Outcome = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// Starts the handler of one event; `None` when the delivery is not that event after all.
trait Route: Fn(&Delivery) -> Option<Outcome> + Send + Sync {}
impl<F: Fn(&Delivery) -> Option<Outcome> + Send + Sync> Route for F {}

/// The handler that [`EventRouter::fallback`] makes.
pub struct RoutedHandler<H> {
    routes: HashMap<EventKind, Box<dyn Route>>,
    fallback: H,
}

impl<H: Handler> Handler for RoutedHandler<H> {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let route = delivery.kind().and_then(|kind| self.routes.get(&kind));
        match route.and_then(|route| route(&delivery)) {
            Some(outcome) => outcome.await,
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
        f.debug_set().entries(self.routes.keys()).finish()
    }
}
