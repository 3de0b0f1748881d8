//! Finds PostgreSQL's programs: the machine's, else Debian's packages.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use super::Environment;
use super::account::Account;
use super::installation::Installation;
use crate::debian::Apt;

/// Folders that hold at least one of the programs: on the PATH, then Debian's versions, newest first.
pub(super) fn candidate_folders(environment: &Environment) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in std::env::split_paths(&environment.path) {
        for program in ["initdb", "postgres", "pg_ctl"] {
            // A link leads to where its siblings are.
            let home =
                folder.join(program).canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()));
            folders.extend(home);
        }
    }
    folders.extend(versions(&environment.versions));
    let mut seen = Vec::new();
    for folder in folders {
        if !seen.contains(&folder) {
            seen.push(folder);
        }
    }
    seen
}

/// Whether the programs in a folder can run.
pub(super) fn check(folder: &Path, account: Option<Account>) -> Result<Installation, String> {
    let installation = Installation::installed(folder, account);
    installation.version().map(|_| installation)
}

/// Debian's packages, unpacked now or earlier.
pub(super) fn debian(environment: &Environment, account: Option<Account>) -> Result<Installation, String> {
    let packages = &environment.unpacked;
    if let Ok(installation) = unpacked(packages, account) {
        return Ok(installation);
    }
    Apt::find(&environment.path)?.unpack("PostgreSQL", packages, packages_to_install)?;
    unpacked(packages, account).map_err(|reason| format!("Debian's packages do not work here: {reason}"))
}

/// What was unpacked earlier. It may be out of the account's reach, so it is tried as ourselves.
pub(super) fn unpacked(packages: &Path, account: Option<Account>) -> Result<Installation, String> {
    let folder = versions(&packages.join("usr/lib/postgresql")).into_iter().next();
    let folder = folder.ok_or("there is no PostgreSQL in them")?;
    Installation::unpacked(packages, &folder, None).version()?;
    Ok(Installation::unpacked(packages, &folder, account))
}

/// The `bin` folders of Debian's folder of versions, newest first. The inbox cannot use those whose number has a point.
fn versions(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_by_key(|version| Reverse(*version));
    let folders = versions.into_iter().map(|version| folder.join(version.to_string()).join("bin"));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// The newest server of the package lists, and the libraries that it needs and the machine lacks.
fn packages_to_install(apt: &Apt) -> Result<Vec<String>, String> {
    let server = newest(&apt.names("postgresql-")?).ok_or("no PostgreSQL in Debian's package lists")?;
    let mut packages = apt.missing_libraries(&server);
    packages.push(server);
    Ok(packages)
}

fn newest(packages: &[String]) -> Option<String> {
    let version = |name: &String| name.strip_prefix("postgresql-")?.parse::<u32>().ok();
    packages.iter().filter(|name| version(name).is_some()).max_by_key(|name| version(name)).cloned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::{candidate_folders, newest, versions};
    use crate::postgres::Environment;

    /// A folder that holds these, and its canonical path.
    fn with(folders: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for name in folders {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    #[test]
    fn candidate_folders_follow_links_and_are_listed_once() {
        let (_folder, root) = with(&["local", "versions/15/bin", "versions/14/bin"]);
        let at = |path: &str| root.join(path);
        for program in ["initdb", "postgres"] {
            fs::write(at("versions/15/bin").join(program), "").unwrap();
            symlink(at("versions/15/bin").join(program), at("local").join(program)).unwrap();
        }
        let environment = Environment {
            database_url: None,
            path: at("local").into(),
            versions: at("versions"),
            unpacked: at("unpacked"),
        };
        assert_eq!(candidate_folders(&environment), [at("versions/15/bin"), at("versions/14/bin")]);
    }

    #[test]
    fn newest_version_comes_first() {
        let (_folder, root) = with(&["9.6/bin", "9/bin", "15/bin", "17/lib", "other/bin"]);
        assert_eq!(versions(&root), ["15/bin", "9/bin"].map(|path| root.join(path)));
    }

    #[test]
    fn newest_server_package_is_chosen() {
        let packages = [
            "postgresql-9.6",
            "postgresql-15",
            "postgresql-client-18",
            "postgresql-17",
            "postgresql-15-cron",
        ];
        assert_eq!(newest(&packages.map(String::from)).as_deref(), Some("postgresql-17"));
        assert_eq!(newest(&[]), None);
    }
}
