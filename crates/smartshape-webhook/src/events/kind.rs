//! The names of the events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// One of the nine events that SmartShape's manual documents.
        ///
        /// ```
        /// use smartshape_webhook::EventKind;
        ///
        /// assert_eq!(EventKind::FileUploaded.as_str(), "file_uploaded");
        /// assert_eq!("file_uploaded".parse(), Ok(EventKind::FileUploaded));
        /// assert!("file_deleted".parse::<EventKind>().is_err());
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl EventKind {
            /// All nine, in the manual's order.
            pub const ALL: [Self; 9] = [$(Self::$kind,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

event_kinds! {
    /// An attribute was added or changed.
    AttributeUpdated = "attribute_updated",
    /// A file, or a new revision of one, was uploaded.
    FileUploaded = "file_uploaded",
    /// An uploaded file is ready to be viewed.
    FileOptimized = "file_optimized",
    /// An annotation was created.
    AnnotationCreated = "annotation_created",
    /// An annotation was changed.
    AnnotationUpdated = "annotation_updated",
    /// An annotation was removed.
    AnnotationRemoved = "annotation_removed",
    /// A configuration was created.
    ConfigurationCreated = "configuration_created",
    /// A configuration was changed.
    ConfigurationUpdated = "configuration_updated",
    /// A configuration was removed.
    ConfigurationRemoved = "configuration_removed",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = UnknownEventName;

    fn from_str(name: &str) -> Result<Self, UnknownEventName> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownEventName)
    }
}

/// A name that is none of the nine; its text lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownEventName;

impl fmt::Display for UnknownEventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown event; the known ones are {}", EventKind::ALL.map(EventKind::as_str).join(", "))
    }
}

impl std::error::Error for UnknownEventName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_agrees() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!(UnknownEventName.to_string().contains("configuration_removed"));
    }
}
