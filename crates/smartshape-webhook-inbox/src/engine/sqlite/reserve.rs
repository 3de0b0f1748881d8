//! Space held back, so that work can be completed and purged on a full disk.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    pub(super) fn beside(path: &Path) -> Self {
        Self(super::open::beside(path, "-reserve"))
    }

    /// Takes the space, unless it is taken already.
    pub(super) fn fill(&self) {
        if fs::metadata(&self.0).is_ok_and(|file| file.len() == BYTES as u64) {
            return;
        }
        if let Err(error) = self.try_fill() {
            // Half of it would only fill the disk.
            let _ = fs::remove_file(&self.0);
            tracing::warn!(%error, "no space could be held back for deletions beside the inbox");
        }
    }

    fn try_fill(&self) -> io::Result<()> {
        let mut file = super::open::private().create(true).truncate(true).open(&self.0)?;
        let zeros = vec![0; 64 * 1024];
        for _ in 0..BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()
    }

    /// Gives the space back to the disk. Says whether there was any.
    pub(super) fn release(&self) -> bool {
        let released = fs::remove_file(&self.0).is_ok();
        if released {
            tracing::warn!(
                "the disk is full: the space held back beside the inbox is used for deletions now"
            );
        }
        released
    }
}
