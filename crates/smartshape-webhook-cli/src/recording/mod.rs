//! What `webhook listen --record` writes and `token inspect --recording` reads: one line of JSON for
//! each listener's beginning and for each delivery.
//!
//! Whoever has a token can send any event with it, for ever. So a recording holds none of it but
//! prefix and cost; salt and token are there as marks, which are equal where the originals are.

mod display;
mod fingerprint;
mod format;
mod report;

pub(crate) use self::fingerprint::{Fingerprinter, TokenFingerprints};
pub(crate) use self::format::{Beginning, Entry, Named};
pub(crate) use self::report::Report;
