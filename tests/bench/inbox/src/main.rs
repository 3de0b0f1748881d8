//! What the durable inbox costs, measured beside what its engines can do at best.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod acknowledge;
mod bare_postgres;
mod bare_sqlite;
mod folder;
mod large;
mod machine;
mod samples;
mod schema;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench_report::{Outcome, Output, Part, Start, Table};
use folder::Folder;
use schema::Schema;

const USAGE: &str = "\
Usage: bench-inbox [--quick] [--json PATH] [--markdown PATH] [--below FOLDER] [--only PART]

  --quick          a few seconds for each figure, and a tenth of the stored events
  --json PATH      writes the figures for programs
  --markdown PATH  writes them for people
  --below FOLDER   works in a new folder below this one, and deletes it at the end
  --only PART      sync, sqlite, postgres, worker or large

DATABASE_URL names a PostgreSQL server; without it, PostgreSQL is left out.";

const PARTS: [&str; 5] = ["sync", "sqlite", "postgres", "worker", "large"];

struct Options {
    quick: bool,
    output: Output,
    below: PathBuf,
    only: Option<String>,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    rounds: usize,
    /// How long one side of one round lasts.
    slice: Duration,
    worker_rounds: usize,
    worker_events: usize,
    stored_events: usize,
}

impl Scale {
    fn of(options: &Options) -> Self {
        if options.quick {
            let slice = Duration::from_millis(80);
            return Self { rounds: 7, slice, worker_rounds: 3, worker_events: 500, stored_events: 100_000 };
        }
        Self {
            rounds: 25,
            slice: Duration::from_millis(160),
            worker_rounds: 7,
            worker_events: 3000,
            stored_events: 1_000_000,
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [large::COMMAND, folder, events] => runtime(large::run_here(folder, events)),
        _ => match Options::read(arguments) {
            Some(options) => runtime(run(options)),
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-inbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(work: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

async fn run(options: Options) -> Outcome<()> {
    let scale = Scale::of(&options);
    let folder = Folder::below(&options.below)?;
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("PostgreSQL is left out: DATABASE_URL names no server.");
    }
    let schema = match &url {
        Some(url) => Some(Schema::create(url).await?),
        None => None,
    };
    let start = Start::now();
    let measured = measure(&options, scale, &folder, schema.as_ref()).await;
    let facts = machine::describe(schema.as_ref()).await;
    if let Some(schema) = schema {
        schema.drop_it().await?;
    }
    options.output.add(&Part {
        name: "inbox",
        title: "The durable inbox",
        meaning:
            "What it costs to store each delivery durably before it is acknowledged, beside what the engines \
                  can do at best."
                .to_owned(),
        facts: [start.facts(options.quick), facts?].concat(),
        tables: measured?,
        charts: Vec::new(),
    })
}

async fn measure(
    options: &Options,
    scale: Scale,
    folder: &Folder,
    schema: Option<&Schema>,
) -> Outcome<Vec<Table>> {
    let mut tables = Vec::new();
    for part in PARTS {
        if options.only.as_ref().is_some_and(|only| only != part) {
            continue;
        }
        tables.push(match (part, schema) {
            ("sync", _) => machine::sync_latency(folder, scale)?,
            ("sqlite", _) => acknowledge::on_sqlite(folder, scale).await?,
            ("postgres", Some(schema)) => acknowledge::on_postgres(schema, scale).await?,
            ("worker", _) => worker::measure(folder, schema, scale).await?,
            ("large", _) => large::measure(folder, scale)?,
            _ => continue,
        });
        eprintln!("{part}: measured");
    }
    Ok(tables)
}

impl Options {
    fn read(arguments: Vec<String>) -> Option<Self> {
        let mut options =
            Self { quick: false, output: Output::default(), below: std::env::temp_dir(), only: None };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.output.json = Some(arguments.next()?.into()),
                "--markdown" => options.output.markdown = Some(arguments.next()?.into()),
                "--below" => options.below = arguments.next()?.into(),
                "--only" => {
                    options.only = Some(arguments.next().filter(|part| PARTS.contains(&part.as_str()))?);
                }
                _ => return None,
            }
        }
        Some(options)
    }
}
