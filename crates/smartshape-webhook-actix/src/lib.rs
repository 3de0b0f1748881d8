//! SmartShape webhooks for actix-web (unofficial).
//!
//! Two doors:
//!
//! - [`endpoint()`]: a whole route with one handler. The recommended one: the handler runs to its
//!   end when the sender hangs up.
//! - [`Webhook<E>`](Webhook): an extractor for a handler of your own, which answers with
//!   [`Webhook::acknowledge`].
//!
//! Both answer every request by the core's one table.
//!
//! # A clean end
//!
//! Call [`Receiver::drain`] before you stop the server, and [`disable_signals`] so that actix-web
//! does not stop it by itself: at `SIGINT` its workers end at once, at `SIGTERM` when their
//! connections are gone. Either kills a handler whose sender has left. Such a handler is no longer
//! at work, so `drain` returns 0 as if it had come to its end.
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
//!         // The server goes on meanwhile: new deliveries are told to come again.
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
//! # Crate features
//!
//! - `metrics` (off): what is measured goes to the recorder that the program installs. The
//!   documentation of `smartshape-webhook` lists names and labels.
//!
//! # Where requests come from
//!
//! While many unknown tokens wait to be checked, each [`ClientAddr`] gets its turn. It is the peer's address,
//! unless a `ClientAddr` stands in the request's extensions: behind a proxy, put there what it says.
//!
//! # Caveats
//!
//! - Build one receiver outside the closure of `HttpServer::new`. One built inside is one for
//!   each worker, and each knows only the deliveries that it has seen.
//! - `Option<Webhook<E>>` and `Result<Webhook<E>, _>` swallow rejections.
//! - A body that is broken in its framing (a `Content-Length` that is no number) is answered by
//!   actix-web, with an empty 400. `Expect: 100-continue` is answered by it before any handler is
//!   called, so such a sender is invited to send its body before it is rejected.
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
