//! Ballast: a file of 12 MiB that is deleted when the disk is full, so that events can still be completed and purged.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// More than the new pages that the log can hold when the disk becomes full: those between two checkpoints (8 MiB) and
/// one batch. A checkpoint must be able to extend the file by all of them, or nothing can be deleted any more.
const BYTES: usize = 12 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Ballast(PathBuf);

impl Ballast {
    pub(super) fn beside(path: &Path) -> Self {
        Self(super::open::sibling(path, "-ballast"))
    }

    /// Creates the file, unless it exists. Blocks while 12 MiB are written.
    pub(super) fn fill(&self) {
        if fs::symlink_metadata(&self.0).is_ok_and(|file| file.is_file() && file.len() == BYTES as u64) {
            return;
        }
        if let Err(error) = self.try_fill() {
            tracing::warn!(%error, "no space could be held back for deletions beside the inbox");
        }
    }

    /// Renames a new file over an existing one, so that nothing is written through a link.
    fn try_fill(&self) -> io::Result<()> {
        let new = super::open::sibling(&self.0, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = (|| {
            let mut file = super::open::private().create_new(true).open(&new)?;
            let zeros = vec![0; 64 * 1024];
            for _ in 0..BYTES / zeros.len() {
                file.write_all(&zeros)?;
            }
            file.sync_all()?;
            fs::rename(&new, &self.0)
        })();
        // A part of it would only fill the disk.
        written.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Deletes the file. Returns whether it existed.
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
