// The examples are tests of the crate `conformance`.
#![cfg_attr(not(doctest), doc = include_str!("../README.md"))]
#![cfg_attr(
    feature = "receiver",
    doc = "See [`Event`], [`Receiver::serve`], [`Handler`], [`EventRouter`], [`Delivery`], [`NamedSecret`], [`Rejection`] and \
           [`DedupStore`]."
)]
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
