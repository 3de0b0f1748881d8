//! Tests of the public interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

mod envelope;
mod fixtures;
mod hostile;
mod variations;

#[cfg(feature = "receiver")]
mod common;
#[cfg(feature = "receiver")]
mod dedup_store;
#[cfg(feature = "receiver")]
mod delivery;
#[cfg(feature = "receiver")]
mod duplicates;
#[cfg(feature = "receiver")]
mod generated;
#[cfg(feature = "receiver")]
mod hashing;
#[cfg(feature = "receiver")]
mod in_flight;
#[cfg(feature = "receiver")]
mod limits;
#[cfg(feature = "receiver")]
mod log;
#[cfg(feature = "receiver")]
mod metrics;
#[cfg(feature = "receiver")]
mod random;
#[cfg(feature = "receiver")]
mod receiver;
#[cfg(feature = "receiver")]
mod recorder;
#[cfg(feature = "receiver")]
mod responses;
#[cfg(feature = "receiver")]
mod sharing;
#[cfg(feature = "receiver")]
mod until;
