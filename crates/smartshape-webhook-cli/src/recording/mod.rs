//! What `webhook listen --record` writes and `token inspect --recording` reads: one line of JSON for
//! each listener's header and for each delivery.
//!
//! A token is a bearer token without an expiry, so a recording contains only its prefix and cost. Salt and token are
//! replaced by fingerprints: keyed hashes that are equal if the originals are.

mod display;
mod fingerprint;
mod format;
mod report;

pub(crate) use self::fingerprint::{Fingerprinter, TokenFingerprints};
pub(crate) use self::format::{Entry, EventFields, RecordingHeader, entry, is_recording};
pub(crate) use self::report::Report;
