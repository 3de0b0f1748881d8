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

/// A C++ compiler, or in one line why there is none.
pub(crate) fn cpp_compiler() -> Result<(), String> {
    compiles(&std::env::var_os("CXX").unwrap_or_else(|| "c++".into()))
}

/// Without its library's headers a compiler is of no use.
fn compiles(compiler: &OsStr) -> Result<(), String> {
    let shown = compiler.display();
    let output = Command::new(compiler)
        .args(["-x", "c++", "-std=c++17", "-include", "vector", "-fsyntax-only", "-"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("there is no C++ compiler: {shown} does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("the C++ compiler {shown} does not work: {}", one_line(&output.stderr)))
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
    use super::{compiles, strace_in};

    #[test]
    fn without_a_cpp_compiler_the_reason_is_clear() {
        let reason = compiles("/nonexistent".as_ref()).unwrap_err();
        assert!(reason.starts_with("there is no C++ compiler: /nonexistent does not run: "), "{reason}");
        let reason = compiles("false".as_ref()).unwrap_err();
        assert!(reason.starts_with("the C++ compiler false does not work: "), "{reason}");
    }

    #[test]
    fn without_strace_and_apt_the_reason_is_clear() {
        let reason = strace_in("/nonexistent".as_ref(), "/nonexistent".as_ref()).unwrap_err();
        assert_eq!(reason, "Debian's packages are out of reach: no apt-get on the PATH");
    }
}
