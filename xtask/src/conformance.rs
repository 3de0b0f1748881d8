//! The conformance table, and what the example servers promise beside it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use smartshape_fake::{EventPayload, Prefix, sample_text, token};
use smartshape_webhook::EventKind;

use crate::server::{Server, exchange, inbox_in, terminate, wait};
use crate::{Result, cargo, endpoints};

const FRAMEWORKS: [&str; 3] = ["axum", "actix", "warp"];
const SECRET: &str = "a secret of the conformance run";

/// Far longer than the servers' own time limits.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running example with what is needed to talk to it.
struct Example {
    server: Server,
    token: String,
}

type Case = fn(&Path) -> Result;

const LINUX_ONLY: &str = "a client that never reads is ended";

const CASES: [(&str, Case); 13] = [
    ("each event is printed once", events_are_printed),
    ("full disk: no line joins another", full_disk),
    ("a half-closed sender is served", half_closed),
    ("neighbours: health, ready, 404", other_routes_respond),
    ("HTTP/2, which has no limits here", only_http1),
    ("malformed requests: not logged", malformed_request),
    (LINUX_ONLY, slow_reader),
    ("SIGTERM: ends with 0", ends_cleanly),
    ("SIGTERM: running handlers finish", finishes),
    ("SIGTERM: ends, though nobody reads", ends_unread),
    ("INBOX: known to the next process", durable),
    ("CONSOLE_PASSWORD: who sees the page", console),
    ("wrong settings: one line, exit 2", wrong_settings),
];

/// The conformance table over the eight mounts, the example servers' own contract, and `smartshape check`, which is a
/// fake sender, on the example servers and on endpoints in other languages.
pub(crate) fn run() -> Result {
    cargo::run(&["test", "--locked", "--package", "conformance"], &[])?;
    examples()?;
    endpoints::run()
}

/// What the example servers promise beside the receiver: processes, settings and signals.
pub(crate) fn examples() -> Result {
    println!("\nThe example servers as processes:");
    cargo::build_binaries(&endpoints::PROGRAMS)?;
    let binaries = FRAMEWORKS.map(|framework| cargo::binary(&format!("example-{framework}")));
    println!("\n{:<36}{}", "case", FRAMEWORKS.map(|framework| format!("{framework:<8}")).concat());
    let mut faults = Vec::new();
    for (name, case) in CASES {
        if name == LINUX_ONLY && cfg!(not(target_os = "linux")) {
            continue;
        }
        // At once, since a case may take the servers' time limit.
        let results = std::thread::scope(|scope| {
            let run = |binary| scope.spawn(move || case(binary).map_err(|error| error.to_string()));
            let threads = binaries.each_ref().map(|binary| run(binary.as_path()));
            threads.map(|thread| thread.join().unwrap_or(Err("it panicked".into())))
        });
        let shown = results.each_ref().map(|result| if result.is_ok() { "ok" } else { "FAILED" });
        println!("{name:<36}{}", shown.map(|result| format!("{result:<8}")).concat());
        for (framework, result) in FRAMEWORKS.iter().zip(results) {
            faults.extend(result.err().map(|error| format!("{name}, {framework}: {error}")));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("conformance failed:\n  {}", faults.join("\n  ")).into())
    }
}

impl Example {
    fn start(binary: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let server = Server::start(binary, SECRET, settings)?;
        Ok(Self { server, token: token(SECRET, 4, Prefix::TwoB)? })
    }

    /// Stops it: it ends with 0, and has printed nothing more.
    fn stop(self) -> Result {
        let (unread, status) = self.server.stop()?;
        if status.success() && unread.is_empty() {
            Ok(())
        } else {
            Err(format!("{status}, {unread:?}").into())
        }
    }
}

