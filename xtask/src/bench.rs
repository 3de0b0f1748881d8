//! What receiving costs on this machine, and what the durable inbox costs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, cargo, postgres, runtimes};

/// The arguments are those of the program `bench`, which prints what they may be, and the parts `lanes` and `outlet`, which
/// these crates measure themselves.
pub(crate) fn run(arguments: &[&str]) -> Result {
    let is_part = |argument: &&&str| !argument.starts_with("--");
    let parts = arguments.iter().filter(is_part).count();
    if parts == 0 || arguments.contains(&"lanes") {
        cargo::run(&["bench", "--quiet", "-p", "bcrypt-lanes"], &[])?;
    }
    if parts == 0 || arguments.contains(&"outlet") {
        match runtimes::python() {
            Ok(python) => {
                let [(name, server), _] = python.nats();
                let outlet = ["bench", "--quiet", "-p", "test-nats", "--bench", "outlet"];
                cargo::run(&outlet, &[(name, &server)])?;
            }
            Err(reason) => println!("no NATS server: {reason}"),
        }
    }
    let arguments = arguments.iter().filter(|argument| !["lanes", "outlet"].contains(argument));
    let arguments = &arguments.copied().collect::<Vec<_>>();
    if parts > 0 && !arguments.iter().any(|argument| is_part(&argument)) {
        return Ok(());
    }
    let mut command = Command::new(cargo::build_fast("bench", "bench")?);
    command.args(arguments);
    if parts == 0 || arguments.contains(&"relay") {
        command.env("SMARTSHAPE", cargo::build_fast("smartshape-webhook-cli", "smartshape")?);
    }
    for (name, program, file) in peers() {
        command.args(["--peer", name]).args([program, file]);
    }
    // Stops when this function returns.
    let mut server = None;
    if parts == 0 || arguments.contains(&"inbox") {
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
fn peers() -> Vec<(&'static str, PathBuf, PathBuf)> {
    let installed = cargo::target().join("endpoints");
    let node = ("Node (express)", PathBuf::from("node"), installed.join("node/repaired.js"));
    let python =
        ("Python (falcon)", installed.join("python/venv/bin/python"), installed.join("python/repaired.py"));
    let (found, missing): (Vec<_>, Vec<_>) = [node, python].into_iter().partition(|(.., file)| file.exists());
    for (name, _, file) in missing {
        println!("{name} is left out: {} is not there; `cargo xtask test` installs it", file.display());
    }
    found
}
