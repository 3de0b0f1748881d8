//! Nine events from a fake SmartShape, through the relay, to a small program in Python; the relay is killed in between.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use smartshape_fake::FakeSmartShape;
use smartshape_webhook::EventKind;
use test_process::{Server, configure};

use super::{count, statuses};
use crate::runtimes::{self, Runtime};
use crate::{Result, cargo, random_secret};

/// 24 bytes in base64, for this demo alone.
const SIGNING_SECRET: &str = "whsec_YSBkZW1vIHNpZ25zIG5vdGhpbmcgZWxzZSE=";

struct Relay<'a> {
    binary: &'a Path,
    secret: String,
    inbox: PathBuf,
    target: SocketAddr,
}

impl Relay<'_> {
    fn start(&self, listen: &str) -> Result<Server> {
        let mut command = Command::new(self.binary);
        let to = format!("http://{}/events", self.target);
        command.args(["relay", "--listen", listen, "--to", &to, "--allow-private-addresses", "--inbox"]);
        command.arg(&self.inbox).env("SMARTSHAPE_RELAY_SIGNING_SECRET", SIGNING_SECRET);
        // While Python is down, it logs each failed attempt.
        Ok(Server::start(configure(&mut command, &self.secret), |_| ())?)
    }
}

fn start_target(python: &Runtime, listen: &str) -> Result<Server> {
    let mut command = python.command("target.py");
    command.env("SIGNING_SECRET", SIGNING_SECRET).env("LISTEN", listen);
    Ok(Server::start(&mut command, |_| ())?)
}

pub(super) fn run() -> Result {
    println!("Building the program `smartshape` (the first time takes a while) …");
    cargo::build_binaries(&["smartshape-webhook-cli"])?;
    let python = runtimes::python().map_err(|reason| format!("the demo needs Python: {reason}"))?;
    let folder = tempfile::tempdir()?;

    let mut target = start_target(&python, "127.0.0.1:0")?;
    println!("A program in Python listens on http://{}/events", target.address);
    println!(
        "  (tests/endpoints/python/target.py; it verifies each signature with the package `standardwebhooks`)"
    );
    let binary = cargo::binary("smartshape");
    let (inbox, target_address) = (folder.path().join("inbox.db"), target.address);
    let relay = Relay { binary: &binary, secret: random_secret()?, inbox, target: target_address };
    let mut running = relay.start("127.0.0.1:0")?;
    let callback = format!("http://{}/callback", running.address);
    println!("The relay listens on {callback}, stores in {}", relay.inbox.display());
    println!("  and passes on to that program");
    let runtime = tokio::runtime::Runtime::new()?;
    let fake = runtime.block_on(FakeSmartShape::start())?;
    for kind in EventKind::ALL {
        fake.register(kind, &callback, relay.secret.as_str());
    }
    println!("The fake SmartShape has a webhook for each of the nine events\n");

    let mut sent: Vec<(String, EventKind)> = Vec::new();
    let mut send = |kinds: &[EventKind]| -> Result {
        for kind in kinds {
            let outcome = runtime.block_on(fake.trigger(*kind)).pop().ok_or("no webhook is registered")?;
            println!("   {:<24}SmartShape got {}", kind.as_str(), statuses([&outcome]));
            if !outcome.accepted() {
                return Err(outcome.to_string().into());
            }
            sent.push((outcome.uuid, *kind));
        }
        Ok(())
    };
    let (first, second, third) = (&EventKind::ALL[..3], &EventKind::ALL[3..6], &EventKind::ALL[6..]);
    println!("1. All programs run. The relay acknowledges three events:");
    send(first)?;
    let mut verified = HashMap::new();
    receive(&target, first.len(), &mut verified)?;
    println!("   Python has verified all three");

    let address = target.address.to_string();
    target.kill()?;
    println!(
        "2. The program in Python is killed. The relay acknowledges three more, since it has stored them:"
    );
    send(second)?;

    let listen = running.address.to_string();
    running.kill()?;
    println!("3. The relay is killed too (SIGKILL). Both are started again, and three more events are sent:");
    running = relay.start(&listen)?;
    target = start_target(&python, &address)?;
    let started_at = Instant::now();
    send(third)?;
    receive(&target, sent.len(), &mut verified)?;
    println!(
        "   Python has verified the other six, {:.1} s after its start\n",
        started_at.elapsed().as_secs_f64()
    );

    let (_, status) = running.stop()?;
    runtime.block_on(fake.shutdown());
    println!("{:<24}{:>12}{:>20}", "event", "acknowledged", "verified in Python");
    for (uuid, kind) in &sent {
        println!("{:<24}{:>12}{:>18} x", kind.as_str(), "yes", verified.get(uuid).copied().unwrap_or(0));
    }
    if verified.values().any(|times| *times > 1) {
        println!(
            "An event comes again if its response had not been recorded when the relay was killed, with the same webhook-id."
        );
    }
    if !status.success() {
        return Err(format!("the relay ended with {status}").into());
    }
    println!(
        "\nNothing was lost. README.md shows under \"Without Rust: the relay\" how to feed a program of yours."
    );
    Ok(())
}

/// Reads what the target prints until it has had so many events.
fn receive(target: &Server, events: usize, verified: &mut HashMap<String, u32>) -> Result {
    while verified.len() < events {
        let missing =
            || format!("only {} of {events} events have reached the program in Python", verified.len());
        for uuid in count(&[target.next_line().ok_or_else(missing)?])?.into_keys() {
            *verified.entry(uuid).or_default() += 1;
        }
    }
    Ok(())
}
