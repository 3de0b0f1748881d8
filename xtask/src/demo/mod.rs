//! Nine events from a fake SmartShape, through a real server, to a handler.

mod cluster;
mod relay;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use smartshape_fake::{DeliveryOutcome, EventPayload, FakeSmartShape};
use smartshape_webhook::EventKind;
use test_process::{Server, configure, show};

use crate::{Result, cargo, random_secret};

const FRAMEWORKS: [&str; 3] = ["axum", "actix", "warp"];
/// This event's first response is lost on the way back, so that it is sent again.
const RESPONSE_LOST: EventKind = EventKind::FileOptimized;
/// This event is sent twice at the same time.
const SENT_TWICE: EventKind = EventKind::AnnotationCreated;

/// In the durable demo the server is killed after this event.
const KILLED_AFTER: EventKind = EventKind::AnnotationUpdated;

pub(crate) fn run(choice: &[&str]) -> Result {
    match choice {
        ["--cluster"] => return cluster::run(),
        ["--relay"] => return relay::run(),
        _ => {}
    }
    let framework = choice.iter().find(|word| !word.starts_with("--")).copied().unwrap_or("axum");
    if !FRAMEWORKS.contains(&framework) {
        return Err(format!("no example for {framework:?}; there are {}", FRAMEWORKS.join(", ")).into());
    }
    if choice.contains(&"--ui") {
        return show_console(framework);
    }
    let folder = choice.contains(&"--inbox").then(tempfile::tempdir).transpose()?;
    println!("Building the example server for {framework} (the first time takes a while) …");
    let binary = cargo::build_example(framework, if folder.is_some() { &["sqlite"] } else { &[] })?;

    let secret = random_secret()?;
    let inbox = folder.as_ref().map(|folder| folder.path().join("inbox.db"));
    let command = || {
        let mut command = Command::new(&binary);
        configure(&mut command, &secret).envs(inbox.iter().map(|path| ("INBOX", path)));
        command
    };
    let mut server = Server::start(&mut command(), show)?;
    let address = server.address;
    let callback = format!("http://{address}/callback");
    println!("The example listens on {callback}");
    if let Some(inbox) = &inbox {
        println!("It stores what it receives in {}", inbox.display());
    }

    let runtime = tokio::runtime::Runtime::new()?;
    let fake = runtime.block_on(FakeSmartShape::start())?;
    println!("The fake SmartShape listens on {}", fake.base_url());
    let lossy = lossy_gateway(address)?;
    for kind in EventKind::ALL {
        let url = if kind == RESPONSE_LOST { format!("http://{lossy}/callback") } else { callback.clone() };
        fake.register(kind, url, secret.as_str());
    }
    println!("Registered a webhook for each of the nine events. Sending …\n");

    println!("{:<24}{:>9}  {:<22}{:>8}{:>10}", "event", "attempts", "responses", "handled", "time");
    let mut sent = Vec::new();
    let mut printed = Vec::new();
    for kind in EventKind::ALL {
        let (event, started_at) = (EventPayload::sample(kind), Instant::now());
        let outcomes = runtime.block_on(async {
            if kind != SENT_TWICE {
                return fake.send(&event).await;
            }
            let (first, second) = tokio::join!(fake.send(&event), fake.send(&event));
            [first, second].concat()
        });
        sent.push((kind, outcomes, started_at.elapsed()));
        if inbox.is_some() && kind == KILLED_AFTER {
            printed = server.kill()?;
            server = Server::start(command().env("LISTEN", address.to_string()), show)?;
        }
    }
    runtime.block_on(fake.shutdown());
    if let Some(inbox) = &inbox {
        // Stored is acknowledged; the worker may still be at it.
        let outcomes = || sent.iter().flat_map(|(_, outcomes, _)| outcomes);
        loop {
            let handled = count(&printed)?;
            let missing: Vec<_> =
                outcomes().map(|outcome| &outcome.uuid).filter(|uuid| !handled.contains_key(*uuid)).collect();
            if missing.is_empty() {
                break;
            }
            let unhandled = || format!("{missing:?} stay unhandled in {}", inbox.display());
            printed.push(server.next_line().ok_or_else(unhandled)?);
        }
    }
    let (rest, status) = server.stop()?;
    printed.extend(rest);
    let handled = count(&printed)?;

    let mut faults = Vec::new();
    for (kind, outcomes, took) in &sent {
        let attempts: usize = outcomes.iter().map(|outcome| outcome.attempts.len()).sum();
        let times = outcomes.first().and_then(|outcome| handled.get(&outcome.uuid)).copied().unwrap_or(0);
        let (name, statuses, milliseconds) = (kind.as_str(), statuses(outcomes), took.as_millis());
        println!("{name:<24}{attempts:>9}  {statuses:<22}{times:>8}{milliseconds:>7} ms");
        faults.extend(outcomes.iter().filter(|outcome| !outcome.accepted()).map(DeliveryOutcome::to_string));
        // An attempt that the kill interrupted is made again.
        if times != 1 && !(inbox.is_some() && times == 2 && *kind <= KILLED_AFTER) {
            faults.push(format!("{name} was handled {times} times"));
        }
    }
    println!("\n{RESPONSE_LOST}: the first response got lost on the way back, so it was sent again.");
    println!("{SENT_TWICE}: two copies were sent at the same time.");
    if !status.success() {
        faults.push(format!("the server ended with {status}"));
    }
    if !faults.is_empty() {
        return Err(faults.join("; ").into());
    }
    if inbox.is_some() {
        println!("{KILLED_AFTER}: after it the server was killed and started again on the same inbox.");
        println!("All nine events were handled, and the server ended cleanly.");
    } else {
        println!("All nine events were handled exactly once, and the server ended cleanly.");
    }
    println!(
        "\nTo make it yours, copy examples/{framework}/src/main.rs and put your handler in the place of `print_event`."
    );
    Ok(())
}

