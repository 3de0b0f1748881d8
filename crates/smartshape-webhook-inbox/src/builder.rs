//! The inbox's settings, each with its default.

use std::time::Duration;

use crate::engine::LONGEST;
use crate::error::{InboxError, InboxErrorKind};
use crate::inbox::Inbox;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GIB: u64 = 1024 * 1024 * 1024;

/// Builds an [`Inbox`]. Each method names its default.
#[derive(Clone)]
#[must_use = "a builder does nothing until `open`"]
pub struct InboxBuilder {
    place: String,
    pub(crate) tombstones: Duration,
    pub(crate) bodies: Duration,
    pub(crate) capacity: u64,
    pub(crate) one_order: bool,
    pub(crate) read_only: bool,
    pub(crate) store_limit: Duration,
    pub(crate) cap: u64,
    pub(crate) open_deadline: Duration,
    pub(crate) connections: u32,
    pub(crate) allow_asynchronous_commit: bool,
    pub(crate) seat_wait: Duration,
}

impl InboxBuilder {
    pub(crate) fn new(place: &str) -> Self {
        Self {
            place: place.to_owned(),
            tombstones: 14 * DAY,
            bodies: Duration::ZERO,
            capacity: 10_000_000,
            one_order: false,
            read_only: false,
            store_limit: Duration::from_secs(5),
            cap: 10 * GIB,
            open_deadline: Duration::from_secs(30),
            connections: 10,
            allow_asynchronous_commit: false,
            seat_wait: Duration::from_secs(30),
        }
    }

    /// How long a completed event is remembered, so that a late duplicate is not handled again.
    /// Default 14 days. In a file, only the time counts that somebody has it open.
    pub fn keep_tombstones(mut self, horizon: Duration) -> Self {
        self.tombstones = horizon.min(LONGEST);
        self
    }

    /// Maximum number of completed events that are remembered for deduplication. Beyond it the oldest are forgotten
    /// before [`keep_tombstones`](Self::keep_tombstones) is over, with a warning; deliveries are taken all the same.
    /// Each takes about 300 bytes. Defaults to 10 million.
    pub fn dedup_capacity(mut self, events: u64) -> Self {
        self.capacity = events;
        self
    }

    /// Whether [`ordered_by_file`](crate::Worker::ordered_by_file) keeps one order for all events of a file. By
    /// default each webhook (`NamedSecret::webhook`) has an order of its own, so that one webhook's failing events
    /// do not hold up another webhook's. Counts for deliveries that are stored from then on.
    pub fn order_across_webhooks(mut self, across: bool) -> Self {
        self.one_order = across;
        self
    }

    /// How long the body of a completed event is kept, so that it can be shown and replayed; at
    /// most as long as its tombstone. Default zero: it is deleted with the completion.
    pub fn keep_bodies(mut self, horizon: Duration) -> Self {
        self.bodies = horizon.min(LONGEST);
        self
    }

    /// How long storing a delivery may take; then it is answered 503. Default 5 s.
    pub fn store_limit(mut self, limit: Duration) -> Self {
        self.store_limit = limit.min(LONGEST);
        self
    }

    /// Maximum number of bytes of events that are not completed: waiting, running and dead letters, each with 400
    /// bytes beside its body. Beyond it, deliveries are answered 503. Counted from time to time, so several processes
    /// can pass it by what they store in 5 s. On SQLite what the log takes beyond 16 MiB counts too. Completed
    /// events have a limit of their own, [`dedup_capacity`](Self::dedup_capacity). Defaults to 10 GiB.
    pub fn max_stored_bytes(mut self, bytes: u64) -> Self {
        self.cap = bytes;
        self
    }

    /// How long a store that cannot be reached is tried again when it is opened. Default 30 s.
    pub fn open_deadline(mut self, deadline: Duration) -> Self {
        self.open_deadline = deadline.min(LONGEST);
        self
    }

    /// Connections to a server that an inbox may have; a transactional worker has one more for each event
    /// that it may handle at once. Default 10. A file has two.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// How long a worker waits for the worker of another process to leave the same file, as in a
    /// rolling update. Default 30 s. On PostgreSQL any number of workers share the store.
    pub fn worker_wait(mut self, limit: Duration) -> Self {
        self.seat_wait = limit.min(LONGEST);
        self
    }

