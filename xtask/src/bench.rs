//! What receiving costs on this machine, and what the durable inbox costs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, cargo, postgres};

/// The part that is a program of its own.
const INBOX: &str = "inbox";

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let [parts, options] = read(arguments)?;
    let receiver: Vec<&str> = parts.iter().copied().filter(|part| *part != INBOX).collect();
    if parts.is_empty() || !receiver.is_empty() {
        let mut command = Command::new(cargo::build_fast("bench-receiver")?);
        command.args(receiver).args(&options);
        for (name, program) in peers() {
            command.args(["--peer", name, &program]);
        }
        measured(&mut command)?;
    }
    if parts.is_empty() || parts.contains(&INBOX) {
        inbox(&options)?;
    }
    Ok(())
}

fn inbox(options: &[&str]) -> Outcome {
    let mut command = Command::new(cargo::build_release("bench-inbox")?);
    // On the disk that the figures are about, and not in a memory that looks like one.
    command.args(options).arg("--below").arg(cargo::target());
    let server = postgres::provide();
    match &server {
        Ok(server) => {
            command.env("DATABASE_URL", server.url());
        }
        Err(reason) => println!("no PostgreSQL: {reason}"),
    }
    measured(&mut command)
}

/// The parts, and what both programs understand.
fn read<'a>(arguments: &[&'a str]) -> Result<[Vec<&'a str>; 2], Box<dyn std::error::Error>> {
    let (mut parts, mut options) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--quick" => options.push(*argument),
            "--json" | "--markdown" => {
                let path = arguments.next().ok_or_else(|| format!("{argument} needs a path"))?;
                options.extend([*argument, path]);
            }
            part => parts.push(part),
        }
    }
    Ok([parts, options])
}

fn measured(command: &mut Command) -> Outcome {
    if command.status()?.success() { Ok(()) } else { Err("not all figures could be measured".into()) }
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
