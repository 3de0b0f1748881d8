//! The nine typed events, and the one type that holds any of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::annotation::Annotation;
use super::attributes::{self, Attribute, NodeAttributes};
use super::changes::{self, Change};
use super::configuration::Configuration;
use super::file::FileDocument;
use super::ids::NodeId;
use super::kind::EventKind;
use super::lenient;
use super::person::Person;
use super::raw::{DecodeError, RawJson};

/// One of the nine documented events.
///
/// Serialising one emits its data exactly as it was received. Sealed: SmartShape's manual documents
/// no others.
pub trait TypedEvent: sealed::Sealed + Clone + Serialize + Send + Sync + Sized + 'static {
    /// Which event it is.
    const KIND: EventKind;

    /// Decodes the event's data.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the data does not have the documented form.
    fn from_data(data: RawJson) -> Result<Self, DecodeError>;

    /// The event's data, exactly as it was received.
    fn raw(&self) -> &RawJson;
}

mod sealed {
    pub trait Sealed {
        /// The typed event in `event`, if it is this one and was decoded.
        #[cfg(feature = "receiver")]
        fn from_event(event: &super::Event) -> Option<&Self>;
    }
}

/// A document beside the text that it was read from.
struct Parsed<D> {
    document: D,
    raw: RawJson,
}

impl<D: DeserializeOwned> Parsed<D> {
    fn read(raw: RawJson) -> Result<Self, DecodeError> {
        let document = lenient::object(raw.as_str()).map_err(|error| DecodeError::new(&error))?;
        Ok(Self { document, raw })
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident($document:ty);)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone)]
            pub struct $event(Arc<Parsed<$document>>);

            impl sealed::Sealed for $event {
                #[cfg(feature = "receiver")]
                fn from_event(event: &Event) -> Option<&Self> {
                    match event {
                        Event::$event(event) => Some(event),
                        _ => None,
                    }
                }
            }

            impl TypedEvent for $event {
                const KIND: EventKind = EventKind::$event;

                fn from_data(raw: RawJson) -> Result<Self, DecodeError> {
                    Parsed::read(raw).map(|parsed| Self(Arc::new(parsed)))
                }

                fn raw(&self) -> &RawJson {
                    &self.0.raw
                }
            }

            impl Serialize for $event {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    self.0.raw.serialize(serializer)
                }
            }

            impl fmt::Debug for $event {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_tuple(stringify!($event)).field(&self.0.raw).finish()
                }
            }
        )*

        /// An event. Serialising one emits its data exactly as it was received.
        ///
        /// What does not fit is kept apart: [`Unknown`](Self::Unknown) for a name that SmartShape's
        /// manual does not document, [`Undecoded`](Self::Undecoded) for a documented event whose data
        /// has changed its form. A `_ =>` arm would swallow both; name the second at least.
        ///
        /// ```
        /// use smartshape_webhook::{Event, RawJson};
        ///
        /// let data = RawJson::parse(r#"{"name": "test_model.scene", "size": 1e2}"#)?;
        /// let event = Event::decode("file_uploaded", data.clone());
        /// let Event::FileUploaded(file) = &event else { panic!() };
        /// assert_eq!(file.size, Some(100));
        /// assert_eq!(serde_json::to_string(&event).unwrap(), data.as_str());
        ///
        /// let Event::Undecoded(undecoded) = Event::decode("file_uploaded", RawJson::parse("[]")?) else { panic!() };
        /// assert_eq!(undecoded.raw().as_str(), "[]");
        /// # Ok::<(), smartshape_webhook::DecodeError>(())
        /// ```
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $event($event),)*
            /// An event whose name is not documented.
            Unknown(UnknownEvent),
            /// A documented event whose data could not be decoded.
            Undecoded(UndecodedEvent),
        }

        impl Event {
            /// Decodes an event. Never fails.
            #[must_use]
            pub fn decode(name: &str, data: RawJson) -> Self {
                match name.parse() {
                    $(Ok(EventKind::$event) => match $event::from_data(data.clone()) {
                        Ok(event) => Self::$event(event),
                        Err(error) => Self::Undecoded(UndecodedEvent { kind: EventKind::$event, error, raw: data }),
                    },)*
                    Err(_) => Self::Unknown(UnknownEvent { name: name.into(), raw: data }),
                }
            }

            /// Which of the nine it is, decoded or not; `None` for an unknown name.
            #[must_use]
            pub fn kind(&self) -> Option<EventKind> {
                match self {
                    $(Self::$event(_) => Some(EventKind::$event),)*
                    Self::Unknown(_) => None,
                    Self::Undecoded(event) => Some(event.kind),
                }
            }

            /// The event's data, exactly as it was received.
            #[must_use]
            pub fn raw(&self) -> &RawJson {
                match self {
                    $(Self::$event(event) => event.raw(),)*
                    Self::Unknown(event) => &event.raw,
                    Self::Undecoded(event) => &event.raw,
                }
            }
        }
    };
}

