//! Runs the built program in a home of its own.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use smartshape_fake::FakeSmartShape;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

pub(crate) const SECRET: &str = "a long and random string";

/// A folder that goes with the test.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(file), content).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// The program, with nothing of this machine's settings.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smartshape"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.current_dir(self.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The program with a login at the fake.
    pub(crate) fn logged_in(&self, fake: &FakeSmartShape, arguments: &[&str]) -> Command {
        let mut command = self.program(arguments);
        log_in(&mut command, fake);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> RunResult {
        run(&mut self.program(arguments)).await
    }

    /// Runs the program, which succeeds and prints one JSON document.
    pub(crate) async fn run_json(&self, arguments: &[&str]) -> Value {
        self.run(&[&["--json"], arguments].concat()).await.assert_ok().json()
    }

    /// Runs the program with a login at the fake.
    pub(crate) async fn run_at(&self, fake: &FakeSmartShape, arguments: &[&str]) -> RunResult {
        run(&mut self.logged_in(fake, arguments)).await
    }
}

pub(crate) fn log_in<'a>(command: &'a mut Command, fake: &FakeSmartShape) -> &'a mut Command {
    command.env("SMARTSHAPE_API_URL", fake.base_url()).env("SMARTSHAPE_TOKEN", fake.bearer_token())
}

/// The program, started by another one that changes its signals (`env` of GNU) or its limits (`prlimit`).
#[cfg(target_os = "linux")]
pub(crate) fn started_by([starter, option]: [&str; 2], program: &Command) -> Command {
    let program = program.as_std();
    let mut command = Command::new(starter);
    command.arg(option).arg(program.get_program()).args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(program.get_current_dir().unwrap()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A URL at which nobody listens, as long as the socket is kept: nobody else gets its port.
pub(crate) fn unused_url() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl RunResult {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The lines of standard output, each of which is JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// One clear line, nothing on standard output, and this exit code.
    pub(crate) fn assert_fails(&self, code: i32, says: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        assert!(self.err.contains(says), "{says}: {self:?}");
        // Wrong usage is clap's, which adds how it is done right.
        assert!(self.err.lines().count() == 1 || self.err.starts_with("error: "), "{self:?}");
    }

    pub(crate) fn assert_ok(self) -> Self {
        self.assert_exits(0, "")
    }

    /// This exit code, and a text that is a part of standard error.
    pub(crate) fn assert_exits(self, code: i32, says: &str) -> Self {
        assert!(self.code == Some(code) && self.err.contains(says), "{code}, {says}: {self:?}");
        self
    }
}

/// What has to come in any case. Long enough for a machine that is busy.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), what).await.expect("it comes in time")
}

/// Yields until `condition` returns true.
pub(crate) async fn poll_until(mut condition: impl AsyncFnMut() -> bool) {
    within(async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Fails if others may read the file.
pub(crate) fn assert_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// A response's head, and its body.
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name}: {}", self.head))
    }
}

/// Sends a request, in one piece, to the port of this URL on 127.0.0.1. `headers` may have other values for host and
/// content-length.
pub(crate) async fn request(method: &str, url: &str, headers: &[&str], body: &[u8]) -> Response {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut request = format!("{method} /{path} HTTP/1.1\r\n");
    for (name, value) in [("host", host), ("content-length", &body.len().to_string())] {
        if !headers.iter().any(|header| header.starts_with(name)) {
            request += &format!("{name}: {value}\r\n");
        }
    }
    for header in headers {
        request += &format!("{header}\r\n");
    }
    let port = host.rsplit_once(':').unwrap().1;
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    stream.write_all(&[request.as_bytes(), b"\r\n", body].concat()).await.unwrap();
    let (head, body) = within(message(&mut stream)).await;
    let head: Vec<_> = head.iter().map(|line| String::from_utf8_lossy(line)).collect();
    Response { head: head.join("\n"), body: String::from_utf8(body).unwrap() }
}

/// The head of a request or a response, in lines, and its body.
pub(crate) async fn message(stream: &mut TcpStream) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut read, mut body_begins) = (Vec::new(), None);
    while body_begins.is_none() {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "it ended too early");
        body_begins = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    }
    let mut body = read.split_off(body_begins.unwrap());
    let head = read.trim_ascii_end().split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec());
    let head: Vec<_> = head.collect();
    let length = head.iter().find_map(|line| line.strip_prefix(b"content-length: ".as_slice()));
    let length: usize = std::str::from_utf8(length.unwrap()).unwrap().parse().unwrap();
    while body.len() < length {
        assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0, "it ended too early");
    }
    (head, body)
}

pub(crate) async fn run(command: &mut Command) -> RunResult {
    within(command.output()).await.unwrap().into()
}

/// Runs the program with a standard output that nobody reads, and returns its exit code.
pub(crate) async fn run_unread(command: &mut Command) -> Option<i32> {
    let (_, unread) = std::io::pipe().unwrap();
    within(command.stdout(unread).stderr(Stdio::null()).status()).await.unwrap().code()
}

pub(crate) async fn run_with_stdin(command: &mut Command, input: &str) -> RunResult {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end without reading it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    within(child.wait_with_output()).await.unwrap().into()
}

impl From<Output> for RunResult {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}
