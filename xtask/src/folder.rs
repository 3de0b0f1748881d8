//! A folder for what a program keeps.

use tempfile::TempDir;

/// Deleted at the end.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> std::io::Result<Self> {
        TempDir::new().map(Self)
    }

    pub(crate) fn inbox(&self) -> String {
        self.0.path().join("inbox.db").to_string_lossy().into_owned()
    }
}