/// The console of a real server's inbox, and nine events that arrive on it, until ^C.
fn show_console(framework: &str) -> Result {
    println!("Building the example server for {framework} (the first time takes a while) …");
    let binary = cargo::build_example(framework, &["sqlite"])?;
    let (folder, secret, key) = (tempfile::tempdir()?, random_secret()?, random_secret()?);
    let runtime = tokio::runtime::Runtime::new()?;
    // From now on, so that the folder is deleted in any case.
    let stop = runtime.spawn(tokio::signal::ctrl_c());
    let mut command = Command::new(&binary);
    configure(&mut command, &secret).env("INBOX", folder.path().join("inbox.db")).env("CONSOLE_KEY", &key);
    let server = Server::start(&mut command, show)?;
    let address = server.address;
    println!("\nOpen http://{address}/console?key={key}\n");
    println!(
        "The link works in the first browser that opens it. A fake SmartShape sends an event each second:"
    );
    runtime.block_on(async {
        let fake = FakeSmartShape::start().await.map_err(|error| error.to_string())?;
        for kind in EventKind::ALL {
            fake.register(kind, format!("http://{address}/callback"), secret.as_str());
            for outcome in fake.trigger(kind).await {
                println!("  {outcome}");
                if !outcome.accepted() && !stop.is_finished() {
                    return Err(format!("{kind} was not accepted"));
                }
            }
            if stop.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        fake.shutdown().await;
        Ok(())
    })?;
    println!("\nThe console shows all that was sent. ^C ends it.");
    runtime.block_on(stop)??;
    // ^C in a terminal has reached the server, too.
    let (_, status) = server.stop()?;
    if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
}

fn statuses<'a>(outcomes: impl IntoIterator<Item = &'a DeliveryOutcome>) -> String {
    let attempts = outcomes.into_iter().flat_map(|outcome| &outcome.attempts);
    let statuses: Vec<_> = attempts
        .map(|attempt| attempt.status.map_or_else(|| "lost".to_owned(), |status| status.to_string()))
        .collect();
    statuses.join(", ")
}

/// How often each uuid was printed by the handler.
fn count(printed: &[String]) -> Result<HashMap<String, u32>, serde_json::Error> {
    let mut handled = HashMap::new();
    for line in printed {
        let event: Value = serde_json::from_str(line)?;
        *handled.entry(event["uuid"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(handled)
}

/// Passes connections on to `server`, but keeps the first one's response to itself.
fn lossy_gateway(server: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            // A connection that breaks here is one more lost response.
            let _ = client.and_then(|client| pass(client, server, number == 0));
        }
    });
    Ok(address)
}

fn pass(mut client: TcpStream, server: SocketAddr, lose_response: bool) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut chunk = [0; 4096];
    loop {
        let count = upstream.read(&mut chunk)?;
        if count == 0 || lose_response {
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&chunk[..count])?;
    }
}
