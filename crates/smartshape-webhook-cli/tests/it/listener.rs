//! A `smartshape webhook listen` that runs, and what it keeps.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use smartshape_fake::{FakeBuilder, FakeSmartShape, SenderSettings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::support::{Home, within};

/// A fake for a machine that may be busy.
pub(crate) fn builder() -> FakeBuilder {
    let timeout = std::time::Duration::from_secs(60);
    let sender = SenderSettings { max_attempts: 3, timeout, ..SenderSettings::quick() };
    FakeSmartShape::builder().sender(sender)
}

pub(crate) struct Listener {
    pub(crate) child: Child,
    pub(crate) out: Option<Lines<BufReader<ChildStdout>>>,
    pub(crate) err: Lines<BufReader<ChildStderr>>,
}

impl Listener {
    /// Runs `smartshape webhook listen` with these arguments until it has registered.
    pub(crate) async fn at(home: &Home, fake: &FakeSmartShape, arguments: &[&str]) -> Self {
        Self::start(home.logged_in(fake, &[&["webhook", "listen"], arguments].concat())).await
    }

    /// Runs it until it has registered.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut listener = Self::spawn(&mut command);
        listener.read_until("registered ").await;
        listener
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Some(BufReader::new(child.stdout.take().unwrap()).lines());
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err }
    }

    /// Reads standard error up to a line that says so.
    pub(crate) async fn read_until(&mut self, says: &str) -> String {
        let mut read = Vec::new();
        while let Some(line) = within(self.err.next_line()).await.unwrap() {
            if line.contains(says) {
                return line;
            }
            read.push(line);
        }
        panic!("it ended without {says:?}: {read:?}")
    }

    pub(crate) async fn line(&mut self) -> Value {
        let line = within(self.out.as_mut().unwrap().next_line()).await.unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Ends the listener by a signal; returns what it still wrote to standard output and error.
    pub(crate) async fn stop(self, signal: &str) -> (String, String) {
        self.signal(signal);
        let (status, out, err) = self.end().await;
        assert_eq!(status.code(), Some(0), "{err}");
        (out, err)
    }

    /// Waits for its end; what it still wrote to standard output and error.
    pub(crate) async fn end(mut self) -> (ExitStatus, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        if let Some(lines) = self.out {
            within(lines.into_inner().read_to_string(&mut out)).await.unwrap();
        }
        within(self.err.into_inner().read_to_string(&mut err)).await.unwrap();
        (within(self.child.wait()).await.unwrap(), out, err)
    }
}

/// The files that listeners keep.
pub(crate) fn journals(home: &Home) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(home.path().join(".local/state/smartshape/listeners")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}
