//! What the conformance table needs: exact bytes on a socket, servers of every kind, and a handler
//! that does as a case wants and keeps what it saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness of tests may fail the test"
)]

pub mod bed;
pub mod log;
pub mod script;
pub mod target;
pub mod wire;
