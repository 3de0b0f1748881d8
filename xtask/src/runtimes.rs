//! Node and Python, with the packages that the endpoints and the tests in a browser need.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;
use crate::debian::{on_path, output_of};

/// A program that runs the files of a folder.
pub(crate) struct Runtime {
    program: PathBuf,
    folder: PathBuf,
}

impl Runtime {
    /// The program and this file, separated by a tab: a command for an environment variable.
    pub(crate) fn words(&self, file: &str) -> String {
        format!("{}\t{}", self.program.display(), self.folder.join(file).display())
    }

    /// `nats-server`, which comes with the packages of Python.
    pub(crate) fn nats_server(&self) -> PathBuf {
        self.program.with_file_name(format!("nats-server{}", std::env::consts::EXE_SUFFIX))
    }

    /// The environment of tests with NATS servers.
    pub(crate) fn nats(&self) -> [(&'static str, String); 2] {
        let server = self.nats_server().display().to_string();
        [("NATS_SERVER", server), ("NATS_STREAM_IN_PYTHON", self.words("stream.py"))]
    }

    /// The command that serves the endpoint of this file.
    pub(crate) fn command(&self, file: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.folder.join(file));
        command
    }

    /// Runs Node's own test runner on the tests of the folder.
    pub(crate) fn tests(&self, files: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--test", "--test-concurrency=2", "--test-timeout=900000"])
            .args(files.iter().map(|file| self.folder.join(file)));
        command
    }
}

/// Node with its packages, or in one line why there is none.
pub(crate) fn node() -> Result<Runtime, String> {
    node_in(&std::env::var_os("PATH").unwrap_or_default(), "endpoints/node")
}

/// Node with the packages of the tests in a browser, or in one line why there is none.
pub(crate) fn browser() -> Result<Runtime, String> {
    node_in(&std::env::var_os("PATH").unwrap_or_default(), "browser")
}

/// Python with its packages, or in one line why there is none.
pub(crate) fn python() -> Result<Runtime, String> {
    python_in(&std::env::var_os("PATH").unwrap_or_default())
}

fn node_in(path: &OsStr, folder: &str) -> Result<Runtime, String> {
    let program = on_path(path, "node").ok_or("no node on the PATH")?;
    let npm = on_path(path, "npm").ok_or("no npm on the PATH")?;
    let folder = copy_to_target(folder)?;
    install_once(&folder, "package-lock.json", || {
        // bcrypt comes with what its script would build.
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        run_installer(Command::new(npm).args(arguments).current_dir(&folder))
    })?;
    Ok(Runtime { program, folder })
}

fn python_in(path: &OsStr) -> Result<Runtime, String> {
    let python = on_path(path, "python3").ok_or("no python3 on the PATH")?;
    let folder = copy_to_target("endpoints/python")?;
    let program = folder.join("venv").join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    install_once(&folder, "requirements.txt", || {
        run_installer(Command::new(python).args(["-m", "venv", "--clear", "venv"]).current_dir(&folder))?;
        let arguments =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run_installer(Command::new(&program).args(arguments).current_dir(&folder))
    })?;
    Ok(Runtime { program, folder })
}

/// A copy of this folder of `tests` below `target`, so that no packages come to lie among the sources.
fn copy_to_target(folder: &str) -> Result<PathBuf, String> {
    let from = cargo::root().join("tests").join(folder);
    let to = cargo::target().join(folder);
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| format!("{} cannot be copied: {error}", from.display()))?;
    Ok(to)
}

/// Installs, unless that was done for the same list of packages.
fn install_once(
    folder: &Path,
    list: &str,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let wanted = fs::read(folder.join(list)).map_err(failed)?;
    let stamp = folder.join("installed");
    if fs::read(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    install()?;
    fs::write(&stamp, wanted).map_err(failed)
}

fn run_installer(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    output_of(program, command, "cannot install the packages").map(drop)
}

#[cfg(test)]
mod tests {
    use super::{node_in, python_in};

    #[test]
    fn missing_runtime_is_named() {
        let reasons = [node_in("/nonexistent".as_ref(), "browser"), python_in("/nonexistent".as_ref())]
            .map(|runtime| runtime.err().unwrap());
        assert_eq!(reasons, ["no node on the PATH", "no python3 on the PATH"]);
    }
}