    /// Accepts a PostgreSQL server that acknowledges commits before they are on its disk
    /// (`synchronous_commit` or `fsync` off). After its crash, deliveries that SmartShape was told
    /// were received may be gone. Default: no.
    pub fn danger_allow_asynchronous_commit(mut self, allow: bool) -> Self {
        self.allow_asynchronous_commit = allow;
        self
    }

    /// Opens what is there for [`list`](Inbox::list), [`show`](Inbox::show) and [`stats`](Inbox::stats) only: nothing
    /// is created, migrated or written, so a read-only copy, or the inbox of an older version, can be looked at.
    /// Default: no.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens the inbox; creates and migrates its tables where that is needed.
    ///
    /// # Errors
    ///
    /// [`InboxError`] names what is wrong. What may pass by itself is tried again until the deadline.
    pub async fn open(self) -> Result<Inbox, InboxError> {
        self.check()?;
        let deadline = tokio::time::Instant::now() + self.open_deadline;
        let mut pause = Duration::from_millis(100);
        loop {
            let error = match self.open_once().await {
                Ok(inbox) => return Ok(inbox),
                Err(error) => error,
            };
            let again = tokio::time::Instant::now() + pause;
            if error.kind() != InboxErrorKind::Unavailable || again > deadline {
                return Err(error);
            }
            tracing::warn!(%error, "the inbox cannot be opened yet; trying again");
            tokio::time::sleep_until(again).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    fn check(&self) -> Result<(), InboxError> {
        let settings = |text| Err(InboxError::new(InboxErrorKind::Settings, text));
        if self.place.is_empty() {
            return settings("the inbox has no place: give it a path, or a postgres:// URL");
        }
        if self.store_limit.is_zero() {
            return settings("store_limit must not be zero");
        }
        if self.cap == 0 {
            return settings("max_stored_bytes must not be zero");
        }
        if self.connections < 3 {
            return settings("max_connections must be at least 3");
        }
        Ok(())
    }

    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        allow(clippy::unused_async, reason = "there is nothing to wait for")
    )]
    async fn open_once(&self) -> Result<Inbox, InboxError> {
        let scheme = self.place.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if matches!(scheme.as_deref(), Some("postgres" | "postgresql")) {
            #[cfg(feature = "postgres")]
            {
                let engine = crate::engine::postgres::Postgres::open(&self.place, self).await?;
                let transactions = engine.transactions();
                return Ok(Inbox::assemble(std::sync::Arc::new(engine), self).with_transactions(transactions));
            }
            #[cfg(not(feature = "postgres"))]
            return Err(InboxError::new(
                InboxErrorKind::Settings,
                "this program was built without the feature `postgres` of smartshape-webhook-inbox",
            ));
        }
        if let Some((scheme, _)) = self.place.split_once("://") {
            let text = format!("an inbox is a path or a postgres:// URL, and {scheme:?} is neither");
            return Err(InboxError::new(InboxErrorKind::Settings, text));
        }
        // SQLite would take these for URLs and for memory, and keep nothing at that path.
        if ["file:", "sqlite:", ":memory:"].iter().any(|start| self.place.starts_with(start)) {
            let text = format!("an inbox is a plain path, not {:?}", self.place);
            return Err(InboxError::new(InboxErrorKind::Settings, text));
        }
        let first = self.place.split(['=', '/', '.']).next().unwrap_or_default().trim();
        let is_keyword =
            ["host", "hostaddr", "port", "dbname", "user", "password", "service"].contains(&first);
        if is_keyword && self.place.contains('=') {
            // Without the text, which may hold a password.
            let text = "an inbox on PostgreSQL is named by a URL, postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
                 not by keywords such as host=…; a path that begins so is written with `./` before it";
            return Err(InboxError::new(InboxErrorKind::Settings, text));
        }
        #[cfg(feature = "sqlite")]
        {
            let path = std::path::PathBuf::from(&self.place);
            let engine = crate::engine::sqlite::Sqlite::open(path, self).await?;
            Ok(Inbox::assemble(std::sync::Arc::new(engine), self))
        }
        #[cfg(not(feature = "sqlite"))]
        Err(InboxError::new(
            InboxErrorKind::Settings,
            "this program was built without the feature `sqlite` of smartshape-webhook-inbox",
        ))
    }
}

/// Without the place, which may hold credentials.
impl std::fmt::Debug for InboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboxBuilder").finish_non_exhaustive()
    }
}
