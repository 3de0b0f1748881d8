//! Calls `torture`, with all that it needs, and crashes the database when it asks for that.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::postgres::{self, Provided};
use crate::{Result, cargo, runtimes, tools};

const ROUNDS: &str = "300";
/// Number of rounds, each of which kills the relay, its target and its store once.
const RELAY_ROUNDS: &str = "100";
const READS_A_ROUND: u32 = 20;
/// Number of rounds for which each kind of failover happens once.
const ROUNDS_OF_FAILOVER: u32 = 30;
/// For so many rounds, a leader of NATS is killed once: an election takes seconds.
const ROUNDS_A_LEADER: u32 = 15;

/// `words` are the number of rounds, an engine or `relay`, and `seed=N`, each or none of them.
pub(crate) fn run(words: &[&str]) -> Result {
    let rounds = if words.contains(&"relay") { RELAY_ROUNDS } else { ROUNDS };
    let (mut rounds, mut others) = (rounds, Vec::new());
    for word in words {
        match *word {
            "sqlite" | "postgres" | "relay" => others.push(*word),
            _ if word.starts_with("seed=") => others.push(*word),
            _ if word.parse::<u32>().is_ok() => rounds = word,
            _ => {
                return Err(
                    format!("{word:?} is no number of rounds, sqlite, postgres, relay, or seed=N").into()
                );
            }
        }
    }
    let mut postgres = if others.contains(&"sqlite") {
        None
    } else {
        Some(postgres::provide().map_err(|reason| format!("no PostgreSQL: {reason}"))?)
    };
    let strace = tools::STRACE.provide();
    if let Err(reason) = &strace {
        println!("No system calls are traced, because {reason}");
    }
    println!("Building the server and the program that kills it (the first time takes a while) …");
    let server = if others.contains(&"relay") { cargo::COMMAND_LINE } else { "example-axum" };
    cargo::build_binaries(&[server, "torture"])?;
    call(rounds, &others, postgres.as_mut(), strace.as_deref().ok())?;
    if others.contains(&"relay") {
        return Ok(());
    }
    if let Some(server) = postgres {
        run_failover_tests(rounds, &server)?;
    }
    if !others.contains(&"postgres") {
        run_twice_test(rounds)?;
    }
    run_outlet_test(rounds)
}

/// The inbox's own tests of a primary that fails.
fn run_failover_tests(rounds: &str, server: &Provided) -> Result {
    let rounds = (rounds.parse::<u32>()? / ROUNDS_OF_FAILOVER).max(1).to_string();
    let mut environment = server.environment();
    environment.push(("FAILOVER_ROUNDS", rounds));
    let tests = ["--features", "postgres", "--lib", "it::failover::", "--", "--nocapture"];
    cargo::test("smartshape-webhook-inbox", &tests, &environment)
}

/// The outlet's own test of a cluster of NATS whose servers are killed.
fn run_outlet_test(rounds: &str) -> Result {
    let kills = (rounds.parse::<u32>()? / ROUNDS_A_LEADER).to_string();
    let [server, stream] = runtimes::python()?.nats();
    let tests = ["--test", "it", "cluster::", "--", "--nocapture"];
    cargo::test("smartshape-webhook-outlet", &tests, &[server, stream, ("NATS_KILLS", kills)])
}

/// The inbox's own test of two openings in one process beside another one that reads and backs up, for some minutes.
fn run_twice_test(rounds: &str) -> Result {
    let sqlite = tools::SQLITE.provide().map_err(|reason| format!("no sqlite3: {reason}"))?;
    let reads = rounds.parse::<u32>()?.saturating_mul(READS_A_ROUND).to_string();
    let environment = [("TWICE_READS", reads), ("SQLITE3", sqlite.to_string_lossy().into_owned())];
    cargo::test("smartshape-webhook-inbox", &["--lib", "it::twice::"], &environment)
}

/// Calls `torture`, which must be built, as must be the server that it kills.
pub(crate) fn call(
    rounds: &str,
    others: &[&str],
    mut postgres: Option<&mut Provided>,
    strace: Option<&Path>,
) -> Result {
    let server = if others.contains(&"relay") { "smartshape" } else { "example-axum" };
    let torture = cargo::binary("torture");
    let mut command = Command::new(&torture);
    command.arg(cargo::binary(server)).arg(rounds).args(others);
    command.env_remove("STRACE").envs(strace.map(|path| ("STRACE", path)));
    match postgres.as_deref() {
        Some(server) => {
            command.env("DATABASE_URL", server.url());
            if server.is_external() {
                println!("The database of DATABASE_URL is not killed.");
            } else {
                command.arg("database-crashes");
            }
        }
        None if others.is_empty() => {
            command.arg("sqlite");
        }
        None => {}
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{} did not start: {error}", torture.display()))?;
    let served = serve(child.stdin.take(), child.stdout.take(), |request| match postgres.as_deref_mut() {
        Some(server) => server.fulfil(request),
        None => Err("there is no database".into()),
    });
    let status = child.wait()?;
    served?;
    if status.success() { Ok(()) } else { Err("the torture test failed; see above".into()) }
}

/// Shows what the program prints. A line that begins with `!` is a request.
fn serve(
    input: Option<impl std::io::Write>,
    output: Option<impl std::io::Read>,
    mut fulfil: impl FnMut(&str) -> Result<String, String>,
) -> Result {
    let (Some(mut input), Some(output)) = (input, output) else { return Err("no pipes".into()) };
    for line in BufReader::new(output).lines() {
        let line = line?;
        let Some(request) = line.strip_prefix('!') else {
            println!("{line}");
            continue;
        };
        let response = match fulfil(request) {
            Ok(response) => format!("ok {response}"),
            Err(reason) => format!("failed: {reason}"),
        };
        // A program that has ended reads no response; its exit status says why.
        let _ = writeln!(input, "{response}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::serve;

    #[test]
    fn requests_get_responses_in_order() {
        let printed = b"round 1\n!restart-database\n!fly\n";
        let mut responses = Vec::new();
        let fulfil = |request: &str| match request {
            "restart-database" => Ok("done".to_owned()),
            other => Err(format!("cannot {other}")),
        };
        serve(Some(&mut responses), Some(printed.as_slice()), fulfil).unwrap();
        assert_eq!(String::from_utf8(responses).unwrap(), "ok done\nfailed: cannot fly\n");
    }
}
