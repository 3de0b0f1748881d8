//! The project's commands. `cargo xtask` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod cargo;
mod checks;
mod conformance;
mod demo;
mod server;
mod test;

use std::error::Error;
use std::process::ExitCode;

type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  demo [axum|actix|warp]   nine events from a fake SmartShape, through a real server, to a handler
  test                     everything that can be tested on a machine with a Rust toolchain
  conformance              the three example servers as processes, side by side, case by case
  check                    format, lints and documentation, warnings denied
  ci                       check, then test";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["demo"] => demo::run("axum"),
        ["demo", framework] => demo::run(framework),
        ["test"] => test::run(),
        ["conformance"] => conformance::run(),
        ["check"] => checks::run(),
        ["ci"] => checks::run().and_then(|()| test::run()),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
