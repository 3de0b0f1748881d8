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
//! - `axum` (off): the [`Webhook<E>`](Webhook) extractor, and axum's own body limit of 2 MB lifted
//!   inside the layer, which counts by itself. Needs only `axum-core`.
//! - `metrics` (off): what is measured goes to the recorder that the program installs. The
//!   documentation of `smartshape-webhook` lists names and labels.
//!
//! # Where requests come from
//!
//! While many unknown tokens wait to be checked, each [`Source`] gets its turn. A service does not see the
//! peer's address: put it into the request's extensions, or all senders are one source. With axum:
//!
//! ```
//! use std::net::SocketAddr;
//! use axum::{Router, extract::{ConnectInfo, Request}, middleware::map_request};
//! use smartshape_webhook_tower::Source;
//!
//! async fn tell_source(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
//!     request.extensions_mut().insert(Source::from(peer));
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

#[doc(no_inline)]
pub use smartshape_webhook::*;

#[cfg(feature = "axum")]
pub use axum::{Webhook, WebhookRejection};
pub use endpoint::{Endpoint, endpoint};
pub use layer::WebhookLayer;
pub use service::WebhookService;
