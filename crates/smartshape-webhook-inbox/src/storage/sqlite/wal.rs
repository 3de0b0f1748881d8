//! The write-ahead log: checks that it is still the file that our connections write to, warns while it grows, and
//! copies it into the inbox's file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;

use super::open;
use crate::lock::locked;

pub(super) const REPLACED: &str = "its -wal was moved, deleted or replaced, and what would be written now would be lost: \
     end all processes that use the inbox, then start them anew";

/// SQLite truncates the log to this length when no reader needs it. Bytes beyond it count against `max_size_bytes`.
pub(super) const RETAINED_BYTES: u64 = 16 * 1024 * 1024;
const WARN_INTERVAL: Duration = Duration::from_secs(60);
const CHECKPOINT_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

pub(super) struct Wal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: u32,
    identity: Option<(u64, u64)>,
    is_lost: bool,
    warned: Option<Instant>,
}

/// A connection, which keeps the log open until it is dropped.
pub(super) struct WalConnection {
    pub(super) connection: SqliteConnection,
    /// [`data_version`] when the file was last seen at its path.
    pub(super) seen_version: i64,
    wal: Arc<Wal>,
}

/// The state of the log's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WalState {
    Intact,
    /// Found to be missing by this check.
    Missing,
    /// Replaced, or found to be missing by an earlier check.
    Lost,
}

impl Wal {
    pub(super) fn beside(path: &Path) -> Arc<Self> {
        Arc::new(Self { path: open::sibling(path, "-wal"), state: Mutex::default() })
    }

    /// Registers an opened connection, which keeps the log open. SQLite deletes the log when its last
    /// connection is closed, so our first connection may have created a new one.
    pub(super) fn opened(self: &Arc<Self>, connection: SqliteConnection, seen_version: i64) -> WalConnection {
        let mut state = locked(&self.state);
        if state.connections == 0 {
            state.identity = open::identity(&self.path).ok();
        }
        state.connections += 1;
        WalConnection { connection, seen_version, wal: Arc::clone(self) }
    }

    /// A lost log stays lost: two logs with one index (`-shm`) damage the file.
    pub(super) fn check(&self) -> io::Result<WalState> {
        let mut state = locked(&self.state);
        if state.is_lost {
            return Ok(WalState::Lost);
        }
        let found = match open::identity(&self.path) {
            Ok(identity) if state.identity.is_none_or(|ours| ours == identity) => {
                return Ok(WalState::Intact);
            }
            Ok(_) => WalState::Lost,
            Err(error) if error.kind() == io::ErrorKind::NotFound => WalState::Missing,
            Err(error) => return Err(error),
        };
        state.is_lost = true;
        Ok(found)
    }

    /// The log's length. Warns while it is far longer than usual, and says why.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        let mut state = locked(&self.state);
        if bytes > 2 * RETAINED_BYTES && state.warned.is_none_or(|time| time.elapsed() >= WARN_INTERVAL) {
            state.warned = Some(Instant::now());
            tracing::warn!(
                log = %self.path.display(),
                bytes,
                "the inbox's write-ahead log grows, since a reader keeps a transaction open, such as a long query or \
                 backup: end it (`lsof` with the name of the log shows which process has it open)"
            );
        }
        bytes
    }
}

/// A number that changes when another connection commits.
pub(super) async fn data_version(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await
}

impl Drop for WalConnection {
    fn drop(&mut self) {
        locked(&self.wal.state).connections -= 1;
    }
}

/// Copies the log into the file and truncates it, as far as no other process uses it. Returns whether all of it
/// was copied.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // With the usual timeout it would wait for readers and writers as long as a write waits.
    set_busy_timeout(connection, CHECKPOINT_BUSY_TIMEOUT).await?;
    let outcome: sqlx::Result<(i64, i64, i64)> =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    set_busy_timeout(connection, open::BUSY_TIMEOUT).await?;
    outcome.map(|(_, pages, copied)| pages == copied)
}

async fn set_busy_timeout(connection: &mut SqliteConnection, timeout: Duration) -> sqlx::Result<()> {
    let setting = format!("PRAGMA busy_timeout = {}", timeout.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(setting)).execute(connection).await.map(drop)
}

/// Saves what is in the log into the file that it belongs to.
pub(super) async fn save(connection: &mut SqliteConnection) {
    match checkpoint(connection).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::error!("a reader kept what was in the inbox's -wal from being saved into its file");
        }
        Err(error) => {
            tracing::error!(%error, "what was in the inbox's -wal could not be saved into its file");
        }
    }
}
