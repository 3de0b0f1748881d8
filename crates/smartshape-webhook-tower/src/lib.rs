//! SmartShape webhooks as tower middleware, for axum, hyper and whatever else serves a tower
//! `Service` (unofficial).
//!
//! Two doors:
//!
//! - [`endpoint()`]: a whole service with one handler. The recommended one.
//! - [`WebhookLayer`]: middleware around a route of your own, whose 2xx becomes the documented
//!   answer. With feature `axum`, [`Webhook<E>`](Webhook) takes the typed event in the route.
//!
//! Both answer every request by the core's one table, and both run the handler to its end when
//! the sender hangs up. Call [`Receiver::drain`] at shutdown.
//!
//! ```
//! use axum::{Router, http::StatusCode, routing::post};
//! use smartshape_webhook_tower::{Delivery, Event, Receiver, Secret, Webhook, WebhookLayer, endpoint};
//!
//! async fn on_event(Webhook(event): Webhook<Event>) -> Result<(), StatusCode> {
//!     println!("{}", event.name());
//!     Ok(())
//! }
//!
//! let receiver = Receiver::new(Secret::generate()?)?;
//! let handler = |delivery: Delivery| async move {
//!     println!("{}", delivery.event().name());
//!     Ok(())
//! };
//! let app: Router = Router::new()
//!     .route_service("/callback", endpoint(receiver.clone(), handler))
//!     .route("/layered", post(on_event).layer(WebhookLayer::new(receiver)));
//! # let _ = app;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Crate features
//!
//! - `axum` (off): the [`Webhook<E>`](Webhook) extractor. axum's own body limit of 2 MB is lifted inside the layer in
//!   any case, since the receiver counts by itself.
//! - `metrics` (off): what is measured goes to the recorder that the program installs. The
//!   documentation of `smartshape-webhook` lists names and labels.
//!
//! # Middleware around it
//!
//! [`WebhookLayer`] and [`endpoint()`] stand in one `ServiceBuilder` with any layer of tower-http and with axum's
//! `from_fn` and `map_request`. Layers that are added first are outside and see the request first:
//!
//! | order | layer | why there |
//! |---|---|---|
//! | 1 | `SetSensitiveRequestHeadersLayer` with `x-smartshape-token` | before everything that shows headers: the token is a bearer token |
//! | 2 | `TraceLayer`, also with `include_headers(true)` | it sees rejected requests too |
//! | 3 | `CatchPanicLayer` | whatever is inside; the receiver itself turns a handler's panic into a 500 |
//! | 4 | `RequestBodyLimitLayer`, `RequestBodyTimeoutLayer` | stricter than the receiver's own limits; beyond them the response is the receiver's 413 and 408 |
//! | 5 | `TimeoutLayer` | above `duplicate_timeout`; the handler runs to its end all the same |
//! | 6 | `RequestDecompressionLayer` | before the receiver, which takes JSON; a coding that nobody has decoded is a 415 |
//! | 7 | [`WebhookLayer`] or [`endpoint()`] | |
//! | 8 | `ConcurrencyLimitLayer`, `from_fn` and other layers of the route | they see verified deliveries only, and no token |
//!
//! `RequestBodyLimitLayer` goes outside `TimeoutLayer`, which needs a response body with a default.
//! The layer hands its route a [`Body`] and responds with one, whatever the bodies outside are.
//!
//! # Where requests come from
//!
//! While many unknown tokens wait to be checked, each [`ClientAddr`] gets its turn. A service does not see the
//! peer's address: put it into the request's extensions, or all senders are one source. With axum:
//!
//! ```
//! use std::net::SocketAddr;
//! use axum::{Router, extract::{ConnectInfo, Request}, middleware::map_request};
//! use smartshape_webhook_tower::ClientAddr;
//!
//! async fn tell_source(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
//!     request.extensions_mut().insert(ClientAddr::from(peer));
//!     request
//! }
//!
//! let app: Router = Router::new().layer(map_request(tell_source));
//! let make_service = app.into_make_service_with_connect_info::<SocketAddr>();
//! # let _ = make_service;
//! ```
//!
//! # Caveats
//!
//! - A layer around a whole `Router` also answers for unknown paths. Lay it around one route.
//! - A body that is broken in its framing (a `Content-Length` that is no number) is answered by
//!   hyper, with an empty 400, before any service is called.
//! - hyper has no time limit for request heads or idle connections unless told so.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod axum;
mod convert;
mod endpoint;
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
pub use layer::WebhookLayer;
pub use service::WebhookService;
