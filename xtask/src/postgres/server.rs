//! A server of our own: fresh data, loopback only, as durable as PostgreSQL is by default.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::account::{self, Account};
use super::guard::Guard;
use super::installation::Installation;
use crate::debian::error_line;
use crate::random_secret;

/// No step of a healthy server takes this long, recovery on a slow disk included.
const TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
/// Maximum number of ports that are tried: another program may take one that was just free.
const PORTS: usize = 10;

/// A running server; ended, and its data removed, when dropped.
pub(crate) struct Postgres {
    pub(super) installation: Installation,
    version: String,
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    url: String,
    pub(super) child: Child,
    pub(super) guard: Guard,
}

/// Why a server did not start.
pub(super) enum StartError {
    /// The port, or what a killed server left behind, is still in use.
    PortInUse(String),
    Other(String),
}

impl Postgres {
    /// Starts a server with fresh data on a free port.
    pub(super) fn start(installation: Installation, account: Option<Account>) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("smartshape-postgres-{}", random_secret()?));
        let own = |error| format!("cannot use the folder {}: {error}", folder.display());
        DirBuilder::new().mode(0o700).create(&folder).map_err(own)?;
        let mut guard = Guard::new(&folder).map_err(|error| format!("cannot start sh: {error}"))?;
        account::chown(account, &folder).map_err(own)?;

        let installation = installation.within_reach(&folder.join("installation"))?;
        let version = installation.version()?;
        let password = random_secret()?;
        let file = folder.join("password");
        write_new(&file, 0o600, &password).map_err(own)?;
        account::chown(account, &file).map_err(own)?;
        let data = folder.join("data");
        let mut arguments: Vec<_> =
            ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
                .map(AsRef::as_ref)
                .to_vec();
        arguments.extend(["--pwfile".as_ref(), file.as_os_str(), "--pgdata".as_ref(), data.as_os_str()]);
        installation.run("initdb", &arguments)?;
        fs::remove_file(&file).map_err(own)?;

        write_new(&folder.join("as-postgres"), 0o755, &installation.script()).map_err(own)?;
        for attempt in 1.. {
            let port = free_port()?;
            match run(&installation, &folder, port, &mut guard) {
                Ok(child) => {
                    let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
                    return Ok(Self { installation, version, folder, port, url, child, guard });
                }
                Err(StartError::PortInUse(_)) if attempt < PORTS => {}
                Err(StartError::PortInUse(reason) | StartError::Other(reason)) => return Err(reason),
            }
        }
        Err("no free port".into())
    }

    /// Runs a command that finds PostgreSQL's programs, as an account that may run a server.
    pub(crate) fn command(&self) -> PathBuf {
        self.folder.join("as-postgres")
    }

    /// Holds the superuser's password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Which server this is, and where; without the password.
    pub(super) fn description(&self) -> String {
        let Self { version, port, installation, .. } = self;
        format!("PostgreSQL {version} on 127.0.0.1:{port}, from {}", installation.folder.display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.guard.end();
        // Only the parent can reap its child, and the guard waits for that.
        let _ = self.child.wait();
    }
}

/// Starts the server on existing data, and waits until it takes connections.
pub(super) fn run(
    installation: &Installation,
    folder: &Path,
    port: u16,
    guard: &mut Guard,
) -> Result<Child, StartError> {
    let (data, log) = (folder.join("data"), folder.join("log"));
    let other = |error: std::io::Error| StartError::Other(format!("cannot start PostgreSQL: {error}"));
    // A new file: a killed server's processes may still write to the old one.
    let _ = fs::remove_file(&log);
    let output = File::create(&log).map_err(other)?;
    let mut child = installation
        .command("postgres")
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories=", "-c", "max_connections=200"])
        .args(["-c", "fsync=on", "-c", "synchronous_commit=on"])
        // An interrupt that is meant for the command that uses the server does not end it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(other)?)
        .stderr(output)
        .spawn()
        .map_err(other)?;
    if let Err(error) = guard.watch(child.id()) {
        let _ = child.kill();
        return Err(other(error));
    }
    let ended = poll_until(|| match child.try_wait() {
        Ok(None) => {
            let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            is_ready(&status, child.id()).then_some(false)
        }
        _ => Some(true),
    });
    if ended == Some(false) {
        return Ok(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    let _ = guard.watch(0);
    Err(start_error(&fs::read(&log).unwrap_or_default()))
}

/// Whether `postmaster.pid` is this server's and says that it takes connections.
fn is_ready(status: &str, server: u32) -> bool {
    let mut lines = status.lines();
    lines.next().is_some_and(|line| line.trim() == server.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

fn start_error(log: &[u8]) -> StartError {
    let text = String::from_utf8_lossy(log);
    let reason = format!("PostgreSQL did not start: {}", error_line(log));
    let busy = ["Address already in use", "is still in use", "\"postmaster.pid\" already exists"];
    if busy.iter().any(|words| text.contains(words)) {
        StartError::PortInUse(reason)
    } else {
        StartError::Other(reason)
    }
}

/// Polls until `done` returns a value; `None` after [`TIMEOUT`].
pub(super) fn poll_until<T>(mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let outcome = done();
        if outcome.is_some() || Instant::now() > deadline {
            return outcome;
        }
        sleep(POLL);
    }
}

fn free_port() -> Result<u16, String> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

fn write_new(file: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{StartError, is_ready, start_error};

    #[test]
    fn status_of_another_process_is_not_ready() {
        let status = "42\n/data\n1700000000\n5433\n\n127.0.0.1\n   1234   5\nready   \n";
        assert!(is_ready(status, 42));
        // Left behind by a killed one.
        assert!(!is_ready(status, 43));
        assert!(!is_ready(&status.replace("ready   ", "starting"), 42));
        assert!(!is_ready("42\n", 42));
        assert!(!is_ready("", 42));
    }

    #[test]
    fn port_in_use_is_distinguished() {
        let lost = b"LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\n\
            FATAL:  could not create any TCP/IP sockets\n";
        assert!(matches!(start_error(lost), StartError::PortInUse(_)));
        let StartError::Other(reason) = start_error(b"FATAL:  could not open file\n") else { panic!() };
        assert_eq!(reason, "PostgreSQL did not start: FATAL:  could not open file");
    }
}
