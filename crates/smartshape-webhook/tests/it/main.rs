//! Tests of the public interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

#[cfg(feature = "receiver")]
mod answers;
#[cfg(feature = "receiver")]
mod claims;
#[cfg(feature = "receiver")]
mod delivery;
#[cfg(feature = "receiver")]
mod duplicates;
mod envelope;
mod fixtures;
#[cfg(feature = "receiver")]
mod generated;
#[cfg(feature = "receiver")]
mod hashing;
mod hostile;
#[cfg(feature = "receiver")]
mod limits;
#[cfg(feature = "receiver")]
mod log;
#[cfg(feature = "receiver")]
mod measure;
#[cfg(feature = "receiver")]
mod random;
#[cfg(feature = "receiver")]
mod receiver;
#[cfg(feature = "receiver")]
mod recorder;
#[cfg(feature = "receiver")]
mod seen;
#[cfg(feature = "receiver")]
mod sharing;
#[cfg(feature = "receiver")]
mod store;
#[cfg(feature = "receiver")]
mod until;
mod variations;
