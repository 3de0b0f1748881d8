//! What receiving costs on this machine, and what the durable inbox costs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, cargo, postgres};

/// The arguments are those of the program `bench`, which prints what they may be.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(cargo::build_fast("bench")?);
    command.args(arguments);
    for (name, program) in peers() {
        command.args(["--peer", name, &program]);
    }
    let has_part = arguments.iter().any(|argument| !argument.starts_with("--"));
    // Stops when this function returns.
    let mut server = None;
    if !has_part || arguments.contains(&"inbox") {
        match postgres::provide() {
            Ok(provided) => {
                command.env("DATABASE_URL", provided.url());
                server = Some(provided);
            }
            Err(reason) => println!("no PostgreSQL: {reason}"),
        }
    }
    let status = command.status()?;
    drop(server);
    if status.success() { Ok(()) } else { Err("not all figures could be measured".into()) }
}

/// The endpoints in other languages, where `cargo xtask test` has installed them.
fn peers() -> Vec<(&'static str, String)> {
    let installed = cargo::target().join("endpoints");
    let node = ("Node (express)", PathBuf::from("node"), installed.join("node/repaired.js"));
    let python =
        ("Python (falcon)", installed.join("python/venv/bin/python"), installed.join("python/repaired.py"));
    let mut found = Vec::new();
    for (name, program, file) in [node, python] {
        if file.exists() {
            found.push((name, format!("{}\t{}", program.display(), file.display())));
        } else {
            println!("{name} is left out: {} is not there; `cargo xtask test` installs it", file.display());
        }
    }
    found
}
