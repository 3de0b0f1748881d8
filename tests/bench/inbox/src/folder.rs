//! A folder that is deleted with the run.

use std::path::{Path, PathBuf};

use crate::Outcome;

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn below(parent: &Path) -> Outcome<Self> {
        let folder = parent.join(format!("smartshape-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// As the place of an inbox.
    pub(crate) fn place(&self, name: &str) -> Outcome<String> {
        let path = self.0.join(name);
        Ok(path.to_str().ok_or("the folder's name is not UTF-8")?.to_owned())
    }

    /// Deletes an inbox, so that the next one has the disk's cache to itself.
    pub(crate) fn forget(&self, name: &str) {
        for ending in ["", "-wal", "-shm", "-reserve", "-worker"] {
            let _ = std::fs::remove_file(self.0.join(format!("{name}{ending}")));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
