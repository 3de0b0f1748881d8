//! The public API of each published library, compared with a snapshot, so that a change of it is seen in review.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::cargo::{COMMAND_LINE, PUBLISHED};
use crate::{Result, cargo};

/// Set for the process that cargo runs as rustdoc.
const WRAPPER: &str = "XTASK_RUSTDOC";

/// Compares each API with its snapshot, or writes the snapshots.
pub(crate) fn run(write: bool) -> Result {
    let mut changed = Vec::new();
    for library in PUBLISHED.into_iter().filter(|package| *package != COMMAND_LINE) {
        let snapshot = cargo::root().join("docs/api").join(format!("{library}.txt"));
        let current = public_api(library)?;
        if write {
            fs::create_dir_all(snapshot.parent().unwrap_or(Path::new(".")))?;
            fs::write(&snapshot, current)?;
        } else if fs::read_to_string(&snapshot).unwrap_or_default() != current {
            let now = cargo::target().join(format!("{library}.api.txt"));
            fs::write(&now, current)?;
            let _ = Command::new("diff").arg("-u").args([&snapshot, &now]).status();
            changed.push(library);
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the public API of {} is not that of its snapshot in docs/api: if the change is meant, run \
         `cargo xtask api --write` and commit the snapshots",
        changed.join(", ")
    )
    .into())
}

fn public_api(library: &str) -> Result<String> {
    let itself = std::env::current_exe()?;
    let itself = itself.to_string_lossy();
    let arguments = ["rustdoc", "--quiet", "--locked", "--lib", "--all-features", "--package", library, "--"];
    let json = ["-Zunstable-options", "--output-format", "json", "--cap-lints", "allow"];
    let arguments: Vec<_> = arguments.into_iter().chain(json).collect();
    cargo::run(&arguments, &[("RUSTDOC", &itself), (WRAPPER, "1")])?;
    let path = cargo::target().join("doc").join(format!("{}.json", library.replace('-', "_")));
    let api = public_api::Builder::from_rustdoc_json(path)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// Runs rustdoc with its unstable JSON output allowed. Allowing it for all of cargo would compile every dependency
/// anew, as build scripts look at the variable.
pub(crate) fn rustdoc_wrapper() -> Option<ExitCode> {
    std::env::var_os(WRAPPER)?;
    let rustdoc: PathBuf = "rustdoc".into();
    let status = Command::new(rustdoc).args(std::env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").status();
    Some(if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
