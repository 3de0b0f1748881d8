//! The built program, against the fake SmartShape and endpoints of the tests' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

mod api;
mod apply;
mod check;
mod completions;
mod event;
mod failures;
mod faulty_endpoints;
#[cfg(unix)]
mod files;
mod forward;
mod inbox;
mod inspector;
mod listen;
mod listen_end;
mod listener;
mod pipeline;
mod program;
mod proxy;
mod record;
#[cfg(unix)]
mod relay;
#[cfg(unix)]
mod relay_kills;
#[cfg(unix)]
mod relay_nats;
#[cfg(unix)]
mod relay_settings;
mod rotate;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
mod tls;
mod token;
mod ui;
