//! The example server in its durable mode, as a process.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::observed::Observations;

/// No step of a healthy server takes this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// Number of lines of a server's log that an error shows.
const LOG_LINES: usize = 20;

pub(crate) const SECRET: &str = "a secret of the torture run";

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    listens: Option<oneshot::Receiver<String>>,
    output: Option<JoinHandle<()>>,
    log: JoinHandle<()>,
    latest: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// Starts the server. What its handler prints goes to the observations.
    pub(crate) fn start(
        binary: &Path,
        inbox_url: &str,
        observations: &Arc<Observations>,
    ) -> Result<Self, Error> {
        let mut server = Self::start_unread(Command::new(binary), inbox_url)?;
        server.read_output(observations);
        Ok(server)
    }

    /// Starts a server like [`start`](Self::start), but nobody reads what the handler prints before
    /// [`read_output`](Self::read_output).
    pub(crate) fn start_unread(mut command: Command, inbox_url: &str) -> Result<Self, Error> {
        let mut child = command
            .env("LISTEN", "127.0.0.1:0")
            .env("INBOX", inbox_url)
            .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {:?}: {error}", command.as_std().get_program()))?;
        let (sender, listens) = oneshot::channel();
        let latest = Arc::default();
        let log = child.stderr.take().ok_or("no standard error")?;
        let log = tokio::spawn(read_log(log, sender, Arc::clone(&latest)));
        Ok(Self { child, listens: Some(listens), output: None, log, latest })
    }

    pub(crate) fn read_output(&mut self, observations: &Arc<Observations>) {
        let Some(output) = self.child.stdout.take() else { return };
        let observations = Arc::clone(observations);
        self.output = Some(tokio::spawn(async move {
            let (mut output, mut line) = (BufReader::new(output), Vec::new());
            while output.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
                observations.lock().record_line(&line);
                line.clear();
            }
        }));
    }

    /// Waits until it listens, and returns where to send to.
    pub(crate) async fn url(&mut self) -> Result<String, Error> {
        if let Some(listens) = self.listens.take()
            && let Ok(Ok(url)) = timeout(TIMEOUT, listens).await
        {
            return Ok(url);
        }
        Err(format!("the server does not listen; its log ends with\n{}", self.shown_log()).into())
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it (SIGKILL). It must still be running.
    pub(crate) async fn kill(mut self) -> Result<(), Error> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!(
                "a server ended by itself, {status}; its log ends with\n{}",
                self.shown_log()
            )
            .into());
        }
        self.child.kill().await?;
        self.end_of_output().await;
        Ok(())
    }

    /// Tells it to stop (SIGTERM); it must end without an error.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        signal("TERM", Some(self.id().ok_or("a server ended by itself")?)).await?;
        let status = timeout(TIMEOUT, self.child.wait()).await.map_err(|_| "a server did not stop")??;
        self.end_of_output().await;
        if status.success() {
            return Ok(());
        }
        Err(format!("a server stopped with {status}; its log ends with\n{}", self.shown_log()).into())
    }

    /// Reads the rest of the output: bytes in the pipes outlive the process.
    async fn end_of_output(&mut self) {
        if let Some(output) = self.output.take() {
            let _ = output.await;
        }
        let _ = (&mut self.log).await;
    }

    fn shown_log(&self) -> String {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().map(|line| format!("    {line}\n")).collect()
    }
}

/// Sends a signal to a process, if there is one.
pub(crate) async fn signal(name: &str, process: Option<u32>) -> Result<(), Error> {
    let Some(process) = process else { return Ok(()) };
    // The shell has `kill` built in, wherever it runs. It fails for a process that has just ended.
    let script = "kill -\"$0\" \"$1\" 2>&-";
    Command::new("sh").args(["-c", script, name, &process.to_string()]).status().await?;
    Ok(())
}

async fn read_log(
    log: impl AsyncRead + Unpin,
    listens: oneshot::Sender<String>,
    latest: Arc<Mutex<VecDeque<String>>>,
) {
    let (mut lines, mut listens) = (BufReader::new(log).lines(), Some(listens));
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, address)) = line.split_once("listening on ")
            && let Some(listens) = listens.take()
        {
            let _ = listens.send(format!("{}/callback", address.trim_end_matches("/callback")));
        }
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.push_back(line);
        if latest.len() > LOG_LINES {
            latest.pop_front();
        }
    }
}
