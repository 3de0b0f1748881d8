//! Files of this program: only their user reads them, and nobody else decides where they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Creates a file that only this user can read; fails when there is one, and does not follow a link.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a folder that only this user can look into, unless there is one.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Opens a file to append to, and creates it if it does not exist. Rejects an existing file that belongs to another
/// user, that others can read, or that is a link. Accepts pipes and devices.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    match private_file(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        opened => return opened,
    }
    let file = OpenOptions::new().append(true).open(path)?;
    if file.metadata()?.is_file() {
        check_ours(path, &file)?;
        check_private(&file)?;
    }
    Ok(file)
}

/// The path to write to: the target of a link, so that the link stays, otherwise `path` itself.
pub(crate) fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
            let text = "it is a link to a file that is not there: create that file, or remove the link";
            Err(io::Error::new(ErrorKind::NotFound, text))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        found => found,
    }
}

/// Writes a file whole or not at all, where only this user can read it. A link stays one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = target(path)?;
    let new = PathBuf::from(format!("{}.{}.new", target.display(), std::process::id()));
    // A process that had this number before may have ended in the middle, and left its file.
    let _ = fs::remove_file(&new);
    let written = private_file(&new).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &target)
    });
    written.inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Rejects a file that was opened by a link, or that is another user's.
#[cfg(unix)]
pub(crate) fn check_ours(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let (named, opened) = (fs::symlink_metadata(path)?, file.metadata()?);
    let rejected = |why: &str| Err(io::Error::new(ErrorKind::PermissionDenied, why));
    if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
        return rejected("it is a symbolic link: name the file itself");
    }
    if opened.uid() != rustix::process::geteuid().as_raw() {
        return rejected("it belongs to another user: name another file");
    }
    Ok(())
}

/// Rejects a file that others can read or write.
#[cfg(unix)]
pub(crate) fn check_private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::PermissionDenied, "others can read it: chmod 600 it"))
}

#[cfg(not(unix))]
pub(crate) fn check_ours(_: &Path, _: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn check_private(_: &File) -> io::Result<()> {
    Ok(())
}
