//! How many events a second `smartshape webhook listen` takes to a pipe on this machine.

use std::error::Error;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;
use smartshape_fake::{EventPayload, FakeSmartShape, Prefix};
use smartshape_webhook::{EventKind, Secret};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::folder::Folder;
use crate::{Outcome, cargo};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;

pub(crate) fn run() -> Outcome {
    let program = cargo::build_release("smartshape-webhook-cli")?;
    let program = program.with_file_name(format!("smartshape{}", std::env::consts::EXE_SUFFIX));
    let small = || EventPayload::sample(EventKind::FileUploaded);
    let large = || small().with_data(json!({"name": "x".repeat(24 * 1024)}));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "Events a second over {CONNECTIONS} connections, acknowledged after the flush to a pipe; {ROUNDS} rounds:"
    );
    for (what, event, events, more) in [
        ("the manual's sample", &small as &dyn Fn() -> EventPayload, 20_000, &[][..]),
        ("the same, with --record", &small, 20_000, &["--record", "recording.jsonl"]),
        ("24 KB", &large, 5_000, &[]),
    ] {
        let mut figures = Vec::new();
        for _ in 0..ROUNDS {
            let bodies: Vec<_> = (0..events).map(|_| event().to_body().to_vec()).collect();
            figures.push(runtime.block_on(round(&program, bodies, more))?);
        }
        figures.sort_unstable();
        println!("  {what}: {figures:?}");
    }
    Ok(())
}

async fn round(program: &Path, bodies: Vec<Vec<u8>>, more: &[&str]) -> Result<u64, Box<dyn Error>> {
    let (folder, fake) = (Folder::new()?, FakeSmartShape::start().await?);
    let secret = Secret::generate()?;
    let mut listener = Command::new(program)
        .args(["webhook", "listen", "--event", "file_uploaded"])
        .args(more)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("SMARTSHAPE_API_URL", fake.base_url())
        .env("SMARTSHAPE_TOKEN", fake.bearer_token())
        .env("SMARTSHAPE_WEBHOOK_SECRET", secret.expose())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output: Stdio = listener.stdout.take().ok_or("no output")?.try_into()?;
    let counter = Command::new("wc").arg("-l").stdin(output).stdout(Stdio::piped()).spawn()?;
    until_registered(&mut listener).await?;

    let url = fake.webhooks().first().ok_or("nothing is registered")?.url.clone();
    let (address, path) = url.trim_start_matches("http://").split_once('/').ok_or("no path")?;
    let token = smartshape_fake::token(secret.expose(), 10, Prefix::TwoB)?;
    let head = format!("POST /{path} HTTP/1.1\r\nhost: x\r\nx-smartshape-token: {token}\r\ncontent-length: ");
    let events = bodies.len();
    let mut shares: Vec<Vec<Vec<u8>>> = vec![Vec::new(); CONNECTIONS];
    for (number, body) in bodies.into_iter().enumerate() {
        let mut request = format!("{head}{}\r\n\r\n", body.len()).into_bytes();
        request.extend(body);
        shares[number % CONNECTIONS].push(request);
    }
    let begun = Instant::now();
    let mut sending = tokio::task::JoinSet::new();
    for requests in shares {
        sending.spawn(send(address.to_owned(), requests));
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let took = begun.elapsed();
    let id = listener.id().ok_or("it ended")?.to_string();
    Command::new("kill").args(["-INT", &id]).status().await?;
    listener.wait().await?;
    let counted = String::from_utf8(counter.wait_with_output().await?.stdout)?;
    if counted.trim() != events.to_string() {
        return Err(format!("{events} events were acknowledged, and {} lines came", counted.trim()).into());
    }
    Ok((events as f64 / took.as_secs_f64()) as u64)
}

async fn until_registered(listener: &mut Child) -> Outcome {
    let mut lines = BufReader::new(listener.stderr.take().ok_or("no standard error")?).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await? {
        if line.contains("registered ") {
            // Read on, so that it never waits for that.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(());
        }
        said.push(line);
    }
    Err(format!("it ended before it had registered: {}", said.join("; ")).into())
}

/// Sends one after the other over a connection, each once the one before was accepted.
async fn send(address: String, requests: Vec<Vec<u8>>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::new();
    for request in requests {
        stream.write_all(&request).await?;
        answer.clear();
        while !answer.ends_with(b"}") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
    }
    Ok(())
}
