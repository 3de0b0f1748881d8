//! What can go wrong with an inbox.

use std::error::Error;
use std::fmt;

/// An error of an inbox: what happened, and what to do. Never shows credentials.
#[derive(Debug)]
pub struct InboxError {
    kind: InboxErrorKind,
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InboxErrorKind {
    /// The store cannot be reached, or did not answer in time. Trying again may help.
    Unavailable,
    /// The disk is full, or the inbox's size cap is reached.
    Full,
    /// Another process works on the inbox already.
    Locked,
    /// The file or database is not an inbox.
    Foreign,
    /// The store is damaged.
    Corrupt,
    /// The store cannot be written to.
    ReadOnly,
    /// The store belongs to a newer version of this crate.
    Newer,
    /// The store would acknowledge what it can still lose.
    NotDurable,
    /// A setting that cannot be.
    Settings,
    /// The store rejected what it was asked; a fault of this crate, or of the store's permissions.
    Rejected,
}

impl InboxError {
    /// An error of this kind. The text says what happened and what to do, without credentials.
    pub fn new(kind: InboxErrorKind, text: impl fmt::Display) -> Self {
        Self { kind, text: text.to_string(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of thing went wrong.
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

impl Error for InboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
