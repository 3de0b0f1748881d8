//! The fake SmartShape, against endpoints of the tests' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

mod api;
mod endpoint;
mod program;
mod sender;
