//! The steps of a plan.

use std::fmt;

use super::Wanted;
use crate::text::shown;
use crate::url::redact_url;

/// One call of a [`Plan`](super::Plan).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A webhook is created.
    Create(Wanted),
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
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(wanted) => {
                write!(f, "create {} at {}", wanted.event(), shown(&redact_url(wanted.url())))
            }
            Self::Delete { id, event, reason } => {
                let event = event.as_deref().map_or("unknown event".to_owned(), shown);
                write!(f, "delete {}: {event}, {reason}", shown(id))
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
        })
    }
}
