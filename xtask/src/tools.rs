//! Programs that tests use where they can be had.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo;
use crate::debian::{self, Apt, error_line, on_path, output_of};

pub(crate) struct Tool {
    /// Name of the program and of its Debian package.
    name: &'static str,
    /// A package without which it does not run, libraries apart.
    beside: Option<&'static str>,
    /// Arguments that come first, so that what it runs does not see its libraries.
    leading_arguments: &'static str,
    /// Arguments that succeed where it works.
    probe: &'static [&'static str],
}

// Tracing may be forbidden, as it is in many containers.
pub(crate) const STRACE: Tool =
    Tool { leading_arguments: "-E LD_LIBRARY_PATH", ..Tool::named("strace", &["-o", "/dev/null", "true"]) };
pub(crate) const JQ: Tool = Tool::named("jq", &["-n", "1"]);
pub(crate) const SQLITE: Tool = Tool::named("sqlite3", &[":memory:", "SELECT 1"]);
pub(crate) const PGBOUNCER: Tool = Tool::named("pgbouncer", &["--version"]);
pub(crate) const NGINX: Tool = Tool::named("nginx", &["-v"]);
// Chromium's sandbox does not work for root, nor in many containers.
pub(crate) const CHROMIUM: Tool = Tool {
    beside: Some("chromium-common"),
    ..Tool::named("chromium", &["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "about:blank"])
};

impl Tool {
    const fn named(name: &'static str, probe: &'static [&'static str]) -> Self {
        Self { name, beside: None, leading_arguments: "", probe }
    }

    /// The program, if it works here; otherwise the reason in one line.
    pub(crate) fn provide(&self) -> Result<PathBuf, String> {
        let unpacked = cargo::target().join(format!("{}-debian", self.name));
        self.provide_in(&std::env::var_os("PATH").unwrap_or_default(), &unpacked)
    }

    fn provide_in(&self, path: &OsStr, unpacked: &Path) -> Result<PathBuf, String> {
        if let Some(program) = on_path(path, self.name) {
            return self.works(&program).map(|()| program);
        }
        let program = unpacked.join(self.name);
        if self.works(&program).is_err() {
            Apt::find(path)?.unpack(self.name, unpacked, |apt| {
                let mut packages = apt.missing_libraries(self.name);
                packages.extend(self.beside.into_iter().chain([self.name]).map(str::to_owned));
                Ok(packages)
            })?;
            self.wrap(unpacked).map_err(|error| format!("cannot write {}: {error}", program.display()))?;
        }
        self.works(&program).map(|()| program)
    }

    fn works(&self, program: &Path) -> Result<(), String> {
        let mut command = Command::new(program);
        output_of(program.display(), command.args(self.probe), "does not work here").map(drop)
    }

    /// Puts a script above the program that shows it its libraries.
    fn wrap(&self, unpacked: &Path) -> std::io::Result<()> {
        let script = unpacked.join(self.name);
        let libraries = debian::libraries(unpacked).unwrap_or_default();
        // In usr/bin, chromium has a script that looks for it in its place on the system.
        let folders = ["usr/lib/chromium", "usr/bin", "usr/sbin"].map(|folder| unpacked.join(folder));
        let program =
            on_path(&std::env::join_paths(folders).unwrap_or_default(), self.name).unwrap_or_default();
        let text = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH={} exec {} {} \"$@\"\n",
            quoted(&libraries),
            quoted(program.as_os_str()),
            self.leading_arguments
        );
        fs::write(&script, text)?;
        Command::new("chmod").arg("755").arg(&script).status()?;
        Ok(())
    }
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
    Err(format!("the C++ compiler {shown} does not work: {}", error_line(&output.stderr)))
}

/// For a shell, in single quotes.
pub(crate) fn quoted(text: &OsStr) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{CHROMIUM, JQ, NGINX, SQLITE, STRACE, compiles};

    #[test]
    fn missing_cpp_compiler_is_named() {
        let reason = compiles("/nonexistent".as_ref()).unwrap_err();
        assert!(reason.starts_with("there is no C++ compiler: /nonexistent does not run: "), "{reason}");
        let reason = compiles("false".as_ref()).unwrap_err();
        assert!(reason.starts_with("the C++ compiler false does not work: "), "{reason}");
    }

    #[test]
    fn missing_apt_is_named() {
        for tool in [STRACE, JQ, NGINX, SQLITE, CHROMIUM] {
            let reason = tool.provide_in("/nonexistent".as_ref(), "/nonexistent".as_ref()).unwrap_err();
            assert_eq!(reason, "Debian's packages are out of reach: no apt-get on the PATH");
        }
    }
}
