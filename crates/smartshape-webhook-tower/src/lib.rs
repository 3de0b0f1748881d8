//! Receives SmartShape webhooks with axum, hyper and any other tower server (unofficial).
//!
//! - [`endpoint()`]: a complete service with one handler. Recommended.
//! - [`WebhookLayer`]: middleware around a route of your own, whose 2xx becomes the response that SmartShape expects. Any
//!   other response passes unchanged and releases the delivery for the next attempt. With feature `axum`, the extractor
//!   `Webhook<E>` takes the typed event in the route.
//!
//! Both respond from the core's one table, and both run the handler to its end if the client disconnects.
//!
#![cfg_attr(feature = "axum", doc = "```no_run")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, http::StatusCode, routing::post};
//! use smartshape_webhook_tower::{Delivery, Event, HandlerError, Receiver, Secret, Webhook, WebhookLayer, endpoint};
//!
//! async fn on_delivery(delivery: Delivery) -> Result<(), HandlerError> {
//!     match delivery.event() {
//!         Event::FileUploaded(file) => println!("{:?} was uploaded", file.name),
//!         other => println!("{} of {}", other.name(), delivery.file()),
//!     }
//!     Ok(())
//! }
//!
//! async fn on_event(Webhook(event): Webhook<Event>) -> Result<(), StatusCode> {
//!     println!("{}", event.name());
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let receiver = Receiver::new(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)?;
//!     let app: Router = Router::new()
//!         .route_service("/callback", endpoint(receiver.clone(), on_delivery))
//!         .route("/layered", post(on_event).layer(WebhookLayer::new(receiver)));
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8042").await?;
//!     axum::serve(listener, app).await?;
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
//! # Crate features
//!
//! - `axum` (off): the extractor `Webhook<E>`. axum's own body limit of 2 MB is lifted inside the layer in any case, since
//!   the receiver counts itself.
//!
//! # Middleware
//!
//! [`WebhookLayer`] and [`endpoint()`] compose in one `ServiceBuilder` with any layer of tower-http and with axum's `from_fn`
//! and `map_request`. Layers that are added first are outside and see the request first:
//!
//! | order | layer | why there |
//! |---|---|---|
//! | 1 | `SetSensitiveRequestHeadersLayer` with `x-smartshape-token` | before everything that shows headers: the token is a bearer token |
//! | 2 | `TraceLayer`, also with `include_headers(true)` | it sees rejected requests too |
//! | 3 | `CatchPanicLayer` | for whatever is inside; the receiver itself turns a handler's panic into a 500 |
//! | 4 | `RequestBodyLimitLayer`, `RequestBodyTimeoutLayer` | stricter than the receiver's own limits; beyond them the response is the receiver's 413 and 408 |
//! | 5 | `TimeoutLayer` | above `duplicate_timeout`; the handler runs to its end all the same |
//! | 6 | `RequestDecompressionLayer` | before the receiver, which takes JSON; a coding that no layer has decoded is a 415 |
//! | 7 | [`WebhookLayer`] or [`endpoint()`] | |
//! | 8 | `ConcurrencyLimitLayer`, `from_fn` and other layers of the route | they see verified deliveries only, and no token |
//!
//! `RequestBodyLimitLayer` goes outside `TimeoutLayer`, which needs a response body with a default. The layer hands its route a
//! [`Body`] and responds with one, whatever the bodies outside are.
//!
//! # Client addresses
//!
//! While many unknown tokens wait to be verified, each [`ClientAddr`] gets its turn. A service does not see the peer's address:
//! put it into the request's extensions, or all clients count as one. With axum:
//!
//! ```
//! use std::net::SocketAddr;
//! use axum::{Router, extract::{ConnectInfo, Request}, middleware::map_request};
//! use smartshape_webhook_tower::ClientAddr;
//!
//! async fn set_client_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
//!     request.extensions_mut().insert(ClientAddr::from(peer));
//!     request
//! }
//!
//! let app: Router = Router::new().layer(map_request(set_client_addr));
//! let make_service = app.into_make_service_with_connect_info::<SocketAddr>();
//! # let _ = make_service;
//! ```
//!
//! # Caveats
//!
//! - A layer around a whole `Router` also responds to unknown paths. Put it around one route.
//! - hyper responds to a `Content-Length` that is not a number with an empty 400, before any service is called.
//! - hyper has no timeout for request heads and idle connections unless it is set.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod axum;
mod convert;
mod endpoint;
mod future;
mod layer;
mod service;

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

#[cfg(feature = "axum")]
pub use axum::{Webhook, WebhookRejection};
/// The body of the requests that [`WebhookLayer`] hands to its route, and of its responses: axum's.
pub use axum_core::body::Body;
pub use endpoint::{Endpoint, endpoint};
pub use future::ResponseFuture;
pub use layer::WebhookLayer;
pub use service::WebhookService;
