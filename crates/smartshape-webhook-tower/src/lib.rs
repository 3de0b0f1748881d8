// The examples are tests of the crate `conformance`, which has what they need.
#![cfg_attr(not(doctest), doc = include_str!("../README.md"))]
//! See [`endpoint()`], [`WebhookLayer`], [`Delivery`], [`Receiver::drain`] and [`ClientAddr`].
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
