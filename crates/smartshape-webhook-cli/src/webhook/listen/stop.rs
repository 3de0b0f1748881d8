//! Stops a listener: on a signal, or when the reader of standard output ends.

use super::sink::OutputFailures;
use crate::failure::CliResult;
use crate::signals::Signals;

/// Why a listener stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Signal,
    /// The reader of the output has ended.
    OutputClosed,
    /// Writing failed; the reason is printed already.
    OutputFailed,
}

pub(super) struct Stop {
    signals: Signals,
    /// Number of further signals that interrupt the deletion of the webhooks.
    signals_to_abort: u8,
    pub(super) failures: OutputFailures,
}

impl Stop {
    /// Installs the signal handlers.
    pub(super) fn new() -> CliResult<Self> {
        Ok(Self {
            signals: Signals::with_hangup()?,
            signals_to_abort: 2,
            failures: OutputFailures::default(),
        })
    }

    pub(super) async fn wait(&mut self) -> Reason {
        let reason = tokio::select! {
            () = self.signals.next() => Reason::Signal,
            () = self.failures.closed.notified() => Reason::OutputClosed,
            () = self.failures.failed.notified() => Reason::OutputFailed,
            () = output_closed() => Reason::OutputClosed,
        };
        if reason == Reason::Signal {
            self.signals_to_abort = 1;
        }
        reason
    }

    /// Resolves when the user interrupts the deletion too. One ^C ends a whole pipeline: if the reader ended first, the
    /// signal that follows belongs to the same ^C and does not count, so two are needed.
    pub(super) async fn aborted(&mut self) {
        for _ in 0..self.signals_to_abort {
            self.signals.next().await;
        }
    }
}

/// Resolves when the reader of a pipe on standard output closes it, even if nothing is written.
#[cfg(unix)]
async fn output_closed() {
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    #[allow(deprecated, reason = "its successor wants a newer tokio; standard output is never closed here")]
    // A file cannot be watched, and has no reader.
    let Ok(output) = AsyncFd::with_interest(std::io::stdout(), Interest::ERROR) else {
        return std::future::pending().await;
    };
    if output.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(not(unix))]
async fn output_closed() {
    std::future::pending().await
}