fn request(example: &Example, token: &str, body: &str) -> String {
    let (address, length) = (example.server.address, body.len());
    let head = format!("POST /callback HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    format!("{head}X-SmartShape-Token: {token}\r\n\r\n{body}")
}

fn deliver(example: &Example, body: &str) -> Result {
    let request = request(example, &example.token, body);
    accepted(&exchange(example.server.address, &request)?)
}

fn accepted(response: &str) -> Result {
    let is_success = response.starts_with("HTTP/1.1 200 ") && response.ends_with(r#"{"success":true}"#);
    if is_success { Ok(()) } else { Err(format!("expected a success, got {response:?}").into()) }
}

fn printed(example: &Example, body: &str) -> Result {
    let line = example.server.next_line().ok_or("the handler printed nothing")?;
    let (line, expected): (Value, Value) = (serde_json::from_str(&line)?, serde_json::from_str(body)?);
    if line == expected { Ok(()) } else { Err(format!("the handler printed {line}").into()) }
}

/// The nine events and one of an unknown kind, each delivered twice and printed once.
fn events_are_printed(binary: &Path) -> Result {
    let example = Example::start(binary, &[])?;
    let unknown =
        r#"{"file":"f","event":"file_deleted","data":[1e2],"owner":"o","runTimestamp":1,"uuid":"u-unknown"}"#;
    for body in EventKind::ALL.map(sample_text).into_iter().chain([unknown]) {
        deliver(&example, body)?;
        deliver(&example, body)?;
        printed(&example, body)?;
    }
    example.stop()
}

/// Output goes to a file whose length is limited, as if its disk were full, until the file is emptied.
fn full_disk(binary: &Path) -> Result {
    for length in [300, 2000] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("events.jsonl");
        let mut command = Command::new("sh");
        let script = r#"trap "" XFSZ; ulimit -f 16; exec "$0" >>"$1""#;
        command.args(["-c", script]).arg(binary).arg(&path);
        let server = Server::start_command(command, SECRET, &[])?;
        let example = Example { server, token: token(SECRET, 4, Prefix::TwoB)? };
        let events = [(); 100]
            .map(|()| sample(&EventPayload::sample(EventKind::FileUploaded).with_data("x".repeat(length))));
        let written = events.iter().take_while(|event| deliver(&example, event).is_ok()).count();
        let mut text = std::fs::read_to_string(&path)?;
        std::fs::File::options().write(true).open(&path)?.set_len(0)?;
        // The sender tries again.
        for event in events.iter().skip(written).take(2) {
            deliver(&example, event)?;
        }
        example.stop()?;
        text += &std::fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        for event in &events[..written + 2] {
            let count = lines.iter().filter(|line| *line == event).count();
            if count != 1 {
                return Err(format!("an event of {} bytes was printed {count} times", event.len()).into());
            }
        }
    }
    Ok(())
}

/// A sender that has shut down its writing side still gets the response.
fn half_closed(binary: &Path) -> Result {
    let example = Example::start(binary, &[])?;
    let body = sample(&EventPayload::sample(EventKind::FileUploaded));
    // A token that is not known yet, so that the response takes its time.
    let request = request(&example, &token(SECRET, 8, Prefix::TwoB)?, &body);
    let mut sender = TcpStream::connect(example.server.address)?;
    sender.write_all(request.as_bytes())?;
    sender.shutdown(Shutdown::Write)?;
    let mut response = String::new();
    sender.read_to_string(&mut response)?;
    accepted(&response)?;
    printed(&example, &body)?;
    example.stop()
}

fn sample(event: &EventPayload) -> String {
    String::from_utf8_lossy(&event.to_body()).into_owned()
}

/// The servers limit heads and idle connections of HTTP/1 only, so they speak nothing else.
fn only_http1(binary: &Path) -> Result {
    let example = Example::start(binary, &[])?;
    let mut client = TcpStream::connect(example.server.address)?;
    client.set_read_timeout(Some(TIMEOUT))?;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    let mut first = [0];
    match client.read(&mut first) {
        // HTTP/1 says that it does not understand, or nothing.
        Ok(0) => {}
        Ok(_) if first == *b"H" => {}
        Err(error) if !is_timeout(&error) => {}
        _ => return Err("it was responded to, or the connection was still open".into()),
    }
    example.stop()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Anybody can send them, so they must not fill the log.
fn malformed_request(binary: &Path) -> Result {
    let mut child = Command::new(binary)
        .env("LISTEN", "127.0.0.1:0")
        .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
        .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or("it has no standard error")?);
    let mut text = String::new();
    log.read_line(&mut text)?;
    let address =
        text.trim_end().strip_prefix("listening on http://").ok_or("it does not listen")?.parse()?;
    let response = exchange(address, "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n")?;
    terminate(&child)?;
    wait(&mut child)?;
    log.read_to_string(&mut text)?;
    if response.starts_with("HTTP/1.1 400 ") && !text.contains("WARN") && !text.contains("ERROR") {
        Ok(())
    } else {
        Err(format!("{response:?} was logged: {text}").into())
    }
}

/// A client that sends requests and reads no response is disconnected.
fn slow_reader(binary: &Path) -> Result {
    let example = Example::start(binary, &[])?;
    let address = example.server.address;
    let mut client = TcpStream::connect(address)?;
    client.set_write_timeout(Some(TIMEOUT))?;
    let requests = format!("GET /nothing HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(1000);
    loop {
        match client.write_all(requests.as_bytes()) {
            Ok(()) => {}
            Err(error) if is_timeout(&error) => {
                return Err("the connection was still open".into());
            }
            Err(_) => return example.stop(),
        }
    }
}

fn other_routes_respond(binary: &Path) -> Result {
    let example = Example::start(binary, &[])?;
    neighbours(&example)?;
    example.stop()
}

fn neighbours(example: &Example) -> Result {
    let address = example.server.address;
    for (path, status) in [("/health", 200), ("/elsewhere", 404), ("/callback/more", 404)] {
        let response = get(address, path)?;
        if !response.starts_with(&format!("HTTP/1.1 {status} ")) {
            return Err(format!("{path}: {response:?}").into());
        }
    }
    // With an inbox, a server listens a moment before its worker has the lock of the file.
    until_ready_is(address, 200)
}

fn get(address: SocketAddr, path: &str) -> Result<String> {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

fn until_ready_is(address: SocketAddr, status: u16) -> Result {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let response = get(address, "/ready")?;
        if response.starts_with(&format!("HTTP/1.1 {status} ")) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("/ready after {} s: {response:?}", TIMEOUT.as_secs()).into());
        }
        std::thread::yield_now();
    }
}

