//! Nine events from a fake SmartShape, through an inbox and three NATS servers, to a program in Python.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use smartshape_fake::FakeSmartShape;
use smartshape_webhook::EventKind;
use test_nats::Servers;
use test_process::{Server, configure, show};

use crate::runtimes::{self, Runtime};
use crate::{Result, cargo, random_secret};

const STREAM: &str = "EVENTS";
const KILLED_AFTER: EventKind = EventKind::AnnotationUpdated;
/// An election takes seconds.
const TIMEOUT: Duration = Duration::from_secs(90);

pub(super) fn run() -> Result {
    println!("Building the example that passes events on (the first time takes a while) …");
    cargo::build_binaries(&["example-uses"])?;
    let python = runtimes::python().map_err(|reason| format!("no NATS server: {reason}"))?;
    let mut servers = Servers::start(&python.nats_server(), 3, "")?;
    let urls = servers.urls();
    stream(&python, "create", &urls)?;
    println!("Three NATS servers with the stream {STREAM}: {urls}");

    let (folder, secret) = (tempfile::tempdir()?, random_secret()?);
    let mut command = Command::new(cargo::binary("forward"));
    command.env("NATS_URL", &urls).env("STREAM", STREAM);
    let inbox = folder.path().join("inbox.db");
    let server = Server::start(configure(&mut command, &secret).env("INBOX", inbox), show)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let fake = runtime.block_on(FakeSmartShape::start())?;
    for kind in EventKind::ALL {
        fake.register(kind, format!("http://{}/callback", server.address), &*secret);
    }
    println!("The fake SmartShape sends nine events …");
    for kind in EventKind::ALL {
        runtime.block_on(fake.trigger(kind));
        if kind == KILLED_AFTER {
            let leader = servers.leader(STREAM)?;
            servers.kill(leader)?;
            println!("{kind}: after it the leader of the stream, server {leader}, was killed.");
        }
    }
    let started_at = Instant::now();
    let mut counts = BTreeMap::new();
    while counts.len() < EventKind::ALL.len() {
        if started_at.elapsed() > TIMEOUT {
            return Err(format!("the stream has {counts:?} only").into());
        }
        // Fails while there is no leader.
        let read = stream(&python, "read", &urls).unwrap_or_default();
        counts.clear();
        for event in read.lines().filter_map(|line| line.split(' ').nth(1)) {
            *counts.entry(event.to_owned()).or_insert(0) += 1;
        }
    }
    runtime.block_on(fake.shutdown());
    server.kill()?;

    println!("\n{:<24}{:>14}", "event", "in the stream");
    for kind in EventKind::ALL {
        println!("{:<24}{:>14}", kind.as_str(), counts.get(kind.as_str()).copied().unwrap_or(0));
    }
    if counts.len() > EventKind::ALL.len() || counts.values().any(|count| *count != 1) {
        return Err("an event is in the stream twice, or is none of the nine".into());
    }
    println!("\nAll nine events are in the stream once, as a consumer in Python reads them.");
    println!("To make it yours, copy examples/uses/src/bin/forward.rs and tests/endpoints/python/stream.py.");
    Ok(())
}

/// Runs `stream.py`, and returns what it printed.
fn stream(python: &Runtime, command: &str, urls: &str) -> Result<String> {
    let output = python.command("stream.py").args([command, urls, STREAM]).output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(format!("stream.py {command} failed: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
