//! What PostgreSQL's errors mean.

use crate::error::{InboxError, InboxErrorKind};

pub(super) fn of(error: sqlx::Error) -> InboxError {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    let (kind, advice) = match &*code {
        "53100" => (InboxErrorKind::Full, "the database's disk is full: free some space, or purge the inbox"),
        "25006" => (InboxErrorKind::ReadOnly, "the server is read-only: connect to the primary"),
        "28P01" | "28000" => {
            (InboxErrorKind::Refused, "the server refused the user: check user and password")
        }
        "3D000" => (InboxErrorKind::Refused, "there is no such database: create it"),
        "42501" => (InboxErrorKind::Refused, "the user lacks a permission"),
        "XX001" | "XX002" => (InboxErrorKind::Corrupt, "the database is damaged"),
        // Connections, resources, an operator's intervention, and clashes that pass by themselves.
        code if ["08", "53", "57", "58", "40", "55"].iter().any(|class| code.starts_with(class)) => {
            (InboxErrorKind::Unavailable, "the server is not available")
        }
        "" => match error {
            sqlx::Error::Configuration(_) => (InboxErrorKind::Settings, "the URL cannot be used"),
            sqlx::Error::Tls(_) => (InboxErrorKind::Settings, "no TLS with this server"),
            _ => (InboxErrorKind::Unavailable, "the server is not available"),
        },
        _ => (InboxErrorKind::Refused, "the server refused a statement"),
    };
    InboxError::new(kind, format!("inbox on PostgreSQL: {advice} ({error})")).caused_by(error)
}
