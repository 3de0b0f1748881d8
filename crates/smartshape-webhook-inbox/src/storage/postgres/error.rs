//! Maps PostgreSQL's errors to kinds and advice.

use std::error::Error as _;

use crate::error::{InboxError, InboxErrorKind};

pub(super) fn from_sqlx(error: sqlx::Error) -> InboxError {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    let (kind, advice) = match &*code {
        "53100" => (InboxErrorKind::Full, "the database's disk is full: free some space, or purge the inbox"),
        "25006" => (InboxErrorKind::ReadOnly, "the server is read-only: connect to the primary"),
        "28P01" | "28000" => {
            (InboxErrorKind::InvalidSettings, "the server rejected the user: check user and password")
        }
        "3D000" => (InboxErrorKind::InvalidSettings, "there is no such database: create it"),
        "42501" => (InboxErrorKind::ReadOnly, "the user lacks a permission: see the grants in the README"),
        // The response of a pooler to a startup parameter that it does not pass on.
        "08P01" => (
            InboxErrorKind::InvalidSettings,
            "the server, or a pooler before it, rejected how the session starts: let the pooler ignore the parameters that it names",
        ),
        "XX001" | "XX002" => (InboxErrorKind::Corrupt, "the database is damaged"),
        // Connections, resources, an operator's intervention, transactions that idled for too long, and conflicts
        // that are worth a retry.
        code if ["08", "53", "57", "58", "40", "55", "25P0"].iter().any(|class| code.starts_with(class)) => {
            (InboxErrorKind::Unavailable, "the server is not available")
        }
        "" => match error {
            sqlx::Error::Configuration(_) => (InboxErrorKind::InvalidSettings, "the URL cannot be used"),
            sqlx::Error::Tls(_) => (
                InboxErrorKind::InvalidSettings,
                "no TLS with this server: name the root of its certificate with sslrootcert, or what you trust it for with sslmode, in the URL",
            ),
            _ => (InboxErrorKind::Unavailable, "the server is not available"),
        },
        // Values that do not fit, and what a trigger or a limit of the server makes of them.
        code if ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class)) => {
            (InboxErrorKind::Rejected, "the server rejected a value")
        }
        _ => (InboxErrorKind::Unavailable, "the server rejected a statement"),
    };
    InboxError::new(kind, format!("inbox on PostgreSQL: {advice} ({error})")).caused_by(error)
}

/// A serialization failure or a deadlock, after which a server expects that its client tries again.
pub(super) fn is_conflict(error: &InboxError) -> bool {
    cause(error).and_then(code).is_some_and(|code| ["40001", "40P01"].contains(&&*code))
}

/// The server, or the way to it, has failed, and not what was asked of it. A statement that took too long is none.
pub(super) fn is_outage(error: &InboxError) -> bool {
    let is_of_server = |code: String| {
        code != "57014" && ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
    };
    cause(error).is_some_and(|cause| code(cause).is_none_or(is_of_server))
}

fn cause(error: &InboxError) -> Option<&sqlx::Error> {
    error.source()?.downcast_ref()
}

/// The SQLSTATE of an error of the server.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
