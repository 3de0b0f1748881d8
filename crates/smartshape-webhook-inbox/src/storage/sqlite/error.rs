//! Maps SQLite's errors to kinds and advice.

use std::path::Path;

use crate::error::{InboxError, InboxErrorKind};

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READONLY: u32 = 8;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOTADB: u32 = 26;
/// An extended code, `SQLITE_IOERR_SHMSIZE`: the log's index cannot grow.
const SHMSIZE: u32 = 4874;

pub(super) fn is_full(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(FULL)
}

/// Whether the connection can be used again after a rollback.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(FULL | BUSY | LOCKED))
}

pub(super) fn from_sqlx(path: &Path, error: sqlx::Error) -> InboxError {
    let (kind, advice) = match primary_code(&error) {
        Some(FULL) => (InboxErrorKind::Full, "the disk is full: free some space, or purge the inbox"),
        Some(BUSY | LOCKED) => (InboxErrorKind::Unavailable, "another process has it locked"),
        Some(READONLY) => {
            (InboxErrorKind::ReadOnly, "it is read-only: let this user write to the file and its folder")
        }
        Some(CORRUPT) => (
            InboxErrorKind::Corrupt,
            "the file is damaged: move it away and recover its events with `sqlite3 FILE .recover`",
        ),
        Some(NOTADB) => {
            (InboxErrorKind::NotAnInbox, "it is not a SQLite database, or damaged: name another file")
        }
        _ => (InboxErrorKind::Unavailable, "SQLite failed"),
    };
    let text = format!("inbox {}: {advice} ({error})", path.display());
    InboxError::new(kind, text).caused_by(error)
}

/// SQLite's primary result code, without the bits of the extended code.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    match error.as_database_error()?.code()?.parse().ok()? {
        SHMSIZE => Some(FULL),
        code => Some(code & 0xff),
    }
}
