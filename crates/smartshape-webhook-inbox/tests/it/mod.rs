//! The guarantees of the inbox, on both storages. Compiled as unit tests of the crate, since the storage is private.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::future_not_send,
    reason = "these are tests"
)]

#[cfg(feature = "sqlite")]
mod clocks;
#[cfg(all(unix, feature = "postgres"))]
mod cluster;
#[cfg(feature = "postgres")]
mod contention;
#[cfg(all(unix, feature = "postgres"))]
mod dedup;
#[cfg(all(unix, feature = "postgres"))]
mod failover;
mod faults;
#[cfg(feature = "sqlite")]
mod files;
pub(crate) mod fixture;
#[cfg(feature = "postgres")]
mod grants;
mod limits;
#[cfg(feature = "postgres")]
mod link;
mod maintenance;
#[cfg(feature = "sqlite")]
mod metrics;
mod operations;
mod pages;
mod plans;
#[cfg(all(unix, feature = "postgres"))]
mod pooler;
mod schema;
#[cfg(feature = "postgres")]
mod server;
#[cfg(feature = "postgres")]
mod silence;
#[cfg(feature = "sqlite")]
mod span;
mod storage;
mod stub;
mod stuck;
#[cfg(feature = "sqlite")]
mod twice;
mod worker;
