//! What receiving costs on this machine, and what the durable inbox costs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, cargo, postgres, runtimes};

/// The arguments are those of the program `bench`, which prints what they may be, and the parts `lanes` and `outlet`,
/// which these crates measure themselves.
pub(crate) fn run(arguments: &[&str]) -> Result {
    let (options, parts): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|argument| argument.starts_with("--"));
    let is_chosen = |part| parts.is_empty() || parts.contains(&part);
    if is_chosen("lanes") {
        cargo::run(&["bench", "--quiet", "-p", "bcrypt-lanes"], &[])?;
    }
    if is_chosen("outlet") {
        match runtimes::python() {
            Ok(python) => {
                let [(name, server), _] = python.nats();
                let outlet = ["bench", "--quiet", "-p", "test-nats", "--bench", "outlet"];
                cargo::run(&outlet, &[(name, &server)])?;
            }
            Err(reason) => println!("no NATS server: {reason}"),
        }
    }
    let own: Vec<&str> = parts.iter().copied().filter(|part| !["lanes", "outlet"].contains(part)).collect();
    if own.is_empty() && !parts.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(cargo::build_fast("bench", "bench")?);
    command.args(own).args(options);
    if is_chosen("relay") {
        command.env("SMARTSHAPE", cargo::build_fast("smartshape-webhook-cli", "smartshape")?);
    }
    for (name, program, file) in peers() {
        command.args(["--peer", name]).args([program, file]);
    }
    let postgres = is_chosen("inbox").then(postgres::provide).transpose();
    match &postgres {
        Ok(server) => {
            command.envs(server.iter().map(|server| ("DATABASE_URL", server.url())));
        }
        Err(reason) => println!("no PostgreSQL: {reason}"),
    }
    // The server runs until this function returns.
    if command.status()?.success() { Ok(()) } else { Err("not all figures could be measured".into()) }
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
