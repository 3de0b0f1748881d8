//! The program as a process that a test talks to.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::within;

/// A running program; killed when dropped, if the command says so.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) out: Option<Lines<BufReader<ChildStdout>>>,
    /// What it has written to standard error.
    log: watch::Receiver<String>,
    /// Number of bytes of the log that `read_until` has read.
    read: usize,
    /// Reads the log to its end.
    reader: JoinHandle<()>,
}

impl Program {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Some(BufReader::new(child.stdout.take().unwrap()).lines());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = watch::channel(String::new());
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                sender.send_modify(|log| log.extend([line.as_str(), "\n"]));
            }
        });
        Self { child, out, log, read: 0, reader }
    }

    /// Reads standard error up to a line that says so.
    pub(crate) async fn read_until(&mut self, says: &str) -> String {
        let read = self.read;
        let unread = within(self.log.wait_for(|log| log[read..].contains(says))).await;
        let unread = unread.map(|log| log[read..].to_owned());
        let unread = unread.unwrap_or_else(|_| panic!("it ended without {says:?}: {}", self.log()));
        let mut lines = unread.split_inclusive('\n').inspect(|line| self.read += line.len());
        lines.find(|line| line.contains(says)).unwrap().trim_end().to_owned()
    }

    /// Reads a line of standard output, which is JSON.
    pub(crate) async fn line(&mut self) -> Value {
        let line = within(self.out.as_mut().unwrap().next_line()).await.unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Ends it by a signal; returns what it still wrote to standard output, and all of its log.
    pub(crate) async fn stop(self, signal: &str) -> (String, String) {
        self.signal(signal);
        let (status, out, log) = self.end().await;
        assert_eq!(status.code(), Some(0), "{log}");
        (out, log)
    }

    /// Waits for its end; what it still wrote to standard output, and all of its log.
    pub(crate) async fn end(mut self) -> (ExitStatus, String, String) {
        let mut out = String::new();
        if let Some(lines) = self.out {
            within(lines.into_inner().read_to_string(&mut out)).await.unwrap();
        }
        within(self.reader).await.unwrap();
        (within(self.child.wait()).await.unwrap(), out, self.log.borrow().clone())
    }
}
