//! Measures what receiving a delivery costs beside the bare framework and other endpoints, and what the durable
//! inbox costs beside its databases. Prints each part as Markdown.
#![allow(clippy::print_stdout, reason = "a command line prints")]

mod client;
mod parts;
mod process;
mod report;
mod request;
mod server;
mod turns;

use std::pin::Pin;

use clap::Parser as _;
use parts::{beside_bare, flood, fresh, inbox, memory, peers, relay};
use process::{BOTH_CORES, LOAD_CORE};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Part = for<'run> fn(&'run Run) -> Pin<Box<dyn Future<Output = Result<()>> + 'run>>;

/// Each part's name, its cores and what measures it. One thread sends the load; the inbox, which is no process of its
/// own, gets both cores.
const PARTS: [(&str, &str, Part); 8] = [
    ("known", LOAD_CORE, |run| Box::pin(beside_bare::known(run))),
    ("sizes", LOAD_CORE, |run| Box::pin(beside_bare::sizes(run))),
    ("fresh", LOAD_CORE, |run| Box::pin(fresh::measure(run))),
    ("peers", LOAD_CORE, |run| Box::pin(peers::measure(run))),
    ("flood", LOAD_CORE, |run| Box::pin(flood::measure(run))),
    ("memory", LOAD_CORE, |run| Box::pin(memory::measure(run))),
    ("relay", LOAD_CORE, |run| Box::pin(relay::measure(run))),
    ("inbox", BOTH_CORES, |run| Box::pin(inbox::measure(run))),
];

/// Needs two idle cores, 0 and 1. `DATABASE_URL` names a PostgreSQL server; without it, PostgreSQL is left out.
#[derive(clap::Parser)]
struct Run {
    /// What to measure; without any, all of it
    #[arg(value_parser = PARTS.map(|(name, ..)| name))]
    parts: Vec<String>,
    /// Takes less than half a minute for each part, to see that it works
    #[arg(long)]
    quick: bool,
    /// An endpoint in another language
    #[arg(long = "peer", num_args = 3, value_names = ["NAME", "PROGRAM", "FILE"])]
    peers: Vec<String>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(process::SERVE), Some(spec)) = (arguments.next().as_deref(), arguments.next()) {
        return server::run(&spec);
    }
    let run = Run::parse();
    for (name, cores, part) in PARTS {
        if !run.parts.is_empty() && !run.parts.iter().any(|wanted| wanted == name) {
            continue;
        }
        process::pin(cores)?;
        let mut runtime = match cores {
            BOTH_CORES => tokio::runtime::Builder::new_multi_thread(),
            _ => tokio::runtime::Builder::new_current_thread(),
        };
        runtime.enable_all().build()?.block_on(part(&run)).map_err(|error| format!("{name}: {error}"))?;
        println!("\n{}", report::environment(run.quick)?);
    }
    Ok(())
}
