//! The servers as processes, and which process runs on which core.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::server::{SECRET, Spec};

/// The first argument with which this program serves.
pub(crate) const SERVE: &str = "serve";

pub(crate) const SERVER_CORE: &str = "0";
pub(crate) const LOAD_CORE: &str = "1";
pub(crate) const BOTH_CORES: &str = "0,1";

/// Moves this thread, and those that it starts from now on, to these cores.
pub(crate) fn pin(cores: &str) -> Result<()> {
    let id = std::process::id().to_string();
    let status = Command::new("taskset").args(["-pc", cores, &id]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err("the benchmark needs two cores, 0 and 1".into()) }
}

fn on_core(core: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// Killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Keeps a core busy.
    pub(crate) fn busy(core: &str) -> Result<Self> {
        Ok(Self(on_core(core, "sh").args(["-c", "while :; do :; done"]).spawn()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Killed when dropped.
pub(crate) struct Server {
    process: test_process::Server,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(spec: Spec) -> Result<Self> {
        let mut command = on_core(SERVER_CORE, std::env::current_exe()?);
        Self::spawn(command.arg(SERVE).arg(serde_json::to_string(&spec)?))
    }

    pub(crate) fn start_peer(program: &str, file: &str) -> Result<Self> {
        let mut command = on_core(SERVER_CORE, program);
        command.arg(file).env("SMARTSHAPE_WEBHOOK_SECRET", SECRET).env("LISTEN", "127.0.0.1:0");
        Self::spawn(&mut command)
    }

    /// `smartshape relay` with an inbox in this file.
    pub(crate) fn start_relay(
        program: &OsStr,
        inbox: &Path,
        target: SocketAddr,
        concurrency: u32,
    ) -> Result<Self> {
        let settings = inbox.with_extension("toml");
        fs::write(&settings, format!("concurrency = {concurrency}\n"))?;
        let mut command = on_core(SERVER_CORE, program);
        command.args(["relay", "--listen", "127.0.0.1:0", "--allow-private-addresses", "--inbox"]).arg(inbox);
        command.arg("--config").arg(settings);
        command.args(["--to", &format!("http://{target}/events")]);
        command.env("SMARTSHAPE_WEBHOOK_SECRET", SECRET).env("RUST_LOG", "warn");
        command.env("SMARTSHAPE_RELAY_SIGNING_SECRET", "whsec_c2lnbnMgYSBiZW5jaG1hcmsgYW5kIG5vIG1vcmU=");
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let process = test_process::Server::start(command, |_| ())?;
        Ok(Self { address: process.address, process })
    }

    /// The process's peak resident memory in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// CPU time of all its threads so far, user and kernel.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            // A thread may have ended meanwhile.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}
