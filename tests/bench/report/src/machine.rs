//! Where and when it was measured.

use std::fs;
use std::process::Command;

use jiff::Timestamp;

const UNKNOWN: &str = "unknown";

/// The moment a part began, and what was going on.
#[derive(Clone, Debug)]
pub struct Start {
    begun: Timestamp,
    load: String,
}

impl Start {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { begun: Timestamp::now(), load: load() }
    }

    /// What every part says of its run.
    #[must_use]
    pub fn facts(&self, quick: bool) -> Vec<(&'static str, String)> {
        vec![
            ("date", self.begun.strftime("%Y-%m-%d %H:%M UTC").to_string()),
            ("scale", if quick { "--quick".to_owned() } else { "full".to_owned() }),
            ("machine", processors()),
            ("system", format!("{} {}", std::env::consts::OS, line_of("/proc/sys/kernel/osrelease"))),
            ("Rust", rust()),
            ("load before", self.load.clone()),
            ("load after", load()),
        ]
    }
}

/// Resident memory of a process, in bytes. `None` where the system does not tell.
#[must_use]
pub fn resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The averages of one, five and fifteen minutes.
fn load() -> String {
    let line = line_of("/proc/loadavg");
    line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// All of the machine, of which a benchmark may use a part.
fn processors() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{count} cores, {}", model.map_or(UNKNOWN, |(_, model)| model))
}

fn rust() -> String {
    let output =
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or(UNKNOWN).to_owned()
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}
