//! What is measured. With feature `metrics` it goes to the recorder that the program installed;
//! without it, all of this is nothing and costs nothing.
//!
//! A label is one of our own static texts, never anything that came from outside.

#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;

#[cfg(not(feature = "metrics"))]
pub(crate) use off::*;
#[cfg(feature = "metrics")]
pub(crate) use on::*;

/// What became of a delivery.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Acknowledged,
    Abandoned,
    Failed,
    Duplicate,
}

/// Why an acknowledged event was of no documented form.
#[derive(Clone, Copy)]
pub(crate) enum Drift {
    Unknown,
    Undecoded,
}
