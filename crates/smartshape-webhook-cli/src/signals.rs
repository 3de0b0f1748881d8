//! Signals that ask the program to end.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::CliResult;
#[cfg(unix)]
use crate::failure::failed;

/// Takes signals over while it lives: they no longer end the program.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Takes SIGINT and SIGTERM over.
    pub(crate) fn new() -> CliResult<Self> {
        Ok(Self {
            interrupt: take_over(SignalKind::interrupt())?,
            terminate: take_over(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// Takes SIGHUP over too, unless it is ignored: `nohup` starts a program so that it outlives the terminal.
    pub(crate) fn with_hangup() -> CliResult<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(take_over(SignalKind::hangup())?) };
        Ok(Self { hangup, ..Self::new()? })
    }

    pub(crate) async fn next(&mut self) {
        let Self { interrupt, terminate, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}

#[cfg(unix)]
fn take_over(kind: SignalKind) -> CliResult<Signal> {
    signal(kind).map_err(|error| failed!("no signals: {error}"))
}

/// Whether this process ignores SIGHUP. Only Linux tells; elsewhere it counts as not ignored.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

/// Takes over ^C from the first call of [`next`](Self::next) on: before it, ^C ends the program.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> CliResult<Self> {
        Ok(Self)
    }

    pub(crate) fn with_hangup() -> CliResult<Self> {
        Self::new()
    }

    pub(crate) async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
