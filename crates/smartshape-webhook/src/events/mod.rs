//! Events: the envelope, the nine typed events, and the documents in them.
//!
//! Documents are lenient, read-only views: nearly every field may be missing, ids and times come in
//! several forms, and unknown fields are ignored. What came in stays beside them as raw JSON, so
//! nothing is lost where the views know less than SmartShape sends.

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
mod person;
mod raw;
mod time;

pub use annotation::{Annotation, AnnotationTarget, Color, Point};
pub use attributes::{Attribute, Attributes};
pub use changes::Change;
pub use configuration::{Configuration, Modifier};
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
