//! PostgreSQL's programs in one place.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::{self, Account};
use crate::debian;
use crate::tools::quoted;

pub(super) struct Installation {
    /// The folder of the programs.
    pub(super) folder: PathBuf,
    /// The unpacked packages that it lies in, if it does.
    unpacked: Option<PathBuf>,
    account: Option<Account>,
}

impl Installation {
    /// What the machine has.
    pub(super) fn installed(folder: &Path, account: Option<Account>) -> Self {
        Self { folder: folder.to_owned(), unpacked: None, account }
    }

    /// What lies in unpacked packages, whose libraries it needs.
    pub(super) fn unpacked(packages: &Path, folder: &Path, account: Option<Account>) -> Self {
        Self { folder: folder.to_owned(), unpacked: Some(packages.to_owned()), account }
    }

    /// Copies unpacked packages to where the account reaches them, if it does not yet.
    pub(super) fn within_reach(self, copy: &Path) -> Result<Self, String> {
        let Some(packages) = self.unpacked.clone() else { return Ok(self) };
        if account::can_run(self.account, &self.folder.join("postgres")) {
            return Ok(self);
        }
        debian::copy(&packages, copy)?;
        let folder = self.folder.strip_prefix(&packages).map_err(|error| error.to_string())?;
        Ok(Self::unpacked(copy, &copy.join(folder), self.account))
    }

    /// The version, which shows that the programs can run at all.
    pub(super) fn version(&self) -> Result<String, String> {
        for program in ["initdb", "postgres"] {
            if !self.folder.join(program).is_file() {
                return Err(format!("no {program} beside the rest"));
            }
        }
        self.run("initdb", &["--version".as_ref()])?;
        let shown = self.run("postgres", &["--version".as_ref()])?;
        Ok(shown.trim().trim_start_matches("postgres (PostgreSQL) ").to_owned())
    }

    /// Runs a program to its end, and returns what it printed.
    pub(super) fn run(&self, program: &str, arguments: &[&OsStr]) -> Result<String, String> {
        debian::output_of(program, self.command(program).args(arguments), "failed")
    }

    /// A program, to be run as the account, with messages in English and no setting from outside.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").current_dir("/");
        if let Some(libraries) = self.libraries() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        account::run_as(self.account, &mut command);
        command
    }

    /// A script that runs a command as the account, with the programs on its PATH.
    pub(super) fn script(&self) -> String {
        let libraries = self.libraries().map(|folders| format!("LD_LIBRARY_PATH={}", quoted(&folders)));
        format!(
            "#!/bin/sh\ncd /\nexec {} env LC_ALL=C PATH={}:\"$PATH\" {} \"$@\"\n",
            account::prefix(self.account),
            quoted(self.folder.as_os_str()),
            libraries.unwrap_or_default(),
        )
    }

    fn libraries(&self) -> Option<OsString> {
        debian::libraries(self.unpacked.as_deref()?)
    }
}
