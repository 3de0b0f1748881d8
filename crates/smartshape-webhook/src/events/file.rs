//! The document of a file.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;

use super::attributes::Attributes;
use super::ids::{FileId, NodeId};
use super::lenient::{self, LenientValue, document};
use super::person::Person;
use super::raw::RawJson;

document! {
    /// A file, as SmartShape stores it. Every field may be missing.
    ///
    /// ```
    /// use smartshape_webhook::{FileDocument, FileState};
    ///
    /// let file: FileDocument = serde_json::from_str(
    ///     r#"{"_id": "5c6f", "size": 6581919, "state": "queued", "error": "", "created": 1547973548529}"#,
    /// )?;
    /// assert_eq!(file.id().unwrap(), "5c6f");
    /// assert_eq!((file.size, file.state.as_ref()), (Some(6581919), Some(&FileState::Queued)));
    /// assert_eq!(file.error(), None);
    /// assert_eq!(file.created.unwrap().to_string(), "2019-01-20T08:39:08.529Z");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub struct FileDocument(id: FileId) {
        /// The file's name.
        pub name: Option<String>,
        /// The folder that the file lies in.
        pub parent: Option<String>,
        /// The file's path in its bucket.
        pub key: Option<String>,
        /// The bucket.
        pub bucket: Option<String>,
        /// Who owns the file.
        pub owner: Option<Person>,
        /// Who uploaded it.
        pub user: Option<Person>,
        /// The length in bytes.
        pub size: Option<u64>,
        /// When the file was created.
        pub created: Option<Timestamp>,
        /// When the file was changed last.
        pub updated: Option<Timestamp>,
        /// When this revision came.
        pub revision_date: Option<Timestamp>,
        /// How far the file has been converted.
        pub state: Option<FileState>,
        error: Option<String>,
        /// The file's attributes.
        pub attributes: Attributes,
        /// `file` in every sample.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// Whether it is a link to another file.
        pub is_link: Option<bool>,
        /// Empty when the file is not shared.
        pub share_token: Option<String>,
        /// Whether anybody may hold meetings on it.
        pub allow_live_public_meetings: Option<bool>,
        /// The names of the scene trees; known once the file was converted.
        pub scene_tree_names: Vec<String>,
        /// The root node of each scene tree.
        pub scene_tree_roots: Vec<NodeId>,
        /// Roles; empty in every sample, so their form is not known.
        pub roles: Vec<RawJson>,
        /// Who marked the file as a favourite.
        pub favorited_by: Vec<Person>,
    }
}

impl FileDocument {
    /// What went wrong; `None` where SmartShape sends an empty text.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref().filter(|error| !error.is_empty())
    }
}

/// How far a file has been converted. SmartShape does not document the states.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
pub enum FileState {
    /// Waits for its conversion.
    Queued,
    /// Is being converted.
    Converting,
    /// Was converted.
    Converted,
    /// Another state.
    Other(String),
}

impl FileState {
    /// The state as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Queued => "queued",
            Self::Converting => "converting",
            Self::Converted => "converted",
            Self::Other(state) => state,
        }
    }
}

impl LenientValue for FileState {
    fn read(json: &str) -> Option<Self> {
        lenient::decode_string(json).map(Self::from)
    }
}

impl From<String> for FileState {
    fn from(state: String) -> Self {
        match state.as_str() {
            "queued" => Self::Queued,
            "converting" => Self::Converting,
            "converted" => Self::Converted,
            _ => Self::Other(state),
        }
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