fn ends_cleanly(binary: &Path) -> Result {
    Example::start(binary, &[])?.stop()
}

/// SIGTERM while a handler runs whose client has disconnected: it finishes, then the server ends. Another SIGTERM changes
/// nothing.
fn finishes(binary: &Path) -> Result {
    let (server, body) = terminated_while_printing(binary)?;
    server.terminate()?;
    server.read_output();
    let (printed, status) = server.ended()?;
    match printed.as_slice() {
        [line] if *line == body && status.success() => Ok(()),
        lines => Err(format!("{} lines were printed, {status}", lines.len()).into()),
    }
}

/// A server that SIGTERM has reached while its handler prints this body, and nobody reads.
fn terminated_while_printing(binary: &Path) -> Result<(Server, String)> {
    let server = Server::start_unread(binary, SECRET)?;
    let example = Example { server, token: token(SECRET, 4, Prefix::TwoB)? };
    // More than a pipe holds, so that printing it takes until somebody reads.
    let body = sample(&EventPayload::sample(EventKind::FileUploaded).with_data("x".repeat(1_000_000)));
    let mut sender = TcpStream::connect(example.server.address)?;
    sender.write_all(request(&example, &example.token, &body).as_bytes())?;
    let Example { server, .. } = example;
    server.output_started()?;
    server.terminate()?;
    // That it is not ready any more says that the signal has arrived.
    until_ready_is(server.address, 503)?;
    Ok((server, body))
}

/// The handler is given up in the end.
fn ends_unread(binary: &Path) -> Result {
    let (server, _) = terminated_while_printing(binary)?;
    let (_, status) = server.ended()?;
    if status.success() { Ok(()) } else { Err(status.to_string().into()) }
}

