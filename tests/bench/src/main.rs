//! Measures what receiving a delivery costs beside the bare framework and other endpoints, and what the durable
//! inbox costs beside its databases. Prints each part as Markdown.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod client;
mod parts;
mod process;
mod report;
mod request;
mod server;
mod turns;
mod uploads;

use std::pin::Pin;
use std::process::ExitCode;

use parts::{console, flood, fresh, inbox, known, memory, peers, relay, sizes};
use process::{BOTH_CORES, LOAD_CORE, Peer};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Part = for<'run> fn(&'run Run) -> Pin<Box<dyn Future<Output = Result<()>> + 'run>>;

/// Each part's name, its cores and what measures it. One thread sends the load; the inbox, which is no process of its own, gets
/// both cores.
const PARTS: [(&str, &str, Part); 9] = [
    ("known", LOAD_CORE, |run| Box::pin(known::measure(run))),
    ("sizes", LOAD_CORE, |run| Box::pin(sizes::measure(run))),
    ("fresh", LOAD_CORE, |run| Box::pin(fresh::measure(run))),
    ("peers", LOAD_CORE, |run| Box::pin(peers::measure(run))),
    ("flood", LOAD_CORE, |run| Box::pin(flood::measure(run))),
    ("memory", LOAD_CORE, |run| Box::pin(memory::measure(run))),
    ("relay", LOAD_CORE, |run| Box::pin(relay::measure(run))),
    ("inbox", BOTH_CORES, |run| Box::pin(inbox::measure(run))),
    ("console", BOTH_CORES, |run| Box::pin(console::measure(run))),
];

/// How thoroughly to measure, and beside what.
#[derive(Default)]
struct Run {
    quick: bool,
    peers: Vec<Peer>,
}

fn usage() -> String {
    format!(
        "\
Usage: bench [PART…] [--quick] [--peer NAME PROGRAM FILE]…

  PART                      {}; without any: all
  --quick                   less than half a minute for each part, to see that it works
  --peer NAME PROGRAM FILE  an endpoint in another language

Needs two idle cores, 0 and 1. DATABASE_URL names a PostgreSQL server; without it, PostgreSQL is left out.",
        PARTS.map(|(name, ..)| name).join(", ")
    )
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [first, spec] if first == process::SERVE => server::run(spec),
        _ => measure(arguments),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}

fn measure(arguments: Vec<String>) -> Result<()> {
    let (mut run, mut parts) = (Run::default(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => run.quick = true,
            "--peer" => {
                let mut next = || arguments.next().ok_or_else(usage);
                run.peers.push(Peer { name: next()?, program: next()?, file: next()? });
            }
            name => parts.push(PARTS.iter().find(|(part, ..)| *part == name).ok_or_else(usage)?),
        }
    }
    if parts.is_empty() {
        parts.extend(&PARTS);
    }
    for (name, cores, part) in parts {
        process::pin(cores)?;
        let mut runtime = match *cores {
            BOTH_CORES => tokio::runtime::Builder::new_multi_thread(),
            _ => tokio::runtime::Builder::new_current_thread(),
        };
        runtime.enable_all().build()?.block_on(part(&run)).map_err(|error| format!("{name}: {error}"))?;
        println!("\n{}", report::environment(run.quick)?);
    }
    Ok(())
}
