//! The steps of a plan.

use std::fmt;

use super::{Record, Wanted};
use crate::text::shown;
use crate::url::redact_url;

/// One call of a [`Plan`](super::Plan).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A webhook is created.
    Create(Wanted),
    /// What others put in the place of a recorded webhook is recorded. Nothing is sent.
    Adopt(Record),
    /// A webhook is deleted.
    #[non_exhaustive]
    Delete {
        /// Its id.
        id: String,
        /// The event's name, as far as it is known.
        event: Option<String>,
        /// Why.
        reason: Reason,
    },
}

/// Why a webhook is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A new one takes its place.
    Replaced,
    /// It is not wanted.
    NotWanted,
    /// There is another one for the same event and URL.
    OneTooMany,
    /// It is recorded, but the list does not have it.
    NotListed,
    /// It points at a wanted URL, but is not recorded, and [pruned](super::Plan::prune).
    NotRecorded,
}

/// A step that was carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Done {
    /// A webhook was created.
    Created(Record),
    /// What others put in the place of a recorded webhook is recorded.
    Adopted(Record),
    /// A webhook was deleted, or was gone already.
    #[non_exhaustive]
    Deleted {
        /// Its id.
        id: String,
        /// The event's name, as far as it is known.
        event: Option<String>,
        /// Why.
        reason: Reason,
    },
}

const ADOPTED: &str = "which took the place of a recorded one; its secret is taken to be the wanted one";

fn placed(Record { id, event, url }: &Record) -> String {
    format!("{}: {event} at {}", shown(id), shown(&redact_url(url)))
}

fn removed(id: &str, event: Option<&str>, reason: Reason) -> String {
    format!("{}: {}, {reason}", shown(id), event.map_or("unknown event".to_owned(), shown))
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(record) => write!(f, "created {}", placed(record)),
            Self::Adopted(record) => write!(f, "adopted {}, {ADOPTED}", placed(record)),
            Self::Deleted { id, event, reason } => {
                write!(f, "deleted {}", removed(id, event.as_deref(), *reason))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(wanted) => {
                write!(f, "create {} at {}", wanted.event(), shown(&redact_url(wanted.url())))
            }
            Self::Adopt(record) => write!(f, "adopt {}, {ADOPTED}", placed(record)),
            Self::Delete { id, event, reason } => {
                write!(f, "delete {}", removed(id, event.as_deref(), *reason))
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "replaced",
            Self::NotWanted => "not wanted",
            Self::OneTooMany => "one too many",
            Self::NotListed => "recorded, but not listed",
            Self::NotRecorded => "not recorded",
        })
    }
}
