//! The settings that a storage needs, apart from retention, which is passed to each sweep.

use std::time::Duration;

#[derive(Clone)]
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "some settings concern one storage only")
)]
pub(crate) struct StorageOptions {
    pub(crate) store_timeout: Duration,
    pub(crate) max_size_bytes: u64,
    pub(crate) max_connections: u32,
    pub(crate) allow_asynchronous_commit: bool,
    pub(crate) allow_untested_server: bool,
    pub(crate) read_only: bool,
    pub(crate) worker_lock_timeout: Duration,
}
