//! `smartshape check`, on endpoints of which it is known what is wrong with them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;
use test_process::{Server, configure};

use crate::runtimes::{self, Runtime};
use crate::{Result, cargo};

const SECRET: &str = "a secret of the endpoints' check";

/// Maximum time to wait for each response.
const SECONDS: &str = "5";
/// Maximum time per response where many do not come at all, each of which takes as long.
const FEWER_SECONDS: &str = "3";

/// The programs that are checked, and the one that checks them.
const PROGRAMS: [&str; 4] = ["example-axum", "example-actix", "example-warp", "smartshape-webhook-cli"];

/// An endpoint, and the cases that do not pass there.
struct Endpoint {
    name: &'static str,
    command: Command,
    seconds: &'static str,
    expected: &'static [(&'static str, &'static str)],
}

const NODE: &[(&str, &str)] = &[
    ("accepts a token of prefix 2y", "warn"),
    ("rejects a request without a token", "warn"),
    // It sets a status, and does not end the response.
    ("rejects an empty token", "fail"),
    ("rejects malformed tokens", "fail"),
    ("rejects a token of another secret", "fail"),
    ("rejects a token with a character changed", "fail"),
    ("rejects tokens of no secret", "fail"),
    ("rejects costly tokens without hashing them", "fail"),
    ("rejects two different tokens", "warn"),
    ("rejects a bad token before the body comes", "warn"),
    // It does not look at what it acknowledges.
    ("rejects what is not JSON, and lives on", "fail"),
    ("rejects what is no event, and lives on", "warn"),
];

const PYTHON: &[(&str, &str)] = &[
    ("rejects a request without a token", "warn"),
    ("rejects an empty token", "warn"),
    // It responds 200.
    ("rejects malformed tokens", "fail"),
    ("rejects a token of another secret", "fail"),
    ("rejects a token with a character changed", "fail"),
    ("rejects tokens of no secret", "fail"),
    ("rejects two different tokens", "warn"),
    ("rejects a bad token before the body comes", "warn"),
    ("rejects costly tokens without hashing them", "fail"),
    ("rejects what is not JSON, and lives on", "warn"),
    ("rejects what is no event, and lives on", "warn"),
];

/// waitress reads the whole body before it calls the application.
const PYTHON_REPAIRED: &[(&str, &str)] = &[("rejects a bad token before the body comes", "warn")];

pub(crate) fn run() -> Result {
    let (node, python) = (runtimes::node(), runtimes::python());
    cargo::build_binaries(&PROGRAMS)?;
    check(node.as_ref().ok(), python.as_ref().ok())?;
    for reason in [node.err(), python.err()].into_iter().flatten() {
        println!("skipped: {reason}");
    }
    Ok(())
}

/// Needs the programs built.
pub(crate) fn check(node: Option<&Runtime>, python: Option<&Runtime>) -> Result {
    println!("\n`smartshape check` on endpoints in several languages:\n");
    let mut endpoints: Vec<Endpoint> = PROGRAMS
        .into_iter()
        .filter(|program| program.starts_with("example-"))
        .map(|name| Endpoint {
            name,
            command: Command::new(cargo::binary(name)),
            seconds: SECONDS,
            expected: &[],
        })
        .collect();
    for (runtime, more) in [
        (node, [("node/manual.js", NODE), ("node/repaired.js", &[])]),
        (python, [("python/manual.py", PYTHON), ("python/repaired.py", PYTHON_REPAIRED)]),
    ] {
        let Some(runtime) = runtime else { continue };
        endpoints.extend(more.map(|(name, expected)| {
            let file = name.split('/').next_back().unwrap_or(name);
            let seconds = if name == "node/manual.js" { FEWER_SECONDS } else { SECONDS };
            Endpoint { name, command: runtime.command(file), seconds, expected }
        }));
    }

    // Most of the time goes by in waiting for responses that do not come.
    let outcomes: Vec<(&str, Result<String, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = endpoints
            .into_iter()
            .map(|endpoint| {
                (endpoint.name, scope.spawn(|| check_endpoint(endpoint).map_err(|error| error.to_string())))
            })
            .collect();
        let joined = threads.into_iter().map(|(name, thread)| {
            (name, thread.join().unwrap_or_else(|_| Err("its thread panicked".to_owned())))
        });
        joined.collect()
    });
    println!("{:<20}{:<8}{:<6}as expected", "endpoint", "faults", "warn");
    let mut faults = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(counts) => println!("{name:<20}{counts}yes"),
            Err(error) => {
                println!("{name:<20}FAILED");
                faults.push(format!("{name}: {error}"));
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("`smartshape check` is not right:\n  {}", faults.join("\n  ")).into())
    }
}

/// How many cases failed and warned, where they are those that should.
fn check_endpoint(mut endpoint: Endpoint) -> Result<String> {
    // The faults that are provoked fill the logs of others.
    let server = Server::start(configure(&mut endpoint.command, SECRET), |_| ())?;
    let url = format!("http://{}/callback", server.address);
    let output = Command::new(cargo::binary("smartshape"))
        .args(["--json", "check", &url, "--timeout", endpoint.seconds])
        .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let is_destructive = line["reason"].as_str().is_some_and(|reason| reason.contains("--destructive"));
        if field("result") != "pass" && !is_destructive {
            found.insert(field("case"), (field("result"), line.to_string()));
        }
    }
    let expected: BTreeMap<_, _> = endpoint.expected.iter().copied().collect();
    let count = |result: &str| expected.values().filter(|expected| **expected == result).count();
    let code = i32::from(count("fail") > 0);
    let mut wrong = Vec::new();
    for (case, (result, line)) in &found {
        if expected.get(case.as_str()) != Some(&result.as_str()) {
            wrong.push(line.clone());
        }
    }
    wrong.extend(
        expected.keys().filter(|case| !found.contains_key(**case)).map(|case| format!("{case}: pass")),
    );
    if text.is_empty() || output.status.code() != Some(code) {
        wrong.push(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    if wrong.is_empty() {
        Ok(format!("{:<8}{:<6}", count("fail"), count("warn")))
    } else {
        Err(wrong.join("\n    ").into())
    }
}
