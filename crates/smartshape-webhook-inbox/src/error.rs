//! The inbox's error.

use std::error::Error;
use std::fmt;

/// An error of an inbox. Its text says what happened and what to do, and never shows credentials.
pub struct InboxError {
    kind: InboxErrorKind,
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of an [`InboxError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InboxErrorKind {
    /// The database cannot be reached, did not respond in time, or rejected a statement. Retrying may help.
    Unavailable,
    /// The disk is full, or [`max_size_bytes`](crate::InboxBuilder::max_size_bytes) is reached.
    Full,
    /// The worker of another process holds the lock of the file.
    Locked,
    /// The file or database is not an inbox.
    NotAnInbox,
    /// The database is damaged.
    Corrupt,
    /// The database cannot be written to.
    ReadOnly,
    /// A newer version of this crate has changed the schema.
    NewerSchema,
    /// An inbox that was opened read-only has the schema of an older version, which lacks what was requested.
    OlderSchema,
    /// The server acknowledges commits that it can still lose.
    NotDurable,
    /// A setting, path or URL is invalid, or the server rejected the login.
    InvalidSettings,
    /// The database rejected a value, and would reject it again.
    Rejected,
}

impl InboxError {
    /// The text says what happened and what to do, without credentials.
    pub(crate) fn new(kind: InboxErrorKind, text: impl fmt::Display) -> Self {
        Self { kind, text: text.to_string(), source: None }
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> InboxErrorKind {
        self.kind
    }
}

impl fmt::Display for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Prints the same text as `Display`, because a `main` that returns an error shows it with `Debug`.
impl fmt::Debug for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for InboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
