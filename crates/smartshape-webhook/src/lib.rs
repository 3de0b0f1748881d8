//! SmartShape webhooks: the framework-free core of a receiver (unofficial).
//!
//! Most people want an adapter, which re-exports all of this: `smartshape-webhook-tower` for axum
//! and hyper, `smartshape-webhook-actix`, `smartshape-webhook-warp`.
//!
//! - [`Event`] and the nine typed events: lenient views, with what came in beside them.
//! - [`Receiver`]: verifies, reads, deduplicates. [`Receiver::serve`] is all that a framework needs.
//! - [`Handler`], [`Dispatch`], [`HandlerError`]: your side. [`Delivery`] is what it gets.
//! - [`Secret`], [`NamedSecret`]: what the webhooks were registered with.
//! - [`Refusal`], [`Answer`]: the one table of what is answered.
//! - [`SeenStore`]: which deliveries were handled, for several processes at one URL.
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
//! - `receiver` (on): everything but the event types. Without it neither bcrypt nor tokio is
//!   needed, which suits senders and other tools.
//! - `metrics` (off): what is measured goes to the recorder that the program installs. See below.
//!
#![doc = include_str!("../METRICS.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod events;

#[cfg(feature = "receiver")]
mod answer;
#[cfg(feature = "receiver")]
mod body;
#[cfg(feature = "receiver")]
mod bounded;
#[cfg(feature = "receiver")]
mod budget;
#[cfg(feature = "receiver")]
mod claims;
#[cfg(feature = "receiver")]
mod delivery;
#[cfg(feature = "receiver")]
mod dispatch;
#[cfg(feature = "receiver")]
mod handler;
#[cfg(feature = "receiver")]
mod hashed;
#[cfg(feature = "receiver")]
mod head;
#[cfg(feature = "receiver")]
mod linger;
#[cfg(feature = "receiver")]
mod lock;
#[cfg(feature = "receiver")]
mod measure;
#[cfg(feature = "receiver")]
mod printable;
#[cfg(feature = "receiver")]
mod receiver;
#[cfg(feature = "receiver")]
mod refusal;
#[cfg(feature = "receiver")]
mod secret;
#[cfg(feature = "receiver")]
mod seen;
#[cfg(feature = "receiver")]
mod source;
#[cfg(feature = "receiver")]
mod token;
#[cfg(feature = "receiver")]
mod verify;

pub use events::*;

#[cfg(feature = "receiver")]
pub use {
    answer::Answer,
    delivery::{Delivery, Restored},
    dispatch::{Dispatch, Dispatcher, FromDelivery, Mismatch},
    handler::{BoxHandler, Handler, HandlerError, HandlerErrorKind},
    head::Head,
    linger::Lingering,
    printable::{Printable, printable, printable_error},
    receiver::{Claimed, ConfigError, Ending, OnMismatch, Received, Receiver, ReceiverBuilder, Stats},
    refusal::{Refusal, RefusalKind},
    secret::{NamedSecret, Secret, SecretError},
    seen::{ClaimState, DeliveryKey, Holder, KeyError, MemoryStore, SeenStore, StoreError, StoreFuture},
    source::Source,
    token::{TOKEN_HEADER, Token, TokenError},
};
