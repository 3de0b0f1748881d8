//! The lock of the one process that works on a file.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use super::{blocking, gone, open};
use crate::error::{InboxError, InboxErrorKind};

const POLL: Duration = Duration::from_millis(50);

pub(super) struct Seats {
    path: PathBuf,
    wait: Duration,
    taken: Mutex<Weak<Seat>>,
}

/// Held while a worker of this process runs.
pub(super) struct Seat {
    _lock: File,
    identity: (u64, u64),
}

impl Seats {
    pub(super) fn beside(path: &Path, wait: Duration) -> Self {
        Self { path: open::beside(path, "-worker"), wait, taken: Mutex::default() }
    }

    /// Shares the lock among the workers of this process. Says whether it was taken just now.
    pub(super) async fn take(&self) -> Result<(Arc<Seat>, bool), InboxError> {
        let mut taken = self.taken.lock().await;
        if let Some(seat) = taken.upgrade() {
            return Ok((seat, false));
        }
        let deadline = tokio::time::Instant::now() + self.wait;
        loop {
            let path = self.path.clone();
            let locked = blocking(move || try_lock(&path)).await?;
            match locked.map_err(|error| gone(&self.path, error))? {
                Some(seat) => {
                    let seat = Arc::new(seat);
                    *taken = Arc::downgrade(&seat);
                    return Ok((seat, true));
                }
                None if tokio::time::Instant::now() < deadline => tokio::time::sleep(POLL).await,
                None => {
                    let text = format!(
                        "inbox: another process has locked {} and works on it: stop that one, or use PostgreSQL for several",
                        self.path.display()
                    );
                    return Err(InboxError::new(InboxErrorKind::Locked, text));
                }
            }
        }
    }

    /// Without the file that this process has locked, another one can lock a new one.
    pub(super) fn check(&self) -> Result<(), InboxError> {
        let Some(seat) = self.taken.try_lock().ok().and_then(|taken| taken.upgrade()) else { return Ok(()) };
        if open::identity(&self.path).is_ok_and(|found| found == seat.identity) {
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

/// Nothing when another process has it.
fn try_lock(path: &Path) -> io::Result<Option<Seat>> {
    let lock = match open::private().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(path)?.is_file() {
                return Err(io::Error::other("it is no plain file: remove it"));
            }
            open::private().open(path)?
        }
        opened => opened?,
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let seat = Seat { identity: open::identity_of(&lock.metadata()?), _lock: lock };
    // Meanwhile it may have been removed: whoever comes next would lock another one.
    Ok(open::identity(path).is_ok_and(|found| found == seat.identity).then_some(seat))
}
