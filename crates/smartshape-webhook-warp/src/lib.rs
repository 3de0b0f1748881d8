//! SmartShape webhooks for warp (unofficial).
//!
//! Two doors:
//!
//! - [`endpoint()`]: a filter with one handler that answers by itself. The recommended one: the
//!   handler runs to its end when the sender hangs up, and no rejection reaches another route.
//! - [`webhook()`] and [`recover`]: a filter that extracts a [`Webhook<E>`](Webhook) for a handler
//!   of your own, which answers with [`Webhook::acknowledge`].
//!
//! Both answer every request by the core's one table. Call [`Receiver::drain`] at shutdown.
//!
//! # Crate features
//!
//! - `metrics` (off): what is measured goes to the recorder that the program installs. The
//!   documentation of `smartshape-webhook` lists names and labels.
//!
//! # Where requests come from
//!
//! While many unknown tokens wait to be checked, each [`ClientAddr`] gets its turn. It is the peer's address,
//! which `warp::serve` knows, unless a `ClientAddr` stands in the request's extensions. Put one there behind a
//! proxy, and where `warp::service` runs in a server of your own.
//!
//! # Caveats
//!
//! - A filter rejects. Without [`recover`], warp answers a rejection with status 500 and the
//!   rejection's `Debug` text; and behind `.or()`, a rejected delivery is offered to the next route.
//! - A body that is broken in its framing (a `Content-Length` that is no number) is answered by
//!   hyper, with an empty 400.
//! - warp has no time limit for request heads or idle connections.
//! - warp does not tell which version of HTTP is spoken. On HTTP/2 a rejected body is dropped at once, but for a
//!   client that sends a `Host` header there: such a body is kept for a moment, as on HTTP/1.1, and holds up that
//!   client's other streams.
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
