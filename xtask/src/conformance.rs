//! The three example servers as processes, driven from outside, side by side.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use smartshape_fake::{EventPayload, Prefix, sample_text, token};
use smartshape_webhook::EventKind;

use crate::folder::Folder;
use crate::server::{Server, exchange, wait};
use crate::{Outcome, cargo};

const FRAMEWORKS: [&str; 3] = ["axum", "actix", "warp"];
const SECRET: &str = "a secret of the conformance run";

/// Many times what the servers' own limit is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running example with what is needed to talk to it.
struct Subject {
    server: Server,
    token: String,
}

type Check = Result<(), Box<dyn Error>>;
type Case = fn(&Subject) -> Check;

const CASES: [(&str, Case); 13] = [
    ("nine events, typed and printed", nine_events),
    ("exact success answer", success_answer),
    ("a duplicate is handled once", duplicate),
    ("no token: 401", |subject| rejected(subject, "POST", "", "{}", 401, "unauthorized")),
    ("wrong token: 401", wrong_token),
    ("costly token: 401 at once", costly_token),
    ("GET: 405, Allow: POST", |subject| rejected(subject, "GET", "", "", 405, "method not allowed")),
    ("too large, body withheld: 413", too_large),
    ("not JSON: 400", |subject| rejected_with_token(subject, "letmein", 400, "body is not JSON")),
    ("no envelope: 400", |subject| rejected_with_token(subject, "{}", 400, "body is not a SmartShape event")),
    ("unknown event is printed", unknown_event),
    ("a half-closed sender is answered", half_closed),
    ("neighbours: health, ready, 404", neighbours),
];

pub(crate) fn run() -> Outcome {
    println!("\nThe example servers side by side, as processes:");
    let packages: Vec<String> = FRAMEWORKS.iter().map(|framework| format!("example-{framework}")).collect();
    cargo::build_everything()?;
    let mut subjects = Vec::new();
    for package in &packages {
        let token = token(SECRET, 4, Prefix::TwoB)?;
        subjects.push(Subject { server: Server::start(&cargo::binary(package), SECRET)?, token });
    }

    println!("\n{:<36}{}", "case", FRAMEWORKS.map(|framework| format!("{framework:<8}")).concat());
    let mut faults = Vec::new();
    for (name, case) in CASES {
        show(name, subjects.iter().map(case), &mut faults);
    }
    if cfg!(target_os = "linux") {
        // At once, since it takes the servers' time limit.
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = subjects
                .iter()
                .map(|subject| subject.server.address)
                .map(|address| scope.spawn(move || slow_reader(address).map_err(|error| error.to_string())))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err("it panicked".into()))).collect()
        });
        show("a client that never reads is ended", results.into_iter().map(|one| Ok(one?)), &mut faults);
    }
    show("SIGTERM: ends with 0", subjects.into_iter().map(ends_cleanly), &mut faults);
    let unfinished = packages.iter().map(|package| finishes(&cargo::binary(package)));
    show("SIGTERM: a left one's work is done", unfinished, &mut faults);
    let durable = packages.iter().map(|package| durable(&cargo::binary(package)));
    show("INBOX: known to the next process", durable, &mut faults);
    show(
        "wrong settings: one line, exit 2",
        packages.iter().map(|p| wrong_settings(&cargo::binary(p))),
        &mut faults,
    );
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("conformance failed:\n  {}", faults.join("\n  ")).into())
    }
}

fn show(name: &str, results: impl Iterator<Item = Check>, faults: &mut Vec<String>) {
    let mut row = format!("{name:<36}");
    for (framework, result) in FRAMEWORKS.iter().zip(results) {
        row += &format!("{:<8}", if result.is_ok() { "ok" } else { "FAILED" });
        faults.extend(result.err().map(|error| format!("{name}, {framework}: {error}")));
    }
    println!("{row}");
}

