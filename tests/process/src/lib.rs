//! Server processes of tests and demos: started on a free port, and ended by whoever started them.
#![allow(clippy::missing_errors_doc, clippy::must_use_candidate, reason = "a part of tests, not an API")]

use std::io::{self, BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// No step of a healthy server takes this long, nor does its shutdown while a handler hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Comes before the address in a server's log.
const LISTENING: &str = "listening on http://";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    read_on: Sender<()>,
    output_started: Receiver<()>,
    output: Receiver<String>,
}

#[derive(Debug)]
struct Process(Child);

/// Sets what the example servers, and endpoints in other languages, read: a free port, this secret, no inbox, and a log
/// of errors only.
pub fn configure<'a>(command: &'a mut Command, secret: &str) -> &'a mut Command {
    command
        .env("LISTEN", "127.0.0.1:0")
        .env("SMARTSHAPE_WEBHOOK_SECRET", secret)
        .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
        .env_remove("INBOX")
        .env("RUST_LOG", "error")
}

/// Shows a line of a server's log.
#[allow(clippy::print_stderr, reason = "a log belongs there")]
pub fn show(line: &str) {
    eprintln!("  {line}");
}

/// Runs a program that prints little, and kills it if it does not end within a minute.
pub fn run(command: &mut Command) -> io::Result<Output> {
    let mut child = spawn(command)?;
    wait(&mut child)?;
    child.wait_with_output()
}

impl Server {
    /// Starts a server, and waits until a line of its log says where it listens. `log` gets the other lines.
    pub fn start(command: &mut Command, log: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let server = Self::start_unread(command, log)?;
        server.read_output();
        Ok(server)
    }

    /// Like [`start`](Self::start), but nobody reads what the server prints before [`read_output`](Self::read_output):
    /// a handler that prints much keeps running.
    pub fn start_unread(command: &mut Command, log: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let mut process = Process(spawn(command)?);
        let address = wait_until_listening(process.0.stderr.take(), log)?;
        let (read_on, wait) = channel();
        let (has_started, output_started) = channel();
        let (sender, output) = channel();
        let stdout = process.0.stdout.take();
        thread::spawn(move || {
            // The first bytes only; the rest fills the pipe until somebody wants it.
            let mut stdout = BufReader::with_capacity(16, stdout?);
            stdout.fill_buf().ok()?;
            // Errors mean that nobody wants to know any more.
            has_started.send(()).ok()?;
            wait.recv().ok()?;
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line).ok())
        });
        Ok(Self { process, address, read_on, output_started, output })
    }

    /// Reads what the server prints from now on.
    pub fn read_output(&self) {
        // An error means that the server has ended, which the caller will see.
        let _ = self.read_on.send(());
    }

    /// Waits until the server has started to print.
    pub fn wait_for_output(&self) -> io::Result<()> {
        self.output_started.recv_timeout(TIMEOUT).map_err(io::Error::other)
    }

    /// The next line that the server prints, `None` if it prints none within a minute.
    pub fn next_line(&self) -> Option<String> {
        self.output.recv_timeout(TIMEOUT).ok()
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Tells the server to stop (SIGTERM).
    pub fn terminate(&self) -> io::Result<()> {
        // The shell has `kill` built in, wherever it runs.
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.id().to_string()]).status()?;
        Ok(())
    }

    /// Ends the server at once (SIGKILL), and returns what it had printed.
    pub fn kill(mut self) -> io::Result<Vec<String>> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(self.output.iter().collect())
    }

    /// Tells the server to stop, and returns what it printed meanwhile, and its status.
    pub fn stop(self) -> io::Result<(Vec<String>, ExitStatus)> {
        self.terminate()?;
        self.wait_for_end()
    }

    /// Waits until the server has ended, and returns what it printed meanwhile, and its status.
    pub fn wait_for_end(mut self) -> io::Result<(Vec<String>, ExitStatus)> {
        let status = wait(&mut self.process.0)?;
        self.read_output();
        Ok((self.output.iter().collect(), status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().display().to_string();
    command.spawn().map_err(|error| io::Error::other(format!("cannot start {program}: {error}")))
}

/// Waits for a process to end by itself, and kills it when that takes too long.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::other(format!("the process did not end within {} s", TIMEOUT.as_secs())))
}

/// Passes the lines of a server's log to `log`, but for the one with its address.
fn wait_until_listening(
    stderr: Option<impl Read + Send + 'static>,
    log: impl Fn(&str) + Send + 'static,
) -> io::Result<SocketAddr> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        // Somebody has to read to the end, or a full pipe would stop the server.
        for line in BufReader::new(stderr?).lines().map_while(Result::ok) {
            if !line.contains(LISTENING) {
                log(&line);
            }
            // An error means that the address is known.
            let _ = sender.send(line);
        }
        Some(())
    });
    let mut read = String::new();
    while let Ok(line) = lines.recv_timeout(TIMEOUT) {
        if let Some((_, url)) = line.split_once(LISTENING) {
            return url.split('/').next().unwrap_or_default().parse().map_err(io::Error::other);
        }
        read = read + "\n  " + &line;
    }
    Err(io::Error::other(format!("the server does not listen, and says:{read}")))
}
