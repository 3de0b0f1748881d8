//! Programs that tests use where they can be had.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo;
use crate::debian::{self, Apt, on_path, one_line};

/// A `strace` that works here, or in one line why there is none.
pub(crate) fn strace() -> Result<PathBuf, String> {
    strace_in(&std::env::var_os("PATH").unwrap_or_default(), &cargo::target().join("tools-debian"))
}

fn strace_in(path: &OsStr, unpacked: &Path) -> Result<PathBuf, String> {
    if let Some(program) = on_path(path, "strace") {
        return traces(&program).map(|()| program);
    }
    let program = unpacked.join("strace");
    if traces(&program).is_err() {
        Apt::find(path)?.unpack("strace", unpacked, |apt| {
            let mut packages = apt.missing_libraries("strace");
            packages.push("strace".into());
            Ok(packages)
        })?;
        wrap(unpacked).map_err(|error| format!("cannot write {}: {error}", program.display()))?;
    }
    traces(&program).map(|()| program)
}

/// Tracing may be forbidden, as it is in many containers.
fn traces(strace: &Path) -> Result<(), String> {
    let output = Command::new(strace)
        .args(["-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} does not run: {error}", strace.display()))?;
    let Some(reason) = (!output.status.success()).then(|| one_line(&output.stderr)) else { return Ok(()) };
    Err(format!("{} cannot trace here: {reason}", strace.display()))
}

/// Puts a script above the program that shows it its libraries, and hides them from what it traces.
fn wrap(unpacked: &Path) -> std::io::Result<()> {
    let script = unpacked.join("strace");
    let libraries = debian::libraries(unpacked).unwrap_or_default();
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' -E LD_LIBRARY_PATH \"$@\"\n",
        quoted(&libraries),
        quoted(unpacked.join("usr/bin/strace").as_os_str())
    );
    fs::write(&script, text)?;
    Command::new("chmod").arg("755").arg(&script).status()?;
    Ok(())
}

/// For a shell's single quotes.
fn quoted(text: &OsStr) -> String {
    text.to_string_lossy().replace('\'', r"'\''")
}

#[cfg(test)]
mod tests {
    use super::strace_in;

    #[test]
    fn without_strace_and_apt_the_reason_is_clear() {
        let reason = strace_in("/nonexistent".as_ref(), "/nonexistent".as_ref()).unwrap_err();
        assert_eq!(reason, "Debian's packages are out of reach: no apt-get on the PATH");
    }
}
