//! The inbox's settings, each with its default.

use std::time::Duration;

use crate::error::{InboxError, InboxErrorKind};
use crate::storage::{FAR_FUTURE, Retention, StorageOptions};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GIB: u64 = 1024 * 1024 * 1024;

/// Builds an [`Inbox`](crate::Inbox).
///
/// ```
/// # use std::time::Duration;
/// # use smartshape_webhook_inbox::Inbox;
/// # let folder = tempfile::tempdir()?;
/// # let path = &folder.path().join("inbox.db").display().to_string();
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let inbox = Inbox::builder(path)
///     .body_retention(Duration::from_secs(24 * 60 * 60))
///     .max_size_bytes(1024 * 1024 * 1024)
///     .open()
///     .await?;
/// assert_eq!(inbox.stats().await?.waiting, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `open`"]
pub struct InboxBuilder {
    pub(crate) url: String,
    pub(crate) storage: StorageOptions,
    pub(crate) retention: Retention,
    pub(crate) order_across_webhooks: bool,
    pub(crate) connect_timeout: Duration,
}

impl InboxBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            storage: StorageOptions {
                store_timeout: Duration::from_secs(5),
                max_size_bytes: 10 * GIB,
                max_connections: 10,
                allow_asynchronous_commit: false,
                allow_untested_server: false,
                read_only: false,
                worker_lock_timeout: Duration::from_secs(30),
            },
            retention: Retention { dedup: 14 * DAY, bodies: Duration::ZERO, dedup_capacity: 10_000_000 },
            order_across_webhooks: false,
            connect_timeout: Duration::from_secs(30),
        }
    }

    /// How long completed events are kept so that late duplicates are recognized. Defaults to 14 days.
    pub fn dedup_retention(mut self, retention: Duration) -> Self {
        self.retention.dedup = retention.min(FAR_FUTURE);
        self
    }

    /// Maximum number of completed events kept for deduplication. Beyond it the oldest are deleted before
    /// [`dedup_retention`](Self::dedup_retention) is over, with a warning; new deliveries are still stored.
    /// Each takes about 300 bytes. Defaults to 10 million.
    pub fn dedup_capacity(mut self, events: u64) -> Self {
        self.retention.dedup_capacity = events;
        self
    }

    /// How long the bodies of completed events are kept, so that they can be read and replayed; at most
    /// [`dedup_retention`](Self::dedup_retention). Defaults to zero: completing an event deletes its body. Kept bodies
    /// do not count against [`max_size_bytes`](Self::max_size_bytes), since a completed event never keeps a new one
    /// from being stored: the disk needs room for all that arrives in this time.
    pub fn body_retention(mut self, retention: Duration) -> Self {
        self.retention.bodies = retention.min(FAR_FUTURE);
        self
    }

    /// Whether [`ordered_by_file`](crate::Worker::ordered_by_file) orders the events of a file across all webhooks. By
    /// default each webhook (`NamedSecret::for_webhook`) has its own order, so that failing events of one webhook
    /// do not hold back another. Applies to deliveries stored from then on. Defaults to false.
    pub fn order_across_webhooks(mut self, across: bool) -> Self {
        self.order_across_webhooks = across;
        self
    }

    /// Maximum time to store a delivery; the response is 503 after that. Defaults to 5 seconds.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.storage.store_timeout = timeout.min(FAR_FUTURE);
        self
    }

    /// Maximum number of bytes of events that are not completed: waiting, running and dead letters, each counted as its
    /// body plus 400 bytes, and each of its failed attempts, of which the latest 20 are kept, as the last error plus 60
    /// bytes. Beyond it the response is 503. Counted every 5 seconds, so several processes
    /// can exceed it by what they store in that time. On SQLite, bytes of the write-ahead log beyond 16 MiB count too.
    /// Completed events are limited by [`dedup_capacity`](Self::dedup_capacity). Defaults to 10 GiB.
    pub fn max_size_bytes(mut self, bytes: u64) -> Self {
        self.storage.max_size_bytes = bytes;
        self
    }

    /// Maximum time to retry opening a database that is unavailable. Defaults to 30 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(FAR_FUTURE);
        self
    }

    /// Maximum number of connections to a PostgreSQL server, at least 3. A transactional worker opens one more for each
    /// event that it handles concurrently. Defaults to 10. A file has two.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.storage.max_connections = connections;
        self
    }

    /// Maximum time that a worker waits for the worker of another process to release the same file, as in a
    /// rolling update. Defaults to 30 seconds. On PostgreSQL any number of workers share the database.
    pub fn worker_lock_timeout(mut self, timeout: Duration) -> Self {
        self.storage.worker_lock_timeout = timeout.min(FAR_FUTURE);
        self
    }

    /// Accepts a PostgreSQL server that acknowledges commits before they are on its disk
    /// (`synchronous_commit` or `fsync` off). A crash of that server can then lose deliveries that were
    /// acknowledged. Defaults to false.
    pub fn danger_allow_asynchronous_commit(mut self, allow: bool) -> Self {
        self.storage.allow_asynchronous_commit = allow;
        self
    }

    /// Accepts `CockroachDB` and `YugabyteDB`, on which the inbox was never tested: none of its promises is known to
    /// hold there. Defaults to false.
    pub fn danger_allow_untested_server(mut self, allow: bool) -> Self {
        self.storage.allow_untested_server = allow;
        self
    }

    /// Opens an existing inbox for reading, for example with [`list`](crate::Inbox::list), [`page`](crate::Inbox::page)
    /// and [`stats`](crate::Inbox::stats). Nothing is created, migrated or written, so it can open a read-only copy, or
    /// the inbox of an older version. Storing, replaying and purging fail with
    /// [`InboxErrorKind::ReadOnly`](crate::InboxErrorKind::ReadOnly). Defaults to false.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.storage.read_only = read_only;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InboxError> {
        let invalid = |text| Err(InboxError::new(InboxErrorKind::InvalidSettings, text));
        if self.storage.store_timeout.is_zero() {
            return invalid("store_timeout must not be zero");
        }
        if self.storage.max_size_bytes == 0 {
            return invalid("max_size_bytes must not be zero");
        }
        if self.storage.max_connections < 3 {
            return invalid("max_connections must be at least 3");
        }
        Ok(())
    }
}

/// Omits the URL, which may contain credentials.
impl std::fmt::Debug for InboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboxBuilder").finish_non_exhaustive()
    }
}