/// With an inbox, what was handled is known to the next process.
fn durable(binary: &Path) -> Result {
    let folder = tempfile::tempdir()?;
    let inbox = inbox_in(&folder);
    let settings = [("INBOX", inbox.as_str())];
    let bodies = [(); 2].map(|()| sample(&EventPayload::sample(EventKind::FileUploaded)));

    let example = Example::start(binary, &settings)?;
    neighbours(&example)?;
    deliver(&example, &bodies[0])?;
    printed(&example, &bodies[0])?;
    example.stop()?;

    let example = Example::start(binary, &settings)?;
    for body in &bodies {
        deliver(&example, body)?;
    }
    printed(&example, &bodies[1])?;
    example.stop()
}

/// The console of the inbox, behind its password; no console without one.
fn console(binary: &Path) -> Result {
    let folder = tempfile::tempdir()?;
    let inbox = inbox_in(&folder);
    let password = ("CONSOLE_PASSWORD", "correct horse battery staple");
    // The credentials of `ops`, and those of `ops` with another password.
    let (login, wrong) =
        ("b3BzOmNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGU=", "b3BzOmFub3RoZXIgcGFzc3dvcmQgb2YgYSBsZW5ndGg=");
    for (settings, expected) in [
        (vec![("INBOX", inbox.as_str()), password], [401, 401, 200]),
        (vec![("INBOX", inbox.as_str())], [404; 3]),
        (vec![password], [404; 3]),
    ] {
        let server = Server::start(binary, SECRET, &settings)?;
        let address = server.address;
        for (login, status) in [None, Some(wrong), Some(login)].into_iter().zip(expected) {
            let login = login.map(|login| format!("Authorization: Basic {login}\r\n")).unwrap_or_default();
            let request = format!("GET /console HTTP/1.1\r\nHost: {address}\r\n{login}\r\n");
            let response = exchange(address, &request)?;
            if !response.starts_with(&format!("HTTP/1.1 {status} ")) {
                return Err(format!("{settings:?} {login:?}: {response:?}").into());
            }
        }
    }
    Ok(())
}

fn wrong_settings(binary: &Path) -> Result {
    let secret = ("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    for settings in [
        vec![],
        vec![("SMARTSHAPE_WEBHOOK_SECRET", "")],
        vec![("SMARTSHAPE_WEBHOOK_SECRET", "replace-me-with-a-secret-of-your-own")],
        vec![("SMARTSHAPE_WEBHOOK_SECRET_FILE", "/does/not/exist")],
        vec![secret, ("LISTEN", "nowhere")],
        vec![secret, ("LISTEN", "127.0.0.1:0"), ("INBOX", "/does/not/exist/inbox.db")],
        vec![secret, ("LISTEN", "127.0.0.1:0"), ("CONSOLE_PASSWORD", "short")],
    ] {
        let mut command = Command::new(binary);
        command
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET")
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
            .envs(settings.iter().copied());
        error_of(command).map_err(|error| format!("{settings:?}: {error}"))?;
    }
    for name in ["LISTEN", "INBOX", "CONSOLE_PASSWORD", "CONSOLE_KEY", "RUST_LOG"] {
        let mut command = Command::new("sh");
        let not_utf8 = r#"export "$1=$(printf '\351')"; exec "$0""#;
        command.args(["-c", not_utf8]).arg(binary).arg(name).env("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
        if name != "LISTEN" {
            command.env("LISTEN", "127.0.0.1:0");
        }
        let error = error_of(command).map_err(|error| format!("{name} that is not UTF-8: {error}"))?;
        if !error.contains(name) {
            return Err(format!("the error does not name {name}: {error}").into());
        }
    }
    Ok(())
}

/// The line that a server with wrong settings ends with.
fn error_of(mut command: Command) -> Result<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let status = wait(&mut child)?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if status.code() == Some(2) && error.lines().count() == 1 && output.stdout.is_empty() {
        Ok(error)
    } else {
        Err(format!("{status}, {output:?}").into())
    }
}
