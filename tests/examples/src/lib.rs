//! What the example servers promise beside the receiver: output, settings and signals. Each example has these cases as
//! its tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a library of tests")]
#![allow(clippy::missing_panics_doc, missing_docs, reason = "the cases' names say it")]

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;
use smartshape_fake::{EventPayload, Prefix, sample_text, token};
use smartshape_webhook::EventKind;
use test_process::{Server, configure, show};

const SECRET: &str = "the secret of the example servers";

/// Far longer than the servers' own time limits.
const TIMEOUT: Duration = Duration::from_secs(120);

static TOKEN: LazyLock<String> = LazyLock::new(|| token(SECRET, 4, Prefix::TwoB).unwrap());

/// One test for each case, of the example server with this path.
#[macro_export]
macro_rules! tests {
    ($program:expr) => {
        $crate::tests! { $program;
            each_event_is_printed_once,
            full_disk_joins_no_lines,
            half_closed_sender_is_served,
            other_routes_respond,
            http2_is_not_spoken,
            malformed_request_is_not_logged,
            #[cfg(target_os = "linux")]
            client_that_never_reads_is_disconnected,
            sigterm_ends_with_0,
            sigterm_lets_running_handlers_finish,
            sigterm_ends_though_nobody_reads,
            inbox_is_known_to_the_next_process,
            console_asks_for_its_password,
            wrong_setting_ends_with_one_line,
        }
    };
    ($program:expr; $($(#[$condition:meta])* $case:ident,)*) => {$(
        $(#[$condition])*
        #[test]
        fn $case() {
            $crate::$case($program);
        }
    )*};
}

/// The nine events and one of an unknown kind, each delivered twice.
pub fn each_event_is_printed_once(program: &str) {
    let server = start(&mut example(program));
    let unknown =
        r#"{"file":"f","event":"file_deleted","data":[1e2],"owner":"o","runTimestamp":1,"uuid":"u-unknown"}"#;
    for body in EventKind::ALL.map(sample_text).into_iter().chain([unknown]) {
        deliver(&server, body);
        deliver(&server, body);
        assert_printed(&server, body);
    }
    stop(server);
}

/// Output goes to a file whose length is limited, as if its disk were full, until the file is emptied.
pub fn full_disk_joins_no_lines(program: &str) {
    for length in [300, 2000] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let script = r#"trap "" XFSZ; ulimit -f 16; exec "$0" >>"$1""#;
        let server = start(example("sh").args(["-c", script, program]).arg(&path));
        let events = [(); 100].map(|()| text_of(&upload().with_data("x".repeat(length))));
        let is_printed = |event: &&String| is_success(&post(&server, event));
        let written = events.iter().take_while(is_printed).count();
        let mut text = std::fs::read_to_string(&path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        // The sender tries again.
        for event in events.iter().skip(written).take(2) {
            deliver(&server, event);
        }
        stop(server);
        text += &std::fs::read_to_string(&path).unwrap();
        for event in &events[..written + 2] {
            assert_eq!(text.lines().filter(|line| line == event).count(), 1, "of {} bytes", event.len());
        }
    }
}

/// A sender that has shut down its writing side still gets the response.
pub fn half_closed_sender_is_served(program: &str) {
    let server = start(&mut example(program));
    let body = text_of(&upload());
    // A token that is not known yet, so that the response takes its time.
    let request = request(&server, &token(SECRET, 8, Prefix::TwoB).unwrap(), &body);
    let mut sender = TcpStream::connect(server.address).unwrap();
    sender.write_all(request.as_bytes()).unwrap();
    sender.shutdown(Shutdown::Write).unwrap();
    let mut response = String::new();
    sender.read_to_string(&mut response).unwrap();
    assert!(is_success(&response), "{response}");
    assert_printed(&server, &body);
    stop(server);
}

pub fn other_routes_respond(program: &str) {
    let server = start(&mut example(program));
    assert_other_routes_respond(server.address);
    stop(server);
}

/// The servers limit heads and idle connections of HTTP/1 only.
pub fn http2_is_not_spoken(program: &str) {
    let server = start(&mut example(program));
    let mut client = TcpStream::connect(server.address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut first = [0];
    match client.read(&mut first) {
        // HTTP/1 says that it does not understand, or nothing.
        Ok(0) => {}
        Ok(_) => assert_eq!(first, *b"H"),
        Err(error) => assert!(!is_timeout(&error), "the connection was still open"),
    }
    stop(server);
}

/// Anybody can send malformed requests, so they must not fill the log.
pub fn malformed_request_is_not_logged(program: &str) {
    let (sender, log) = channel();
    let keep = move |line: &str| drop(sender.send(line.to_owned()));
    let server = Server::start(example(program).env_remove("RUST_LOG"), keep).unwrap();
    let response = exchange(server.address, "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    stop(server);
    let log: Vec<String> = log.iter().collect();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
}

/// A client that sends requests and reads no response is disconnected.
pub fn client_that_never_reads_is_disconnected(program: &str) {
    let server = start(&mut example(program));
    let mut client = TcpStream::connect(server.address).unwrap();
    client.set_write_timeout(Some(TIMEOUT)).unwrap();
    let requests = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let deadline = Instant::now() + TIMEOUT;
    let error = loop {
        assert!(Instant::now() < deadline, "the connection was still open");
        if let Err(error) = client.write_all(requests.as_bytes()) {
            break error;
        }
    };
    assert!(!is_timeout(&error), "the connection was still open");
    stop(server);
}

pub fn sigterm_ends_with_0(program: &str) {
    stop(start(&mut example(program)));
}

/// A handler whose client has disconnected finishes; another SIGTERM changes nothing.
pub fn sigterm_lets_running_handlers_finish(program: &str) {
    let (server, body) = terminated_while_printing(program);
    server.terminate().unwrap();
    server.read_output();
    let (printed, status) = server.wait_for_end().unwrap();
    assert!(status.success(), "{status}");
    assert!(printed == [body], "{} lines", printed.len());
}

/// A handler whose output nobody reads is given up in the end.
pub fn sigterm_ends_though_nobody_reads(program: &str) {
    let (server, _) = terminated_while_printing(program);
    let (_, status) = server.wait_for_end().unwrap();
    assert!(status.success(), "{status}");
}

/// A delivery that was handled is not handled again by the next process.
pub fn inbox_is_known_to_the_next_process(program: &str) {
    let folder = tempfile::tempdir().unwrap();
    let inbox = folder.path().join("inbox.db");
    let bodies = [(); 2].map(|()| text_of(&upload()));

    let server = start(example(program).env("INBOX", &inbox));
    assert_other_routes_respond(server.address);
    deliver(&server, &bodies[0]);
    assert_printed(&server, &bodies[0]);
    stop(server);

    let server = start(example(program).env("INBOX", &inbox));
    for body in &bodies {
        deliver(&server, body);
    }
    assert_printed(&server, &bodies[1]);
    stop(server);
}

/// There is no console without a password, and none without an inbox.
pub fn console_asks_for_its_password(program: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inbox.db");
    let inbox = ("INBOX", path.to_str().unwrap());
    let password = ("CONSOLE_PASSWORD", "correct horse battery staple");
    // The credentials of `ops`, and those of `ops` with another password.
    let (login, wrong) =
        ("b3BzOmNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGU=", "b3BzOmFub3RoZXIgcGFzc3dvcmQgb2YgYSBsZW5ndGg=");
    for (settings, expected) in
        [(vec![inbox, password], [401, 401, 200]), (vec![inbox], [404; 3]), (vec![password], [404; 3])]
    {
        let server = start(example(program).envs(settings.clone()));
        for (login, status) in [None, Some(wrong), Some(login)].into_iter().zip(expected) {
            let login = login.map(|login| format!("Authorization: Basic {login}\r\n")).unwrap_or_default();
            let response =
                exchange(server.address, &format!("GET /console HTTP/1.1\r\nHost: x\r\n{login}\r\n"));
            assert!(has_status(&response, status), "{settings:?} {login:?}: {response:?}");
        }
    }
}

pub fn wrong_setting_ends_with_one_line(program: &str) {
    let secret = ("SMARTSHAPE_WEBHOOK_SECRET", SECRET);
    for settings in [
        vec![],
        vec![("SMARTSHAPE_WEBHOOK_SECRET", "")],
        vec![("SMARTSHAPE_WEBHOOK_SECRET", "replace-me-with-a-secret-of-your-own")],
        vec![("SMARTSHAPE_WEBHOOK_SECRET_FILE", "/does/not/exist")],
        vec![secret, ("LISTEN", "nowhere")],
        vec![secret, ("INBOX", "/does/not/exist/inbox.db")],
        vec![secret, ("CONSOLE_PASSWORD", "short")],
    ] {
        let mut command = example(program);
        error_of(command.env_remove("SMARTSHAPE_WEBHOOK_SECRET").envs(settings));
    }
    for name in ["LISTEN", "INBOX", "CONSOLE_PASSWORD", "CONSOLE_KEY", "RUST_LOG"] {
        let not_utf8 = r#"export "$1=$(printf '\351')"; exec "$0""#;
        let error = error_of(example("sh").args(["-c", not_utf8, program, name]));
        assert!(error.contains(name), "{error}");
    }
}

/// The line that a server with wrong settings ends with.
fn error_of(command: &mut Command) -> String {
    let output = test_process::run(command.env_remove("RUST_LOG")).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
    assert!(error.lines().count() == 1 && output.stdout.is_empty(), "{command:?}: {error}");
    error
}

fn example(program: &str) -> Command {
    let mut command = Command::new(program);
    configure(&mut command, SECRET);
    command
}

fn start(command: &mut Command) -> Server {
    Server::start(command, show).unwrap()
}

/// Stops the server, which must end with 0 and have printed nothing more.
#[track_caller]
fn stop(server: Server) {
    let (unread, status) = server.stop().unwrap();
    assert!(status.success() && unread.is_empty(), "{status}, {unread:?}");
}

/// A server that SIGTERM has reached while its handler prints this body, and nobody reads.
fn terminated_while_printing(program: &str) -> (Server, String) {
    let server = Server::start_unread(&mut example(program), show).unwrap();
    // More than a pipe holds, so that printing it takes until somebody reads.
    let body = text_of(&upload().with_data("x".repeat(1_000_000)));
    let mut sender = TcpStream::connect(server.address).unwrap();
    sender.write_all(request(&server, &TOKEN, &body).as_bytes()).unwrap();
    server.wait_for_output().unwrap();
    server.terminate().unwrap();
    // That it is not ready any more says that the signal has arrived.
    wait_until_ready_is(server.address, 503);
    (server, body)
}

fn upload() -> EventPayload {
    EventPayload::sample(EventKind::FileUploaded)
}

fn text_of(event: &EventPayload) -> String {
    String::from_utf8(event.to_body().into()).unwrap()
}

fn request(server: &Server, token: &str, body: &str) -> String {
    let (address, length) = (server.address, body.len());
    let head = format!("POST /callback HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    format!("{head}X-SmartShape-Token: {token}\r\n\r\n{body}")
}

fn post(server: &Server, body: &str) -> String {
    exchange(server.address, &request(server, &TOKEN, body))
}

#[track_caller]
fn deliver(server: &Server, body: &str) {
    let response = post(server, body);
    assert!(is_success(&response), "{response}");
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

/// Sends a request, whose connection the server is to close, and reads the response.
#[track_caller]
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn has_status(response: &str, status: u16) -> bool {
    response.starts_with(&format!("HTTP/1.1 {status} "))
}

fn is_success(response: &str) -> bool {
    has_status(response, 200) && response.ends_with(r#"{"success":true}"#)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[track_caller]
fn assert_printed(server: &Server, body: &str) {
    let line = server.next_line().expect("the handler prints a line");
    let [line, body] = [&line, body].map(|text| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(line, body);
}

fn assert_other_routes_respond(address: SocketAddr) {
    for (path, status) in [("/health", 200), ("/elsewhere", 404), ("/callback/more", 404)] {
        let response = get(address, path);
        assert!(has_status(&response, status), "{path}: {response}");
    }
    // With an inbox, a server listens a moment before its worker has the lock of the file.
    wait_until_ready_is(address, 200);
}

fn wait_until_ready_is(address: SocketAddr, status: u16) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let response = get(address, "/ready");
        if has_status(&response, status) {
            return;
        }
        assert!(Instant::now() < deadline, "/ready after {} s: {response}", TIMEOUT.as_secs());
        std::thread::yield_now();
    }
}
