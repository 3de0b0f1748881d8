//! Runs a program for each event.

use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use smartshape_webhook::{Delivery, Handler, HandlerError, escape_error_for_log};
use smartshape_webhook_outlet::CloudEvent;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;

use crate::input::is_secret_variable;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Exit code of a program that will never handle this event: `EX_DATAERR` of sysexits.h.
const PERMANENT: i32 = 65;
/// Time to read what a program has written, after it has ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of bytes kept of each output, for the log.
const MAX_OUTPUT_BYTES: usize = 4096;

/// Runs a program with the event's body on standard input and the attributes of its [`CloudEvent`] in the environment.
/// No shell is involved. The program's process group is killed when the program has ended, after the timeout, and
/// when the attempt is cancelled.
pub(super) struct Exec {
    program: PathBuf,
    args: Vec<String>,
    timeout: Duration,
}

/// Kills the process group when dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // An error means that the group has ended, or has become another user's.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Handler for Exec {
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let program = self.program.display();
        let event = CloudEvent::from(&delivery);
        let mut child = self
            .command(&event)
            .spawn()
            .map_err(|error| HandlerError::retry(format!("cannot start {program}: {error}")))?;
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(id) = id else { return Err(HandlerError::retry("it has no process id")) };
        // The group is dropped before `child` reaps its process, since nobody else gets its id until then.
        let group = Group(id);
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ended = async {
            wait_without_reaping(id).await;
            // A process that is left in the group would keep the output open.
            drop(group);
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let piped = async {
            tokio::join!(
                feed(input, &event.data),
                read_head(output, &mut stdout),
                read_head(errors, &mut stderr)
            )
        };
        let run = async {
            let (mut ended, mut piped) = (pin!(ended), pin!(piped));
            tokio::select! {
                () = &mut ended => {
                    // A process that has left the group may keep the output open.
                    let _ = tokio::time::timeout(OUTPUT_TIMEOUT, piped).await;
                }
                _ = &mut piped => ended.await,
            }
        };
        let has_ended = tokio::time::timeout(self.timeout, run).await.is_ok();
        if !stdout.is_empty() || !stderr.is_empty() {
            let shown =
                |bytes: &[u8]| escape_error_for_log(String::from_utf8_lossy(bytes).trim()).to_string();
            tracing::info!(stdout = %shown(&stdout), stderr = %shown(&stderr), "output of {program}");
        }
        if !has_ended {
            let seconds = self.timeout.as_secs();
            // A program that has become another user's, such as `sudo`, goes on. Its attempt waits for it, so that no
            // other one starts beside it.
            if kill_process_group(id, Signal::KILL) != Err(Errno::PERM) {
                return Err(HandlerError::retry(format!("it was killed after its {seconds} s")));
            }
            tracing::error!(
                "{program} goes on after its {seconds} s: it belongs to another user, so the relay cannot kill it"
            );
        }
        outcome(child.wait().await?)
    }
}

impl Exec {
    pub(super) fn new(program: PathBuf, args: Vec<String>, timeout: Option<Duration>) -> Self {
        Self { program, args, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT) }
    }

    fn command(&self, event: &CloudEvent) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| is_secret_variable(name) || name.starts_with("CE_")) {
                command.env_remove(name);
            }
        }
        for (name, value) in event.headers() {
            if let Some(attribute) = name.strip_prefix("ce-") {
                command.env(format!("CE_{}", attribute.to_ascii_uppercase()), value);
            }
        }
        command
    }
}

fn outcome(status: ExitStatus) -> Result<(), HandlerError> {
    match status.code() {
        Some(0) => Ok(()),
        Some(PERMANENT) => Err(HandlerError::permanent(format!(
            "it ended with {PERMANENT}: it will never handle this event"
        ))),
        Some(code) => Err(HandlerError::retry(format!("it ended with {code}"))),
        None => Err(HandlerError::retry(format!("it was ended: {status}"))),
    }
}

/// Waits until the program has ended, and leaves its exit status to be fetched.
async fn wait_without_reaping(id: Pid) {
    let wait =
        move || retry_on_intr(|| waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
    // An error means that it has ended.
    let _ = tokio::task::spawn_blocking(wait).await;
}

/// Writes the body and closes standard input. A program need not read it.
async fn feed(input: Option<impl AsyncWrite + Unpin>, body: &[u8]) {
    if let Some(mut input) = input {
        let _ = input.write_all(body).await;
    }
}

/// Reads to the end and keeps the beginning in `head`.
async fn read_head(output: Option<impl AsyncRead + Unpin>, head: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    let Some(mut output) = output else { return };
    while let Ok(count @ 1..) = output.read(&mut chunk).await {
        head.extend_from_slice(&chunk[..count.min(MAX_OUTPUT_BYTES - head.len())]);
    }
}
