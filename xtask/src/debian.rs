//! Debian's packages, unpacked without installing them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian's programs.
pub(crate) struct Apt {
    get: PathBuf,
    cache: PathBuf,
    dpkg: PathBuf,
}

/// Packages that are left out: they are large and a server runs without them, or the machine has them in any case.
const EXCLUDED: [&str; 5] = ["libllvm", "libz3", "libperl", "libc6", "libc-bin"];

impl Apt {
    /// Looks for Debian's programs in these folders.
    pub(crate) fn find(path: &OsStr) -> Result<Self, String> {
        let program = |name| {
            on_path(path, name)
                .ok_or_else(|| format!("Debian's packages are out of reach: no {name} on the PATH"))
        };
        Ok(Self { get: program("apt-get")?, cache: program("apt-cache")?, dpkg: program("dpkg")? })
    }

    /// Downloads packages and unpacks them into `folder`, in place of what was there. When that fails and
    /// we may, package lists are renewed, and it is tried once more.
    pub(crate) fn unpack(
        &self,
        what: &str,
        folder: &Path,
        choose: impl Fn(&Self) -> Result<Vec<String>, String>,
    ) -> Result<(), String> {
        eprintln!("Unpacking {what} from Debian's packages into {} …", folder.display());
        let first = self.unpack_once(folder, &choose);
        let Err(reason) = first else { return Ok(()) };
        if !is_root() {
            return Err(reason);
        }
        self.run(&self.get, &["update", "-o", "Acquire::Retries=0"], Path::new("/"))?;
        self.unpack_once(folder, &choose)
    }

    /// The names of known packages that begin so.
    pub(crate) fn names(&self, beginning: &str) -> Result<Vec<String>, String> {
        let names = self.run(&self.cache, &["pkgnames", beginning], Path::new("/"))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The libraries that an installation of a package would bring along. None when apt cannot tell; what
    /// is missing then shows when the program is run.
    pub(crate) fn missing_libraries(&self, package: &str) -> Vec<String> {
        let arguments = ["--simulate", "--no-install-recommends", "install", package];
        libraries_among(&self.run(&self.get, &arguments, Path::new("/")).unwrap_or_default())
    }

    fn unpack_once(
        &self,
        folder: &Path,
        choose: impl Fn(&Self) -> Result<Vec<String>, String>,
    ) -> Result<(), String> {
        let packages = choose(self)?;
        // The folder is renamed into place, so it is never half unpacked.
        let work = folder.with_extension(format!("part-{}", std::process::id()));
        let unpacked = self.unpack_packages(&packages, &work).and_then(|root| {
            let _ = fs::remove_dir_all(folder);
            fs::rename(root, folder).map_err(|error| format!("cannot write {}: {error}", folder.display()))
        });
        let _ = fs::remove_dir_all(&work);
        unpacked
    }

    fn unpack_packages(&self, packages: &[String], work: &Path) -> Result<PathBuf, String> {
        let failed = |error| format!("cannot write {}: {error}", work.display());
        let root = work.join("root");
        fs::create_dir_all(&root).map_err(failed)?;
        let mut arguments = vec!["download", "-o", "Acquire::Retries=0"];
        arguments.extend(packages.iter().map(String::as_str));
        self.run(&self.get, &arguments, work)?;
        for entry in fs::read_dir(work).map_err(failed)?.flatten() {
            if entry.path().extension() == Some("deb".as_ref()) {
                let arguments =
                    ["--extract".as_ref(), entry.path().as_os_str(), root.as_os_str()].map(OsStr::to_owned);
                self.run(&self.dpkg, &arguments, work)?;
            }
        }
        Ok(root)
    }

    fn run(&self, program: &Path, arguments: &[impl AsRef<OsStr>], folder: &Path) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(arguments).env("LC_ALL", "C").current_dir(folder);
        output_of(program.display(), &mut command, "failed")
    }
}

/// The folders of unpacked packages that hold libraries, as `LD_LIBRARY_PATH` wants them.
pub(crate) fn libraries(packages: &Path) -> Option<OsString> {
    let folders = ["usr/lib", "lib"].map(|folder| fs::read_dir(packages.join(folder)).into_iter());
    let folders = folders.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
    // Named after the kind of machine, as x86_64-linux-gnu.
    let mut folders: Vec<_> = folders
        .filter(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-")))
        .collect();
    // libpulse, which Chromium links, looks for a part of itself here, by an absolute path.
    let parts: Vec<_> = folders.iter().map(|folder| folder.join("pulseaudio")).collect();
    folders.extend(parts.into_iter().filter(|folder| folder.is_dir()));
    if folders.is_empty() { None } else { std::env::join_paths(folders).ok() }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    output_of("cp", Command::new("cp").arg("-R").args([from, to]), "failed").map(drop)
}

/// The first program of this name in the folders of a PATH.
pub(crate) fn on_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

pub(crate) fn is_root() -> bool {
    id(&["-u"]) == Some(0)
}

/// The output of the program `id`.
pub(crate) fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Runs a program of this name to its end, and returns what it printed, or in one line its failure and why.
pub(crate) fn output_of(
    name: impl fmt::Display,
    command: &mut Command,
    failure: &str,
) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} does not run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name} {failure}: {}", error_line(&output.stderr)))
}

/// The first line that reports a fatal error, otherwise the last line.
pub(crate) fn error_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_fatal = |line: &&str| ["FATAL:", "E:", "error:"].iter().any(|word| line.contains(word));
    lines().find(is_fatal).or_else(|| lines().next_back()).unwrap_or("it does not say why").to_owned()
}

fn libraries_among(simulation: &str) -> Vec<String> {
    let packages = simulation.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let wanted = |name: &&str| {
        name.starts_with("lib")
            && !name.ends_with("-perl")
            && !EXCLUDED.iter().any(|beginning| name.starts_with(beginning))
    };
    packages.filter(wanted).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{error_line, libraries_among};

    #[test]
    fn libraries_are_picked_from_what_apt_would_install() {
        let simulation = "\
Reading package lists...
Inst libjson-perl (4.10000-1 Debian:12 [all])
Inst postgresql-client-common (248 Debian:12 [all])
Inst libpq5 (15.18-0 Debian:12 [amd64]) []
Inst libicu72 [72.1-2] (72.1-3 Debian:12 [amd64])
Inst libllvm14 (1:14.0.6-12 Debian:12 [amd64])
Inst postgresql-15 (15.18-0 Debian:12 [amd64])
Conf libldap-2.5-0 (2.5.13 Debian:12 [amd64])
";
        assert_eq!(libraries_among(simulation), ["libpq5", "libicu72"]);
        assert!(libraries_among("").is_empty());
    }

    #[test]
    fn error_line_is_shown() {
        let log = b"LOG:  starting\n2026 FATAL:  could not create shared memory\nDETAIL: x\n";
        assert_eq!(error_line(log), "2026 FATAL:  could not create shared memory");
        assert_eq!(error_line(b"W: first\n last \n\n"), "last");
        assert_eq!(error_line(b""), "it does not say why");
    }
}
