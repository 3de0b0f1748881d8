//! An example server as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;

/// No step of a healthy server takes this long, nor does its shutdown while a handler hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running example server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    output: Output,
    read_on: Sender<()>,
}

/// What a process prints, as it comes.
struct Output {
    started: Receiver<()>,
    lines: Receiver<String>,
}

impl Server {
    /// Starts `binary` on a free port with these settings, and waits until it listens.
    pub(crate) fn start(binary: &Path, secret: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let server = Self::spawn(Command::new(binary), secret, settings, show)?;
        server.read_output();
        Ok(server)
    }

    /// Like [`start`](Self::start), for a program of several words, whose log is not shown: that of others is full of the errors
    /// that are provoked.
    pub(crate) fn start_command(command: Command, secret: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let server = Self::spawn(command, secret, settings, |_| ())?;
        server.read_output();
        Ok(server)
    }

    /// Like [`start`](Self::start), but nobody reads what the handler prints before [`read_output`](Self::read_output): a handler
    /// that prints much keeps running.
    pub(crate) fn start_unread(binary: &Path, secret: &str) -> Result<Self> {
        Self::spawn(Command::new(binary), secret, &[], show)
    }

    fn spawn(mut command: Command, secret: &str, settings: &[(&str, &str)], log: fn(&str)) -> Result<Self> {
        let mut child = command
            .env("LISTEN", "127.0.0.1:0")
            .env("SMARTSHAPE_WEBHOOK_SECRET", secret)
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
            .env_remove("INBOX")
            .env("RUST_LOG", "error")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
        let (read_on, wait) = channel();
        let output = Output::read(child.stdout.take(), wait);
        let address = wait_until_listening(&mut child, log)?;
        Ok(Self { child, address, output, read_on })
    }

    /// Reads what the handler prints from now on.
    pub(crate) fn read_output(&self) {
        // An error means that the server has ended, which the caller will see.
        let _ = self.read_on.send(());
    }

    /// Waits until a handler has started to print.
    pub(crate) fn output_started(&self) -> Result {
        Ok(self.output.started.recv_timeout(TIMEOUT)?)
    }

    /// The next line that the handler printed.
    pub(crate) fn next_line(&self) -> Option<String> {
        self.output.lines.recv_timeout(TIMEOUT).ok()
    }

    /// Tells the server to stop (SIGTERM).
    pub(crate) fn terminate(&self) -> Result {
        terminate(&self.child)
    }

    /// Ends the server at once (SIGKILL), and returns what it had printed.
    pub(crate) fn kill(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.output.lines.iter().collect())
    }

    /// Tells the server to stop, and returns what it printed meanwhile, and its status.
    pub(crate) fn stop(self) -> Result<(Vec<String>, ExitStatus)> {
        self.terminate()?;
        self.ended()
    }

    /// Waits until the server has ended, and returns what it printed meanwhile, and its status.
    pub(crate) fn ended(mut self) -> Result<(Vec<String>, ExitStatus)> {
        let status = wait(&mut self.child)?;
        self.read_output();
        Ok((self.output.lines.iter().collect(), status))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells a process to stop (SIGTERM).
pub(crate) fn terminate(child: &Child) -> Result {
    // The shell has `kill` built in, wherever it runs.
    Command::new("sh").args(["-c", "kill -TERM \"$0\"", &child.id().to_string()]).status()?;
    Ok(())
}

/// Waits for a process to end by itself, and kills it when that takes too long.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    Err(format!("the server did not end within {} s", TIMEOUT.as_secs()).into())
}

/// Sends a request, whose connection the server is to close, and reads the response.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

/// The path of an inbox in this folder.
pub(crate) fn inbox_in(folder: &TempDir) -> String {
    folder.path().join("inbox.db").to_string_lossy().into_owned()
}

impl Output {
    fn read(output: Option<impl Read + Send + 'static>, wait: Receiver<()>) -> Self {
        let (has_started, started) = channel();
        let (sender, lines) = channel();
        if let Some(output) = output {
            std::thread::spawn(move || {
                // The first bytes only; the rest fills the pipe until somebody wants it.
                let mut output = BufReader::with_capacity(16, output);
                let _ = output.fill_buf();
                // Errors mean that nobody wants to know any more.
                let _ = has_started.send(());
                let _ = wait.recv();
                for line in output.lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { started, lines }
    }
}

fn show(line: &str) {
    eprintln!("  {line}");
}

/// Passes what else the server logs to `log`.
fn wait_until_listening(child: &mut Child, log: fn(&str)) -> Result<SocketAddr> {
    let (read_on, wait) = channel();
    read_on.send(())?;
    let lines = Output::read(child.stderr.take(), wait).lines;
    while let Ok(line) = lines.recv_timeout(TIMEOUT) {
        if let Some((_, url)) = line.split_once("listening on http://") {
            // Somebody has to go on reading, or a full pipe would stop the server.
            std::thread::spawn(move || {
                for line in lines {
                    log(&line);
                }
            });
            return Ok(url.split('/').next().unwrap_or_default().parse()?);
        }
        show(&line);
    }
    let _ = child.kill();
    Err("the server ended before it listened".into())
}
