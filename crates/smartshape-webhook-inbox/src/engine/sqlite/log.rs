//! Whether the log beside the file is still the one that our connections write to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::open;

pub(super) const REPLACED: &str = "its -wal was moved, deleted or replaced, and what would be written now would be lost: \
     end all processes that use the inbox, then start them anew";

pub(super) struct Log {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: u32,
    identity: Option<(u64, u64)>,
    is_lost: bool,
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
    pub(super) fn beside(path: &Path) -> Self {
        Self { path: open::beside(path, "-wal"), state: Mutex::default() }
    }

    /// A connection was opened, which has the log open from now on. SQLite deletes it with its last
    /// connection only, so the first one of ours may have begun another.
    pub(super) fn opened(&self) {
        let mut state = self.state();
        if state.connections == 0 {
            state.identity = open::identity(&self.path).ok();
        }
        state.connections += 1;
    }

    pub(super) fn closed(&self) {
        self.state().connections -= 1;
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
