//! Receives SmartShape webhooks with warp (unofficial).
//!
//! - [`endpoint()`]: a filter with one handler that responds by itself. Recommended: the handler runs to its end if the client
//!   disconnects, and no rejection reaches another route.
//! - [`webhook()`] and [`recover`]: a filter that extracts a [`Webhook<E>`](Webhook) for a handler of your own, which responds
//!   with [`Webhook::acknowledge`]. Such a handler is cancelled if the client disconnects.
//!
//! Both respond from the core's one table.
//!
//! ```no_run
//! use smartshape_webhook_warp::{Delivery, Event, HandlerError, Receiver, Secret, Webhook, endpoint, recover, webhook};
//! use warp::Filter;
//!
//! async fn on_delivery(delivery: Delivery) -> Result<(), HandlerError> {
//!     println!("{} of {}", delivery.event_name(), delivery.file());
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let receiver = Receiver::new(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)?;
//!     let callback = warp::path("callback").and(warp::path::end()).and(endpoint(receiver.clone(), on_delivery));
//!     let extracted = warp::path("extracted")
//!         .and(warp::path::end())
//!         .and(webhook(receiver))
//!         .then(|hook: Webhook<Event>| async move {
//!             println!("{} of {}", hook.extracted().name(), hook.file());
//!             hook.acknowledge().await
//!         });
//!     // The extracting filter last: its rejected deliveries would be offered to a route behind it.
//!     warp::serve(callback.or(extracted).recover(recover)).run(([127, 0, 0, 1], 8042)).await;
//!     Ok(())
//! }
//! ```
//!
//! At shutdown, call [`Receiver::drain`] before the server stops.
//!
//! # Related crates
//!
//! | crate | for |
//! |---|---|
//! | `smartshape-webhook-inbox` | a durable inbox: an event is stored on SQLite or PostgreSQL before it is acknowledged, and a worker then calls the handler, with retries. `endpoint(receiver, inbox)` |
//! | `smartshape-fake` | tests without an account: signs and sends sample events, and imitates the web API |
//! | `smartshape-webhook-cli` | the program `smartshape`: triggers events, checks an endpoint, registers webhooks, inspects an inbox |
//! | `smartshape-webhook` | the core, re-exported as [`core`]; its page lists the metrics |
//!
//! They are in one repository, with complete example servers in `examples/` and guides in `docs/`.
//!
//! # Client addresses
//!
//! While many unknown tokens wait to be verified, each [`ClientAddr`] gets its turn. It is the peer's address, which `warp::serve`
//! knows, unless the request's extensions contain a `ClientAddr`. Insert one behind a proxy, and where `warp::service` runs in a
//! server of your own.
//!
//! # Caveats
//!
//! - A filter rejects. Without [`recover`], warp responds to a rejection with status 500 and the rejection's `Debug` text; and
//!   behind `.or()`, a rejected delivery is offered to the next route.
//! - A typed `Webhook<FileUploaded>` responds 422 to other events, which SmartShape retries, unless
//!   [`on_unexpected_event`](ReceiverBuilder::on_unexpected_event) says otherwise.
//! - hyper responds to a `Content-Length` that is not a number with an empty 400.
//! - warp has no timeout for request heads and idle connections.
//! - warp does not tell which version of HTTP is spoken. On HTTP/2 a rejected body is dropped at once, except for a client that
//!   sends a `Host` header there: such a body is kept for a moment, as on HTTP/1.1, and holds up that client's other streams.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod convert;
mod endpoint;
mod filter;

/// The core crate, with everything that is not re-exported here.
pub use smartshape_webhook as core;
#[doc(inline)]
pub use smartshape_webhook::{
    AnnotationCreated, AnnotationRemoved, AnnotationUpdated, AttributeUpdated, BoxHandler, ClientAddr,
    ConfigError, ConfigurationCreated, ConfigurationRemoved, ConfigurationUpdated, Delivery, DeliveryKey,
    Event, EventKind, EventRouter, FileOptimized, FileUploaded, FromDelivery, Handler, HandlerError,
    HandlerErrorKind, NamedSecret, OnUnexpectedEvent, Receiver, ReceiverBuilder, ReceiverStats, Rejection,
    RejectionKind, Secret, SecretError, WebhookResponse,
};

pub use endpoint::endpoint;
pub use filter::{Acknowledgement, Webhook, recover, webhook};
