//! SmartShape webhooks: the framework-free core of a receiver (unofficial).
//!
//! Use it through an adapter, which re-exports what an application needs: `smartshape-webhook-tower` for axum and hyper,
//! `smartshape-webhook-actix` or `smartshape-webhook-warp`.
//!
//! - [`Event`] and the nine typed events: lenient views of the documents, with the JSON as received beside them.
//! - [`Receiver`]: verifies, reads, parses and deduplicates. [`Receiver::serve`] is all that an adapter calls.
//! - [`Handler`], [`EventRouter`], [`HandlerError`]: the application's side. [`Delivery`] is what a handler gets.
//! - [`Secret`], [`NamedSecret`]: the secrets with which the webhooks were registered.
//! - [`Rejection`], [`WebhookResponse`]: the one table of responses.
//! - [`DedupStore`]: deduplication across several processes behind one URL.
//!
#![cfg_attr(feature = "receiver", doc = "```")]
#![cfg_attr(not(feature = "receiver"), doc = "```ignore")]
//! use smartshape_webhook::{Delivery, Event, HandlerError};
//!
//! async fn on_delivery(delivery: Delivery) -> Result<(), HandlerError> {
//!     match delivery.event() {
//!         Event::AttributeUpdated(event) => {
//!             for (node, attribute) in event.attributes() {
//!                 println!("{node}: {} is now {}", attribute.name, attribute.text());
//!             }
//!         }
//!         Event::AnnotationUpdated(event) => println!("{} fields changed", event.changes().len()),
//!         Event::Undecoded(event) => return Err(format!("{}: {}", event.kind(), event.error()).into()),
//!         other => println!("{} is of no interest", other.name()),
//!     }
//!     Ok(())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let delivery = Delivery::for_test(r#"{"file": "5c6f", "event": "attribute_updated", "owner": "test@smartshape.io",
//!     "data": {"nodeIdToAttributes": {"5b33": {"color": "red"}}}, "runTimestamp": 1550824906016, "uuid": "43a57abb"}"#)?;
//! assert!(on_delivery(delivery).await.is_ok());
//! # Ok::<(), smartshape_webhook::EnvelopeError>(()) }).unwrap();
//! ```
//!
//! # Crate features
//!
//! - `receiver` (on): everything but the event types and [`escape_for_log`]. Without it the crate depends on neither bcrypt nor
//!   tokio, which suits senders and other tools.
//!
#![doc = include_str!("../METRICS.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod escape;
mod events;

pub use escape::{EscapedForLog, escape_error_for_log, escape_for_log};
pub use events::*;

cfg_if::cfg_if! {
    if #[cfg(feature = "receiver")] {
        mod auth;
        mod cache;
        mod dedup;
        mod delivery;
        mod lock;
        mod memory_limit;
        mod metrics;
        mod receiver;
        mod request;
        mod response;
        mod webhook_usage;

        pub use auth::client_addr::ClientAddr;
        pub use auth::secret::{NamedSecret, Secret, SecretError};
        pub use auth::token::{TOKEN_HEADER, Token, TokenError};
        pub use dedup::store::{ClaimState, DedupStore, LeaseToken, StoreError, StoreFuture};
        pub use delivery::handler::{BoxHandler, Handler, HandlerError, HandlerErrorKind};
        pub use delivery::key::{DeliveryKey, KeyError};
        pub use delivery::router::{EventRouter, FromDelivery, RoutedHandler, UnexpectedEvent};
        pub use delivery::{Delivery, DeliveryMeta};
        pub use receiver::{
            Claimed, ConfigError, OnUnexpectedEvent, Outcome, Received, Receiver, ReceiverBuilder, ReceiverStats,
        };
        pub use request::head::RequestHead;
        pub use request::lingering::LingeringBody;
        pub use response::WebhookResponse;
        pub use response::rejection::{Rejection, RejectionKind};
    }
}
