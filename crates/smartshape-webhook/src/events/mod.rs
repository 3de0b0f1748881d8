//! Events: the envelope, the nine typed events, and the documents in them.

mod annotation;
mod attributes;
mod changes;
mod configuration;
mod envelope;
mod event;
mod file;
mod ids;
mod kind;
mod lenient;
mod number;
mod person;
mod raw;
pub(crate) mod time;

pub use annotation::{Annotation, AnnotationTarget, Color, Point};
pub use attributes::{Attribute, Attributes};
pub use changes::Change;
pub use configuration::{Configuration, Modifier};
#[cfg(feature = "receiver")]
pub(crate) use envelope::BYTE_ORDER_MARK;
pub use envelope::{Envelope, EnvelopeError, EnvelopeErrorKind};
pub use event::{
    AnnotationCreated, AnnotationRemoved, AnnotationUpdated, AttributeUpdated, ConfigurationCreated,
    ConfigurationRemoved, ConfigurationUpdated, Event, FileOptimized, FileUploaded, TypedEvent,
    UndecodedEvent, UnknownEvent,
};
pub use file::{FileDocument, FileState};
pub use ids::{AnnotationId, ConfigurationId, FileId, NodeId};
pub use kind::{EventKind, UnknownEventName};
pub use person::Person;
pub use raw::{DecodeError, RawJson};
