//! Measures what receiving a delivery costs beside the bare framework and other endpoints, and what the durable
//! inbox costs beside its databases. Prints each part as Markdown.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod client;
mod parts;
mod process;
mod report;
mod request;
mod rounds;
mod server;
mod uploads;

use std::process::ExitCode;

use parts::{console, flood, fresh, inbox, known, memory, peers, relay, sizes};
use process::{BOTH_CORES, LOAD_CORE, Peer};
use tokio::runtime::Builder;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
Usage: bench [PART…] [--quick] [--peer NAME COMMAND]…

  PART                 known, sizes, fresh, peers, flood, memory, relay, inbox or console; without any: all
  --quick              less than half a minute for each part, to see that it works
  --peer NAME COMMAND  an endpoint in another language; tabs between the words of its command

Needs two idle cores, 0 and 1. DATABASE_URL names a PostgreSQL server; without it, PostgreSQL is left out.";

const PARTS: [&str; 9] = ["known", "sizes", "fresh", "peers", "flood", "memory", "relay", "inbox", "console"];

/// What to measure, and how thoroughly.
struct Run {
    quick: bool,
    parts: Vec<&'static str>,
    peers: Vec<Peer>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [process::SERVE, spec] => server::run(spec),
        arguments => match read(arguments) {
            Ok(Some(run)) => measure(&run),
            Ok(None) => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
            Err(error) => Err(error),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[&str]) -> Result<Option<Run>> {
    let mut run = Run { quick: false, parts: Vec::new(), peers: Vec::new() };
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match (argument, PARTS.iter().find(|part| **part == argument)) {
            (_, Some(part)) => run.parts.push(part),
            ("--quick", _) => run.quick = true,
            ("--peer", _) => {
                let name = arguments.next().ok_or("--peer needs a name")?;
                let command = arguments.next().ok_or("--peer needs a command")?;
                let command = command.split('\t').map(str::to_owned).collect();
                run.peers.push(Peer { name: (*name).to_owned(), command });
            }
            _ => return Ok(None),
        }
    }
    if run.parts.is_empty() {
        run.parts = PARTS.to_vec();
    }
    Ok(Some(run))
}

fn measure(run: &Run) -> Result<()> {
    for part in &run.parts {
        // One thread sends the load; the inbox, which is no process of its own, gets both cores.
        let (cores, mut runtime) = match *part {
            "inbox" | "console" => (BOTH_CORES, Builder::new_multi_thread()),
            _ => (LOAD_CORE, Builder::new_current_thread()),
        };
        process::pin(cores)?;
        let outcome = runtime.enable_all().build()?.block_on(async {
            match *part {
                "known" => known::measure(run).await,
                "sizes" => sizes::measure(run).await,
                "fresh" => fresh::measure(run).await,
                "peers" => peers::measure(run).await,
                "flood" => flood::measure(run).await,
                "memory" => memory::measure(run).await,
                "relay" => relay::measure(run).await,
                "inbox" => inbox::measure(run).await,
                _ => console::measure(run).await,
            }
        });
        outcome.map_err(|error| format!("{part}: {error}"))?;
        println!("\n{}", report::environment(run.quick)?);
    }
    Ok(())
}