fn request(subject: &Subject, method: &str, headers: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let (address, length) = (subject.server.address, body.len());
    let head = format!(
        "{method} /callback HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    exchange(address, format!("{head}{body}").as_bytes())
}

fn deliver(subject: &Subject, body: &str) -> Result<String, Box<dyn Error>> {
    request(subject, "POST", &format!("X-SmartShape-Token: {}\r\n", subject.token), body)
}

fn expect(answer: &str, status: u16, body: &str) -> Check {
    let (head, found) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let json = head.to_ascii_lowercase().contains("\r\ncontent-type: application/json\r\n")
        || head.to_ascii_lowercase().ends_with("\r\ncontent-type: application/json");
    if head.starts_with(&format!("HTTP/1.1 {status} ")) && json && found == body {
        Ok(())
    } else {
        Err(format!("expected {status} {body}, got {answer:?}").into())
    }
}

fn printed(subject: &Subject, uuid: &str) -> Check {
    let line = subject.server.next_line().ok_or("the handler printed nothing")?;
    let event: Value = serde_json::from_str(&line)?;
    if event["uuid"] == uuid { Ok(()) } else { Err(format!("the handler printed {line}").into()) }
}

fn nine_events(subject: &Subject) -> Check {
    for kind in EventKind::ALL {
        let sample: Value = serde_json::from_str(sample_text(kind))?;
        expect(&deliver(subject, sample_text(kind))?, 200, r#"{"success":true}"#)?;
        let line = subject.server.next_line().ok_or("the handler printed nothing")?;
        if serde_json::from_str::<Value>(&line)? != sample {
            return Err(format!("{kind} was printed as {line}").into());
        }
    }
    Ok(())
}

fn success_answer(subject: &Subject) -> Check {
    let event = EventPayload::sample(EventKind::FileUploaded);
    let body = String::from_utf8(event.to_body().to_vec())?;
    expect(&deliver(subject, &body)?, 200, r#"{"success":true}"#)?;
    printed(subject, event.uuid())
}

fn duplicate(subject: &Subject) -> Check {
    let (once, next) =
        (EventPayload::sample(EventKind::FileUploaded), EventPayload::sample(EventKind::FileUploaded));
    for event in [&once, &once, &next] {
        expect(&deliver(subject, std::str::from_utf8(&event.to_body())?)?, 200, r#"{"success":true}"#)?;
    }
    printed(subject, once.uuid())?;
    printed(subject, next.uuid())
}

fn rejected(subject: &Subject, method: &str, headers: &str, body: &str, status: u16, text: &str) -> Check {
    let answer = request(subject, method, headers, body)?;
    if status == 405 && !answer.to_ascii_lowercase().contains("\r\nallow: post\r\n") {
        return Err(format!("no Allow in {answer:?}").into());
    }
    expect(&answer, status, &format!(r#"{{"success":false,"error":"{text}"}}"#))
}

fn rejected_with_token(subject: &Subject, body: &str, status: u16, text: &str) -> Check {
    let header = format!("x-smartshape-token: {}\r\n", subject.token);
    rejected(subject, "POST", &header, body, status, text)
}

fn wrong_token(subject: &Subject) -> Check {
    let forged = token("another secret", 4, Prefix::TwoB)?;
    rejected(subject, "POST", &format!("x-smartshape-token: {forged}\r\n"), "{}", 401, "unauthorized")
}

fn costly_token(subject: &Subject) -> Check {
    let costly = subject.token.replacen("$04$", "$31$", 1);
    rejected(subject, "POST", &format!("x-smartshape-token: {costly}\r\n"), "{}", 401, "unauthorized")
}

fn too_large(subject: &Subject) -> Check {
    let address = subject.server.address;
    let head = format!(
        "POST /callback HTTP/1.1\r\nHost: {address}\r\nContent-Length: 52428801\r\nx-smartshape-token: {}\r\n\r\n",
        subject.token
    );
    let answer = exchange(address, head.as_bytes())?;
    expect(&answer, 413, r#"{"success":false,"error":"body too large"}"#)
}

fn unknown_event(subject: &Subject) -> Check {
    let body =
        r#"{"file":"f","event":"file_deleted","data":[1e2],"owner":"o","runTimestamp":1,"uuid":"u-unknown"}"#;
    expect(&deliver(subject, body)?, 200, r#"{"success":true}"#)?;
    let line = subject.server.next_line().ok_or("the handler printed nothing")?;
    if line == body { Ok(()) } else { Err(format!("printed {line}").into()) }
}

/// It has shut its side down, and waits for the response.
fn half_closed(subject: &Subject) -> Check {
    let event = EventPayload::sample(EventKind::FileUploaded);
    let (body, address) = (String::from_utf8(event.to_body().to_vec())?, subject.server.address);
    // A token that is not known yet, so that the response takes its time.
    let (token, length) = (token(SECRET, 8, Prefix::TwoB)?, body.len());
    let head = format!("POST /callback HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    let mut sender = TcpStream::connect(address)?;
    sender.write_all(format!("{head}x-smartshape-token: {token}\r\n\r\n{body}").as_bytes())?;
    sender.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    sender.read_to_string(&mut answer)?;
    expect(&answer, 200, r#"{"success":true}"#)?;
    printed(subject, event.uuid())
}

/// It sends requests and takes none of the responses: the server resets the connection.
fn slow_reader(address: SocketAddr) -> Check {
    let mut client = TcpStream::connect(address)?;
    client.set_write_timeout(Some(PATIENCE))?;
    let requests = format!("GET /nothing HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(1000);
    loop {
        match client.write_all(requests.as_bytes()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("the connection was still open".into());
            }
            Err(_) => return Ok(()),
        }
    }
}

fn neighbours(subject: &Subject) -> Check {
    let address = subject.server.address;
    for (path, status) in [("/health", 200), ("/ready", 200), ("/elsewhere", 404), ("/callback/more", 404)] {
        let answer = exchange(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        if !answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            return Err(format!("{path}: {answer:?}").into());
        }
    }
    Ok(())
}

fn ends_cleanly(subject: Subject) -> Check {
    let (unread, status) = subject.server.stop()?;
    if status.success() && unread.is_empty() { Ok(()) } else { Err(format!("{status}, {unread:?}").into()) }
}

/// SIGTERM while a handler is at work whose sender has left: it finishes, then the server ends.
fn finishes(binary: &Path) -> Check {
    let server = Server::start_unread(binary, SECRET)?;
    let address = server.address;
    // More than a pipe holds, so that printing it takes until somebody reads.
    let event = EventPayload::sample(EventKind::FileUploaded).with_data("x".repeat(1_000_000));
    let (body, token) = (String::from_utf8(event.to_body().to_vec())?, token(SECRET, 4, Prefix::TwoB)?);
    let length = body.len();
    let head = format!("POST /callback HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    let mut sender = TcpStream::connect(address)?;
    sender.write_all(format!("{head}x-smartshape-token: {token}\r\n\r\n{body}").as_bytes())?;
    server.output_began()?;
    server.terminate()?;
    // That it is not ready any more says that the signal has arrived.
    let ready = format!("GET /ready HTTP/1.1\r\nHost: {address}\r\n\r\n");
    while !exchange(address, ready.as_bytes())?.starts_with("HTTP/1.1 503 ") {
        std::thread::yield_now();
    }
    drop(sender);
    server.read_output();
    let (printed, status) = server.stop()?;
    match printed.as_slice() {
        [line] if line.as_bytes() == event.to_body() && status.success() => Ok(()),
        lines => Err(format!("{} lines were printed, {status}", lines.len()).into()),
    }
}

/// With an inbox, what was handled is known to the next process.
fn durable(binary: &Path) -> Check {
    let folder = Folder::new()?;
    let inbox = folder.inbox();
    let start = || -> Result<Subject, Box<dyn Error>> {
        let server = Server::start_with(binary, SECRET, &[("INBOX", &inbox)])?;
        Ok(Subject { server, token: token(SECRET, 4, Prefix::TwoB)? })
    };
    let events =
        [EventPayload::sample(EventKind::FileUploaded), EventPayload::sample(EventKind::FileUploaded)];
    let bodies = events.each_ref().map(|event| String::from_utf8_lossy(&event.to_body()).into_owned());
    let success = r#"{"success":true}"#;

    let subject = start()?;
    neighbours(&subject)?;
    expect(&deliver(&subject, &bodies[0])?, 200, success)?;
    printed(&subject, events[0].uuid())?;
    ends_cleanly(subject)?;

    let subject = start()?;
    for body in &bodies {
        expect(&deliver(&subject, body)?, 200, success)?;
    }
    printed(&subject, events[1].uuid())?;
    ends_cleanly(subject)
}

fn wrong_settings(binary: &Path) -> Check {
    let secret = ("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    for settings in [
        vec![],
        vec![("SMARTSHAPE_WEBHOOK_SECRET", "")],
        vec![("SMARTSHAPE_WEBHOOK_SECRET", "replace-me-with-a-secret-of-your-own")],
        vec![("SMARTSHAPE_WEBHOOK_SECRET_FILE", "/does/not/exist")],
        vec![secret, ("LISTEN", "nowhere")],
        vec![secret, ("LISTEN", "127.0.0.1:0"), ("INBOX", "/does/not/exist/inbox.db")],
    ] {
        let mut child = Command::new(binary)
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET")
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let status = wait(&mut child)?;
        let output = child.wait_with_output()?;
        let lines = String::from_utf8_lossy(&output.stderr).lines().count();
        if status.code() != Some(2) || lines != 1 || !output.stdout.is_empty() {
            return Err(format!("{settings:?}: {status}, {output:?}").into());
        }
    }
    Ok(())
}
