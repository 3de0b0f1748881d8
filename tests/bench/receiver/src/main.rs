//! What receiving a delivery costs, beside the bare framework and beside other receivers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod client;
mod cores;
mod parts;
mod payload;
mod process;
mod server;
mod tokens;
mod turns;
mod uploads;

use std::process::ExitCode;

use bench_report::{Outcome, Output};
use cores::Cores;
use parts::{PARTS, Run};
use process::Peer;

const USAGE: &str = "\
Usage: bench-receiver [PART…] [--quick] [--json PATH] [--markdown PATH] [--peer NAME COMMAND]…

  PART             known, sizes, fresh, peers, flood, busy, memory, growth or adopt; without any: all but adopt
  --quick          less than half a minute for each part
  --json PATH      puts the figures into this file, for programs
  --markdown PATH  puts them into this page, for people
  --peer NAME COMMAND
                   an endpoint in another language; tabs between the words of its command

Needs two cores that have nothing else to do.";

struct Options {
    parts: Vec<&'static str>,
    quick: bool,
    output: Output,
    peers: Vec<Peer>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [process::SERVE, spec] => server::run(spec),
        [process::ON_CORE, core, program @ ..] => cores::become_program(core, program),
        _ => match Options::read(arguments) {
            Some(options) => run(&options),
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-receiver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let run = Run { cores: Cores::find()?, quick: options.quick, peers: &options.peers };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for part in &options.parts {
        let part = runtime.block_on(parts::measure(part, run)).map_err(|error| format!("{part}: {error}"))?;
        options.output.add(&part)?;
    }
    Ok(())
}

impl Options {
    fn read(arguments: Vec<String>) -> Option<Self> {
        let mut options =
            Self { parts: Vec::new(), quick: false, output: Output::default(), peers: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.output.json = Some(arguments.next()?.into()),
                "--peer" => {
                    let (name, words) = (arguments.next()?, arguments.next()?);
                    let command = words.split('\t').map(str::to_owned).collect();
                    options.peers.push(Peer { name, command });
                }
                "--markdown" => options.output.markdown = Some(arguments.next()?.into()),
                part => options.parts.push(PARTS.iter().find(|known| **known == part)?),
            }
        }
        if options.parts.is_empty() {
            options.parts = PARTS.into_iter().filter(|part| *part != "adopt").collect();
        }
        Some(options)
    }
}
