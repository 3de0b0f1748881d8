//! Servers as processes: start, address, CPU time, memory, end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::cores::Cores;
use crate::server::{SECRET, Spec};

/// The word by which this program tells itself to serve.
pub(crate) const SERVE: &str = "serve";
/// The word by which it becomes another program, which stays on a core.
pub(crate) const ON_CORE: &str = "on-core";
/// What precedes the address that a server listens on.
pub(crate) const LISTENING: &str = "listening on http://";

/// An endpoint in another language: its name and its command.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
}

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(spec: Spec) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::spawn(command.arg(SERVE).arg(serde_json::to_string(&spec)?))
    }

    /// Another's server, on the same core, with the settings that all endpoints here have.
    pub(crate) fn start_peer(peer: &Peer, cores: Cores) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ON_CORE).arg(cores.server.to_string()).args(&peer.command);
        Self::spawn(command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET).env("LISTEN", "127.0.0.1:0"))
    }

    /// Starts a program that says on standard error where it listens.
    fn spawn(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines.by_ref().find_map(|line| line.split_once(LISTENING)?.1.trim().parse().ok());
        // What else it says is not of interest, but it must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        match address {
            Some(address) => Ok(Self { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("a server did not start: {command:?}").into())
            }
        }
    }

    /// Its resident memory at its highest.
    pub(crate) fn highest_bytes(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        bench_report::resident_bytes(self.id())
            .ok_or_else(|| "the system does not tell a process's memory".into())
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process has used so far, on all its threads, in user and kernel mode.
    pub(crate) fn cpu_time(&self) -> Outcome<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            // A thread may have ended meanwhile.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
