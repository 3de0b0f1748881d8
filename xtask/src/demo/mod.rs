//! Nine events from a fake SmartShape, through a real server, to a handler.

mod cluster;
mod relay;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use smartshape_fake::{FakeSmartShape, SenderSettings};
use smartshape_webhook::EventKind;

use crate::server::{Server, exchange, inbox_in};
use crate::{Result, cargo};

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
    let inbox = folder.as_ref().map(inbox_in);
    let settings: Vec<(&str, &str)> = inbox.iter().map(|path| ("INBOX", path.as_str())).collect();
    let mut server = Server::start(&binary, &secret, &settings)?;
    let address = server.address;
    let callback = format!("http://{address}/callback");
    println!("The example listens on {callback}");
    if let Some(inbox) = &inbox {
        println!("It stores what it receives in {inbox}");
    }

    let runtime = tokio::runtime::Runtime::new()?;
    let fake = runtime.block_on(FakeSmartShape::builder().sender(SenderSettings::default()).start())?;
    println!("The fake SmartShape listens on {}", fake.base_url());
    let api: SocketAddr = fake.base_url().trim_start_matches("http://").parse()?;
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
        let started_at = Instant::now();
        let copies = if kind == SENT_TWICE { 2 } else { 1 };
        let path = format!("/fake/events/{}?copies={copies}", kind.as_str());
        let report: Value = serde_json::from_str(&call(api, &path)?)?;
        sent.push((kind, report, started_at.elapsed()));
        if inbox.is_some() && kind == KILLED_AFTER {
            printed = server.kill()?;
            let listen = address.to_string();
            let again = [settings.as_slice(), &[("LISTEN", &listen)]].concat();
            server = Server::start(&binary, &secret, &again)?;
        }
    }
    runtime.block_on(fake.shutdown());
    if let Some(inbox) = &inbox {
        // Stored is acknowledged; the worker may still be at it.
        let mut missing: HashSet<&str> = sent.iter().flat_map(|(_, report, _)| uuids(report)).collect();
        for uuid in count(&printed)?.keys() {
            missing.remove(uuid.as_str());
        }
        while !missing.is_empty() {
            let line = server.next_line().ok_or_else(|| format!("{missing:?} stay unhandled in {inbox}"))?;
            for uuid in count(std::slice::from_ref(&line))?.keys() {
                missing.remove(uuid.as_str());
            }
            printed.push(line);
        }
    }
    let (rest, status) = server.stop()?;
    printed.extend(rest);
    let handled = count(&printed)?;

    let mut faults = Vec::new();
    for (kind, report, took) in &sent {
        let deliveries = report["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
        let attempts: Vec<&Value> =
            deliveries.iter().flat_map(|one| one["attempts"].as_array()).flatten().collect();
        let statuses: Vec<String> = attempts.iter().map(|attempt| status_of(attempt)).collect();
        let times =
            deliveries.first().and_then(|one| handled.get(one["uuid"].as_str()?)).copied().unwrap_or(0);
        let name = kind.as_str();
        let milliseconds = took.as_millis();
        println!(
            "{name:<24}{:>9}  {:<22}{times:>8}{milliseconds:>7} ms",
            attempts.len(),
            statuses.join(", ")
        );
        if deliveries.is_empty() || !deliveries.iter().all(|one| one["accepted"] == true) {
            faults.push(format!("{name} was not accepted: {report}"));
        }
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
        "\nTo make it yours, copy examples/{framework}/src/main.rs and put your code into `on_delivery`."
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
    let settings = [("INBOX", inbox_in(&folder)), ("CONSOLE_KEY", key.clone())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Server::start(&binary, &secret, &settings)?;
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

fn uuids(report: &Value) -> impl Iterator<Item = &str> {
    report["deliveries"].as_array().into_iter().flatten().filter_map(|one| one["uuid"].as_str())
}

fn status_of(attempt: &Value) -> String {
    attempt["status"].as_u64().map_or_else(|| "lost".to_owned(), |status| status.to_string())
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

fn random_secret() -> Result<String> {
    Ok(smartshape_webhook::Secret::generate()?.expose().to_owned())
}

/// Posts to the fake's own routes and returns the body of the response.
fn call(api: SocketAddr, path: &str) -> Result<String> {
    let request = format!("POST {path} HTTP/1.1\r\nHost: {api}\r\nContent-Length: 0\r\n\r\n");
    let response = exchange(api, &request)?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("{path} got {response}").into());
    }
    Ok(body.to_owned())
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
