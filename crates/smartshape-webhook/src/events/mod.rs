//! Events: the envelope, the nine typed events, and the documents in them.
//!
//! Documents are lenient, read-only views: nearly every field may be missing, ids and times come in
//! several forms, and unknown fields are ignored. A field of another type than the documented one reads
//! as though it were missing, and a lone surrogate in a string reads as U+FFFD. What came in stays
//! beside them as raw JSON, so nothing is lost where the views know less than SmartShape sends.
//!
//! ```
//! use smartshape_webhook::{Envelope, Event, RawJson};
//!
//! let body = br#"{"file": "5c6f", "event": "attribute_updated", "owner": "test@smartshape.io",
//!     "data": {"user": {"email": "test@smartshape.io"}, "nodeIdToAttributes": {"5b33": {"weight": 1e2}}},
//!     "runTimestamp": 1550824906016, "uuid": "43a57abb-4ab6-435c-bdc4-d0a5e3bdeb96"}"#;
//! let envelope = Envelope::parse(body)?;
//! let data = RawJson::parse(envelope.data().to_owned())?;
//! match Event::decode(envelope.event(), data) {
//!     Event::AttributeUpdated(event) => {
//!         let (node, attribute) = event.attributes().next().unwrap();
//!         assert_eq!((node.as_str(), attribute.name.as_str()), ("5b33", "weight"));
//!         assert_eq!((attribute.as_f64(), attribute.value.as_str()), (Some(100.0), "1e2"));
//!     }
//!     // SmartShape changed a documented event: nothing is lost, but somebody should know.
//!     Event::Undecoded(undecoded) => panic!("{}: {}", undecoded.kind(), undecoded.error()),
//!     other => panic!("unexpected {}", other.name()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