events! {
    /// An attribute was added or changed.
    AttributeUpdated(AttributeData);
    /// A file, or a new revision of one, was uploaded. Dereferences to the [`FileDocument`].
    FileUploaded(FileDocument);
    /// An uploaded file is ready to be viewed. Dereferences to the [`FileDocument`].
    FileOptimized(FileDocument);
    /// An annotation was created. Dereferences to the [`Annotation`].
    AnnotationCreated(Annotation);
    /// An annotation was changed.
    AnnotationUpdated(Versions<Annotation>);
    /// An annotation was removed. Dereferences to the [`Annotation`] as it was.
    AnnotationRemoved(Annotation);
    /// A configuration was created. Dereferences to the [`Configuration`].
    ConfigurationCreated(Configuration);
    /// A configuration was changed.
    ConfigurationUpdated(Versions<Configuration>);
    /// A configuration was removed. Dereferences to the [`Configuration`] as it was.
    ConfigurationRemoved(Configuration);
}

macro_rules! documents {
    ($($event:ident($document:ty))*) => {$(
        impl Deref for $event {
            type Target = $document;

            fn deref(&self) -> &$document {
                &self.0.document
            }
        }
    )*};
}

documents! {
    FileUploaded(FileDocument) FileOptimized(FileDocument)
    AnnotationCreated(Annotation) AnnotationRemoved(Annotation)
    ConfigurationCreated(Configuration) ConfigurationRemoved(Configuration)
}

macro_rules! updates {
    ($($event:ident($document:ty))*) => {$(
        impl $event {
            /// The document before (`old`).
            #[must_use]
            pub fn before(&self) -> &$document {
                &self.0.document.old.document
            }

            /// The document after (`new`).
            #[must_use]
            pub fn after(&self) -> &$document {
                &self.0.document.new.document
            }

            /// What was changed. Differences of mere representation are left out, such as
            /// `permissions` once as `{}` and once as `[]`. An object or a list in which more than
            /// 10,000 values were changed counts as one change; so does one that lies more than 64
            /// levels deep, or below a path of more than 1024 bytes.
            #[must_use]
            pub fn changes(&self) -> Vec<Change> {
                changes::between(&self.0.document.old.raw, &self.0.document.new.raw)
            }
        }
    )*};
}

updates! { AnnotationUpdated(Annotation) ConfigurationUpdated(Configuration) }

impl AttributeUpdated {
    /// Who changed the attributes.
    #[must_use]
    pub fn user(&self) -> Option<&Person> {
        self.0.document.user.as_ref()
    }

    /// Each attribute that was set, with its node, in the order in which they were sent.
    ///
    /// ```
    /// use smartshape_webhook::{AttributeUpdated, RawJson, TypedEvent};
    ///
    /// let data = RawJson::parse(r#"{"nodeIdToAttributes": {"5b33": {"new attr 1": "myValue 42"}}}"#)?;
    /// let event = AttributeUpdated::from_data(data)?;
    /// let (node, attribute) = event.attributes().next().unwrap();
    /// assert_eq!((node.as_str(), attribute.name.as_str()), ("5b33", "new attr 1"));
    /// assert_eq!(attribute.value.decode::<String>()?, "myValue 42");
    /// # Ok::<(), smartshape_webhook::DecodeError>(())
    /// ```
    pub fn attributes(&self) -> impl Iterator<Item = (&NodeId, &Attribute)> {
        let nodes = self.0.document.node_id_to_attributes.iter();
        nodes.flat_map(|(node, attributes)| attributes.iter().map(move |attribute| (node, attribute)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttributeData {
    #[serde(default, deserialize_with = "lenient::member")]
    user: Option<Person>,
    #[serde(deserialize_with = "attributes::by_node")]
    node_id_to_attributes: NodeAttributes,
}

/// The `old` and `new` version of a document.
#[derive(Deserialize)]
#[serde(bound = "D: DeserializeOwned")]
struct Versions<D> {
    old: Parsed<D>,
    new: Parsed<D>,
}

impl<'de, D: DeserializeOwned> Deserialize<'de> for Parsed<D> {
    fn deserialize<De: Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
        Self::read(RawJson::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// An event whose name SmartShape's manual does not document.
#[derive(Clone, Debug)]
pub struct UnknownEvent {
    name: Box<str>,
    raw: RawJson,
}

impl UnknownEvent {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data, exactly as it was received.
    #[must_use]
    pub fn raw(&self) -> &RawJson {
        &self.raw
    }
}

/// A documented event whose data does not have the documented form.
#[derive(Clone, Debug)]
pub struct UndecodedEvent {
    kind: EventKind,
    error: DecodeError,
    raw: RawJson,
}

impl UndecodedEvent {
    /// Which event it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// What does not fit.
    #[must_use]
    pub fn error(&self) -> &DecodeError {
        &self.error
    }

    /// The data, exactly as it was received.
    #[must_use]
    pub fn raw(&self) -> &RawJson {
        &self.raw
    }
}

impl Event {
    /// The event's name as it was sent.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown(event) => event.name(),
            known => known.kind().map_or("", EventKind::as_str),
        }
    }

    /// Whether it is a documented event whose data could not be decoded.
    #[must_use]
    pub fn is_undecoded(&self) -> bool {
        matches!(self, Self::Undecoded(_))
    }

    /// Whether its name is not documented.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw().serialize(serializer)
    }
}
