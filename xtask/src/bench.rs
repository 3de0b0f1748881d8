//! What the durable inbox costs on this machine.

use std::process::Command;

use crate::{Outcome, cargo, postgres};

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let binary = cargo::build_release("bench-inbox")?;
    let mut command = Command::new(binary);
    // On the disk that the figures are about, and not in a memory that looks like one.
    command.args(arguments).arg("--below").arg(cargo::target());
    let server = postgres::provide();
    match &server {
        Ok(server) => {
            command.env("DATABASE_URL", server.url());
        }
        Err(reason) => println!("no PostgreSQL: {reason}"),
    }
    if command.status()?.success() { Ok(()) } else { Err("the figures could not be measured".into()) }
}
