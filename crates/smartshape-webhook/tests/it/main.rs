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

cfg_if::cfg_if! {
    if #[cfg(feature = "receiver")] {
        mod common;
        mod dedup_store;
        mod delivery;
        mod duplicates;
        mod generated;
        mod hashing;
        mod in_flight;
        mod limits;
        mod log;
        mod metrics;
        mod random;
        mod receiver;
        mod recorder;
        mod responses;
        mod sharing;
        mod store;
    }
}
