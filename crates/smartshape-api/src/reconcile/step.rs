//! The steps of a plan.

use std::fmt;

use crate::problem::escape_and_truncate;
use crate::url::redact_url;
use crate::webhook::{DesiredWebhook, WebhookRecord};

/// One call of a [`Plan`](super::Plan).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A webhook is created.
    Create(DesiredWebhook),
    /// A webhook that replaced a recorded one elsewhere is recorded. Nothing is sent.
    Adopt(WebhookRecord),
    /// A webhook is deleted.
    Delete(Deletion),
}

/// A webhook that is deleted, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deletion {
    /// The webhook's id.
    pub id: String,
    /// The event's name, if known.
    pub event: Option<String>,
    /// Why.
    pub reason: DeleteReason,
}

/// Why a webhook is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeleteReason {
    /// A new webhook replaces it.
    Replaced,
    /// It is not in the desired set.
    NotDesired,
    /// Another webhook has the same event and URL.
    Duplicate,
    /// It is recorded, but not listed.
    NotListed,
    /// It has a desired URL, is not recorded, and was [pruned](super::Plan::prune).
    NotRecorded,
}

/// A step that was executed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CompletedStep {
    /// A webhook was created.
    Created(WebhookRecord),
    /// A webhook that replaced a recorded one elsewhere was recorded.
    Adopted(WebhookRecord),
    /// A webhook was deleted, or did not exist any more.
    Deleted(Deletion),
}

const ADOPTED: &str = "which replaced a recorded one; its secret is assumed to be the desired one";

fn placed(WebhookRecord { id, event, url }: &WebhookRecord) -> String {
    format!("{}: {event} at {}", escape_and_truncate(id), escape_and_truncate(&redact_url(url)))
}

impl fmt::Display for Deletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, event, reason } = self;
        let event = event.as_deref().unwrap_or("unknown event");
        write!(f, "{}: {}, {reason}", escape_and_truncate(id), escape_and_truncate(event))
    }
}

impl fmt::Display for CompletedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(record) => write!(f, "created {}", placed(record)),
            Self::Adopted(record) => write!(f, "adopted {}, {ADOPTED}", placed(record)),
            Self::Deleted(deletion) => write!(f, "deleted {deletion}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(desired) => {
                write!(f, "create {} at {}", desired.event(), escape_and_truncate(&redact_url(desired.url())))
            }
            Self::Adopt(record) => write!(f, "adopt {}, {ADOPTED}", placed(record)),
            Self::Delete(deletion) => write!(f, "delete {deletion}"),
        }
    }
}

impl fmt::Display for DeleteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "replaced",
            Self::NotDesired => "not desired",
            Self::Duplicate => "duplicate",
            Self::NotListed => "recorded, but not listed",
            Self::NotRecorded => "not recorded",
        })
    }
}
