//! Whether the log beside the file is still the one that our connections write to, and how long it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;

use super::open;

pub(super) const REPLACED: &str = "its -wal was moved, deleted or replaced, and what would be written now would be lost: \
     end all processes that use the inbox, then start them anew";

/// The log is cut to this length when nobody needs what is in it. What is longer counts against the size cap.
pub(super) const USUAL_BYTES: u64 = 16 * 1024 * 1024;
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Log {
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

/// A connection, which has the log open until it is dropped, however that comes about.
pub(super) struct Writes {
    pub(super) connection: SqliteConnection,
    log: Arc<Log>,
}

/// What is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Ours,
    /// It was just noticed that nothing is.
    Nothing,
    Lost,
}

impl Log {
    pub(super) fn beside(path: &Path) -> Arc<Self> {
        Arc::new(Self { path: open::beside(path, "-wal"), state: Mutex::default() })
    }

    /// A connection was opened, which has the log open from now on. SQLite deletes it with its last
    /// connection only, so the first one of ours may have begun another.
    pub(super) fn opened(self: &Arc<Self>, connection: SqliteConnection) -> Writes {
        let mut state = self.state();
        if state.connections == 0 {
            state.identity = open::identity(&self.path).ok();
        }
        state.connections += 1;
        Writes { connection, log: Arc::clone(self) }
    }

    /// Once it is lost it stays so: two logs with one index (`-shm`) damage the file.
    pub(super) fn look(&self) -> io::Result<Found> {
        let mut state = self.state();
        if state.is_lost {
            return Ok(Found::Lost);
        }
        let found = match open::identity(&self.path) {
            Ok(identity) if state.identity.is_none_or(|ours| ours == identity) => return Ok(Found::Ours),
            Ok(_) => Found::Lost,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => return Err(error),
        };
        state.is_lost = true;
        Ok(found)
    }

    /// Its length. While it grows beyond what is usual, the log of the program says why.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        let mut state = self.state();
        if bytes > 2 * USUAL_BYTES && state.warned.is_none_or(|time| time.elapsed() >= WARN_EVERY) {
            state.warned = Some(Instant::now());
            tracing::warn!(
                log = %self.path.display(),
                bytes,
                "the inbox's log grows, since a reader keeps a transaction open, as a query or a backup that takes \
                 long: end it (`lsof` with the name of the log shows who has it open)"
            );
        }
        bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.log.state().connections -= 1;
    }
}
