// The examples are tests of the crate `conformance`, which has what they need.
#![cfg_attr(not(doctest), doc = include_str!("../README.md"))]
//! See [`endpoint()`], [`Webhook`], [`Delivery`], [`Receiver::drain`] and [`ClientAddr`].
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
