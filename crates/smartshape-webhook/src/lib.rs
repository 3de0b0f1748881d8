//! SmartShape webhooks for Rust: the framework-free core (unofficial).
//!
//! See the adapters for how to mount it.

pub mod events;

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
mod head;
#[cfg(feature = "receiver")]
mod lock;
#[cfg(feature = "receiver")]
mod receiver;
#[cfg(feature = "receiver")]
mod refusal;
#[cfg(feature = "receiver")]
mod secret;
#[cfg(feature = "receiver")]
mod seen;
#[cfg(feature = "receiver")]
mod token;
#[cfg(feature = "receiver")]
mod verify;

pub use events::*;

#[cfg(feature = "receiver")]
pub use {
    answer::Answer,
    delivery::Delivery,
    dispatch::{Dispatch, Dispatcher, FromDelivery, Mismatch},
    handler::{BoxHandler, Handler, HandlerError, HandlerErrorKind},
    head::Head,
    receiver::{Claimed, ConfigError, Ending, OnMismatch, Received, Receiver, ReceiverBuilder, Stats},
    refusal::{Refusal, RefusalKind},
    secret::{NamedSecret, Secret, SecretError},
    seen::{ClaimState, DeliveryKey, Holder, MemoryStore, SeenStore, StoreError, StoreFuture},
    token::{TOKEN_HEADER, Token, TokenError},
};
