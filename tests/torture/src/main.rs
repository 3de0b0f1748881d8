//! Kills the durable mode's processes at random moments, and looks whether its promises hold.
//!
//! `cargo xtask torture` builds and calls it.

mod caller;
mod crash;
mod ledger;
mod load;
mod observed;
mod random;
mod relay;
mod server;
mod store;
mod trace;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crash::Plan;
use random::Random;
use store::Store;

type Error = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
Usage: torture SERVER ROUNDS [sqlite|postgres|relay] [seed=N] [database-crashes]

SERVER is the binary example-axum, or smartshape for `relay`. DATABASE_URL names a PostgreSQL server.
`cargo xtask torture` provides all of it.";

struct Settings {
    engines: Vec<Engine>,
    plan: Plan,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
    /// `smartshape relay` on PostgreSQL.
    Relay,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, address, file] = arguments.as_slice()
        && command == relay::TARGET
    {
        let Err(error) = relay::serve_target(address, file).await else { return ExitCode::SUCCESS };
        let _ = writeln!(std::io::stderr(), "{error}");
        return ExitCode::FAILURE;
    }
    let Some(settings) = Settings::read(arguments.into_iter()) else {
        let _ = writeln!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    // Whatever ends this future, the servers are killed with it.
    let outcome = tokio::select! {
        outcome = run(&settings) => outcome,
        () = interrupted() => Err("interrupted".into()),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let _ = print_line(&format!("FAILED (seed={}): {error}", settings.plan.seed));
    ExitCode::FAILURE
}

async fn run(settings: &Settings) -> Result<(), Error> {
    for engine in &settings.engines {
        let mut plan = settings.plan.clone();
        plan.database_crashes &= *engine != Engine::Sqlite;
        let folder = tempfile::tempdir()?;
        let outcome = torture(*engine, &plan, folder.path()).await;
        if outcome.is_err() && *engine == Engine::Sqlite {
            let _ = print_line(&format!("  the inbox is left in {}", folder.keep().display()));
        }
        outcome?;
    }
    print_line("PASSED: every promise that was tested held")
}

async fn torture(engine: Engine, plan: &Plan, folder: &Path) -> Result<(), Error> {
    let (name, store) = match engine {
        Engine::Sqlite => ("SQLite", Store::File(folder.join("inbox.db"))),
        Engine::Postgres | Engine::Relay => {
            let base = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
            let schema = format!("torture_{}", std::process::id());
            let name = if engine == Engine::Relay { "The relay on PostgreSQL" } else { "PostgreSQL" };
            (name, Store::on_server(&base, &schema).await?)
        }
    };
    print_line(&format!("{name}: {} rounds of kills under load, seed={}", plan.rounds, plan.seed))?;
    let outcome = async {
        if engine == Engine::Relay {
            return relay::run(plan, &store, folder).await;
        }
        crash::run(plan, &store).await?;
        print_line(
            "  ok: nothing acknowledged was lost, nothing was completed twice or begun again after that",
        )?;
        match std::env::var_os("STRACE") {
            Some(strace) => trace_calls(plan, &store, Path::new(&strace), folder).await,
            None => print_line("  skipped: the tests that trace system calls, since STRACE names no strace"),
        }
    };
    let outcome = outcome.await;
    let removed = store.remove().await;
    outcome.and(removed)
}

async fn trace_calls(plan: &Plan, store: &Store, strace: &Path, folder: &Path) -> Result<(), Error> {
    let Store::Server { .. } = store else {
        print_line(&format!("SQLite: what a loss of power would leave, seed={}", plan.seed))?;
        trace::run(&plan.binary, strace, folder, 2 * plan.rounds, plan.seed).await?;
        return print_line(
            "  ok: each response came after its sync, and each disk had all that was acknowledged by then",
        );
    };
    if !plan.database_crashes {
        return print_line("  skipped: the tests that trace system calls, since the server is not ours");
    }
    print_line("PostgreSQL: the order of its syncs and our responses")?;
    let processes = caller::database_processes().await?;
    let inbox_url = store.inbox_url();
    if trace::run_on_server(&plan.binary, strace, folder, (&inbox_url, &processes), plan.seed).await? {
        print_line("  ok: each response came after its sync")
    } else {
        print_line("  skipped: the server's processes may not be traced here")
    }
}

impl Settings {
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut engines = vec![Engine::Sqlite, Engine::Postgres];
        let mut plan = Plan {
            binary: arguments.next()?.into(),
            rounds: arguments.next()?.parse().ok()?,
            seed: Random::seed(),
            database_crashes: false,
        };
        for argument in arguments {
            match argument.as_str() {
                "sqlite" => engines = vec![Engine::Sqlite],
                "postgres" => engines = vec![Engine::Postgres],
                "relay" => engines = vec![Engine::Relay],
                "database-crashes" => plan.database_crashes = true,
                other => plan.seed = other.strip_prefix("seed=")?.parse().ok()?,
            }
        }
        Some(Self { engines, plan })
    }
}

/// An error that shows the first of the faults, if there are any.
fn conclude(failure: &str, faults: &[String]) -> Result<(), Error> {
    if faults.is_empty() {
        return Ok(());
    }
    let shown: String = faults.iter().take(20).map(|fault| format!("\n  {fault}")).collect();
    Err(format!("{failure}, {} faults:{shown}", faults.len()).into())
}

/// Prints a line. An error means that standard output is closed, and ends the run.
fn print_line(text: &str) -> Result<(), Error> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")?;
    Ok(output.flush()?)
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
