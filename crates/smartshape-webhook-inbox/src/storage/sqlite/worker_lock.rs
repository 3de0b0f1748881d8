//! The lock of the one process whose workers may process a file.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use super::{blocking, io_error, open};
use crate::error::{InboxError, InboxErrorKind};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct WorkerLock {
    path: PathBuf,
    timeout: Duration,
    /// Shared by the workers of this process.
    guard: Mutex<Weak<WorkerLockGuard>>,
}

/// Held while a worker of this process runs.
pub(super) struct WorkerLockGuard {
    _file: File,
    identity: (u64, u64),
}

impl WorkerLock {
    pub(super) fn beside(path: &Path, timeout: Duration) -> Self {
        Self { path: open::sibling(path, "-worker"), timeout, guard: Mutex::default() }
    }

    /// Returns the guard, and whether it was acquired just now or by another worker of this process.
    pub(super) async fn acquire(&self) -> Result<(Arc<WorkerLockGuard>, bool), InboxError> {
        let mut shared = self.guard.lock().await;
        if let Some(guard) = shared.upgrade() {
            return Ok((guard, false));
        }
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut is_waiting = false;
        loop {
            let path = self.path.clone();
            let locked = blocking(move || try_lock(&path)).await?;
            match locked.map_err(|error| io_error(&self.path, error))? {
                Some(guard) => {
                    let guard = Arc::new(guard);
                    *shared = Arc::downgrade(&guard);
                    return Ok((guard, true));
                }
                None if tokio::time::Instant::now() < deadline => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        tracing::warn!(
                            lock = %self.path.display(),
                            timeout_s = self.timeout.as_secs(),
                            "a worker of another process has locked the inbox: this one waits for its end"
                        );
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                None => {
                    let text = format!(
                        "inbox: a worker of another process has locked {}: stop that process, or use PostgreSQL for several",
                        self.path.display()
                    );
                    return Err(InboxError::new(InboxErrorKind::Locked, text));
                }
            }
        }
    }

    /// Fails when the lock file was removed or replaced: another process could then create and lock a new one.
    pub(super) fn check(&self) -> Result<(), InboxError> {
        let Some(guard) = self.guard.try_lock().ok().and_then(|guard| guard.upgrade()) else { return Ok(()) };
        if open::identity(&self.path).is_ok_and(|found| found == guard.identity) {
            return Ok(());
        }
        let text = format!(
            "inbox: {} was moved, deleted or replaced, so that another process could work at the same time: \
             end all processes that use the inbox, then start them anew",
            self.path.display()
        );
        Err(InboxError::new(InboxErrorKind::Unavailable, text))
    }
}

/// Returns `None` when another process holds the lock.
fn try_lock(path: &Path) -> io::Result<Option<WorkerLockGuard>> {
    let file = match open::private().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(path)?.is_file() {
                return Err(io::Error::other("it is no plain file: remove it"));
            }
            open::private().open(path)?
        }
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let guard = WorkerLockGuard { identity: open::file_identity(&file.metadata()?), _file: file };
    // The file may have been removed meanwhile: the next process would create and lock another one.
    Ok(open::identity(path).is_ok_and(|found| found == guard.identity).then_some(guard))
}
