//! What the conformance table needs: exact bytes on a socket, servers of every kind, and a handler
//! that does as a case wants and keeps what it saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness of tests may fail the test"
)]
#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a part of tests, not an API"
)]

pub mod harness;
pub mod http2;
pub mod log;
pub mod script;
pub mod target;
pub mod wire;

/// The examples of the READMEs and pages, as tests.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../../README.md")]
    struct Project;
    #[doc = include_str!("../../../crates/smartshape-fake/README.md")]
    struct Fake;
    #[doc = include_str!("../../../crates/smartshape-webhook/README.md")]
    struct Core;
    #[doc = include_str!("../../../crates/smartshape-webhook-tower/README.md")]
    struct Tower;
    #[doc = include_str!("../../../crates/smartshape-webhook-actix/README.md")]
    struct Actix;
    #[doc = include_str!("../../../crates/smartshape-webhook-warp/README.md")]
    struct Warp;
    #[doc = include_str!("../../../crates/smartshape-webhook-inbox/README.md")]
    struct Inbox;
    #[doc = include_str!("../../../docs/console.md")]
    struct Console;
    #[doc = include_str!("../../../docs/exactly-once.md")]
    struct ExactlyOnce;
    #[doc = include_str!("../../../docs/observing.md")]
    struct Observing;
    #[doc = include_str!("../../../docs/secrets.md")]
    struct Secrets;
}
