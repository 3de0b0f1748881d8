//! The project's commands. `cargo xtask` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod api;
mod bench;
mod browser;
mod cargo;
mod checks;
mod debian;
mod demo;
mod endpoints;
mod fuzz;
mod postgres;
mod runtimes;
mod test;
mod tools;
mod torture;
mod with_postgres;
mod words;

use std::error::Error;
use std::process::ExitCode;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  demo [axum|actix|warp]   nine events from a fake SmartShape, through a real server, to a handler
  demo … --inbox           the same with a durable inbox, and the server killed in the middle
  demo --relay             the same through `smartshape relay` to a program in Python, both killed in the middle
  demo … --ui              the same events on the page of the inbox's console, until ^C
  demo --cluster           the same through an inbox and a cluster of three NATS servers, and its leader killed
  test                     everything that can be tested on a machine with a Rust toolchain
  conformance              the table of cases over eight mounts; the example servers' settings and signals; and
                           `endpoints`
  endpoints                `smartshape check` on the three example servers, and on endpoints like those of
                           SmartShape's manual, in Node and Python
  browser [NAME]           the console in Chromium, behind nginx, with axe for accessibility; NAME of one test file
  torture [ROUNDS] [sqlite|postgres] [seed=N]
                           the durable mode: kills under load (300 rounds), a disk that loses what was not
                           synced, and failovers of PostgreSQL (20)
  torture relay [ROUNDS] [seed=N]
                           `smartshape relay`, its target and its PostgreSQL, each killed under load (100 times)
  fuzz [TARGET] [SECONDS]  inputs that a fuzzer thinks up, for 10 s each: token, lanes, head, envelope,
                           event, receive
  fuzz TARGET FILE         the input of an earlier crash once more
  with-postgres COMMAND…   any command, with DATABASE_URL set to a PostgreSQL server of its own
  bench [PART…] [--quick]  what receiving costs here beside bare frameworks and other endpoints: known, sizes,
                           fresh, peers, flood, memory; what the durable mode costs beside its databases: inbox;
                           the relay beside a bare forwarder: relay; hashes in lanes beside the bcrypt crate: lanes;
                           the outlet to NATS beside its bare client: outlet. Without a part: all. Prints Markdown
  check                    format, names, lints and documentation, warnings denied; public APIs; packages;
                           dependencies, where cargo-deny is there
  api [--write]            the public API of each published library beside its snapshot in docs/api
  deny                     licences, sources and banned dependencies, with cargo-deny
  ci                       check, then test";

/// Digits that nobody can guess.
fn random_secret() -> Result<String, String> {
    let secret = smartshape_webhook::Secret::generate().map_err(|error| error.to_string())?;
    Ok(secret.expose().to_owned())
}

fn main() -> ExitCode {
    if let Some(code) = api::rustdoc_wrapper() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["demo", choice @ ..] if choice.len() <= 2 => demo::run(choice),
        ["test"] => test::run(),
        ["conformance"] => test::conformance(),
        ["endpoints"] => endpoints::run(),
        ["browser", words @ ..] if words.len() <= 1 => browser::run(words.first().copied()),
        ["torture", words @ ..] => torture::run(words),
        ["fuzz", words @ ..] if words.len() <= 2 => fuzz::run(words),
        ["with-postgres", program, arguments @ ..] => match with_postgres::run(program, arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        ["bench", arguments @ ..] => bench::run(arguments),
        ["check"] => checks::run(),
        ["api"] => api::run(false),
        ["api", "--write"] => api::run(true),
        ["deny"] => checks::deny(),
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
