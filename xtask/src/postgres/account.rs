//! The account that runs PostgreSQL, which does not run as root.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::debian::{id, is_root};

/// Another account than ours, to run PostgreSQL as.
#[derive(Clone, Copy)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

/// The account to run PostgreSQL as: nothing means ours.
pub(super) fn for_postgres() -> Result<Option<Account>, String> {
    if !is_root() {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some(Account { user: id(&["-u", name])?, group: id(&["-g", name])? }))
        .map(Some)
        .ok_or_else(|| "PostgreSQL does not run as root, and there is no account postgres or nobody".into())
}

/// Lets a program run as the account.
pub(super) fn run_as(account: Option<Account>, command: &mut Command) {
    if let Some(Account { user, group }) = account {
        // The standard library drops the supplementary groups with it.
        command.uid(user).gid(group);
    }
}

/// A shell prefix that runs a command as the account.
pub(super) fn prefix(account: Option<Account>) -> String {
    let run = |Account { user, group }| format!("setpriv --reuid={user} --regid={group} --clear-groups");
    account.map(run).unwrap_or_default()
}

/// Gives a file or folder to the account.
pub(super) fn chown(account: Option<Account>, path: &Path) -> io::Result<()> {
    account.map_or(Ok(()), |Account { user, group }| std::os::unix::fs::chown(path, Some(user), Some(group)))
}

/// Whether the account can run this file; it may be out of its reach, as all below root's home is.
pub(super) fn can_run(account: Option<Account>, program: &Path) -> bool {
    let mut test = Command::new("test");
    test.arg("-x").arg(program).current_dir("/");
    run_as(account, &mut test);
    fs::exists(program).unwrap_or(false) && test.status().is_ok_and(|status| status.success())
}
