//! Receives SmartShape webhooks with actix-web (unofficial).
//!
//! - [`endpoint()`]: a complete route with one handler. Recommended: the handler runs to its end if the client disconnects.
//! - [`Webhook<E>`](Webhook): an extractor for a handler of your own, which responds with [`Webhook::acknowledge`]. Such a
//!   handler is cancelled if the client resets the connection, and other extractors still see the token header.
//!
//! Both respond from the core's one table.
//!
//! ```no_run
//! use actix_web::{App, Error, HttpServer, web};
//! use smartshape_webhook_actix::{
//!     Acknowledgement, Delivery, Event, HandlerError, Receiver, Secret, Webhook, endpoint,
//! };
//!
//! async fn on_delivery(delivery: Delivery) -> Result<(), HandlerError> {
//!     println!("{} of {}", delivery.event_name(), delivery.file());
//!     Ok(())
//! }
//!
//! async fn on_event(webhook: Webhook<Event>) -> Result<Acknowledgement, Error> {
//!     println!("{} of {}", webhook.extracted().name(), webhook.file());
//!     Ok(webhook.acknowledge().await)
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let receiver = Receiver::new(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)?;
//!     let app = move || {
//!         App::new()
//!             .route("/callback", endpoint(receiver.clone(), on_delivery))
//!             .app_data(receiver.clone())
//!             .service(web::resource("/extracted").to(on_event))
//!     };
//!     HttpServer::new(app).bind("127.0.0.1:8042")?.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! `endpoint` works inside `web::scope` too.
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
//! # Shutdown
//!
//! Call [`Receiver::drain`] before you stop the server, and [`disable_signals`] so that actix-web does not stop it by itself: at
//! `SIGINT` its workers end at once, at `SIGTERM` when their connections are gone. Either aborts a handler whose client has
//! disconnected. Such a handler is no longer in flight, so `drain` returns 0 as if it had finished.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use actix_web::{App, HttpServer, rt};
//! use smartshape_webhook_actix::{Delivery, Receiver, Secret, endpoint};
//! use tokio::signal::unix::{SignalKind, signal};
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let receiver = Receiver::new(Secret::from_env("SMARTSHAPE_WEBHOOK_SECRET")?)?;
//!     let (mut terminate, mut interrupt) =
//!         (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
//!
//!     let drained = receiver.clone();
//!     let app = move || {
//!         App::new().route("/callback", endpoint(receiver.clone(), |_: Delivery| async { Ok(()) }))
//!     };
//!     let server = HttpServer::new(app).disable_signals().bind("127.0.0.1:8042")?.run();
//!     let handle = server.handle();
//!     rt::spawn(async move {
//!         tokio::select! {
//!             _ = terminate.recv() => {}
//!             _ = interrupt.recv() => {}
//!         }
//!         // The server still runs: new deliveries get 503.
//!         drained.drain(Duration::from_secs(30)).await;
//!         handle.stop(true).await;
//!     });
//!     server.await?;
//!     Ok(())
//! }
//! ```
//!
//! [`disable_signals`]: actix_web::HttpServer::disable_signals
//!
//! # Client addresses
//!
//! While many unknown tokens wait to be verified, each [`ClientAddr`] gets its turn. It is the peer's address, unless the request's
//! extensions contain a `ClientAddr`: behind a proxy, insert what the proxy reports.
//!
//! # Caveats
//!
//! - Build one receiver outside the closure of `HttpServer::new`. One built inside belongs to one worker, and knows only the
//!   deliveries that this worker has seen.
//! - `Option<Webhook<E>>` and `Result<Webhook<E>, _>` swallow rejections.
//! - A typed `Webhook<FileUploaded>` responds 422 to other events, which SmartShape retries, unless
//!   [`on_unexpected_event`](ReceiverBuilder::on_unexpected_event) says otherwise.
//! - actix-web responds to a `Content-Length` that is not a number with an empty 400. It responds to `Expect: 100-continue` before any
//!   handler is called, so such a client is invited to send its body before it is rejected.
//! - Once actix-web has responded, a chunked body that no handler has read has no time limit, on any route but these of this crate:
//!   the connection stays open for as long as the client likes. Limit connections, or accept such bodies for this route only, in a
//!   proxy.
//! - actix-web logs an error (target `actix_http::h1::dispatcher`) for each malformed request, which anyone can send. Switch that target
//!   off.
//! - A request with `Upgrade: websocket` has no length to actix-web, so an event with that header gets 408. A proxy must not pass the
//!   header on.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod convert;
mod endpoint;
mod extractor;

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
pub use extractor::{Acknowledgement, Webhook, WebhookError};
