//! The order of syncs and responses where PostgreSQL stores: its log, and the receiver's responses.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, BufReader as AsyncBufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::order::Response;
use super::strace::{self, Call};
use super::{NOT_DURABLE, deliver, responses};
use crate::observed::Observations;
use crate::random::Random;
use crate::server::{Server, TIMEOUT, signal};
use crate::{Error, conclude, print_line};

const CALLS: &str =
    "trace=pwrite64,pwritev,write,fsync,fdatasync,sendto,sendmsg,writev,read,recvfrom,recvmsg";
const LARGE: usize = 4;
const SMALL: usize = 60;

/// On a PostgreSQL server, of these processes. Returns false where they may not be traced.
pub(crate) async fn run(
    binary: &Path,
    strace: &Path,
    folder: &Path,
    (inbox_url, database): (&str, &[u32]),
    seed: u64,
) -> Result<bool, Error> {
    let (mut random, observations) = (Random::new(seed), Arc::new(Observations::default()));
    // The server begins once its process and all that will serve it are traced.
    let (gate, trace) = (folder.join("gate"), folder.join("trace-server"));
    Command::new("mkfifo").arg(&gate).status().await?;
    let mut command = Command::new("sh");
    command.args(["-c", "read -r go <\"$1\"; exec \"$0\""]).arg(binary).arg(&gate);
    let mut server = Server::start_unread(command, inbox_url)?;
    let mut traced = database.to_vec();
    traced.extend(server.id());
    let Some(tracer) = attach(strace, &traced, &trace).await? else { return Ok(false) };
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n")).await??;
    server.read_output(&observations);
    let url = server.url().await?;
    let sent = deliver(&url, LARGE, SMALL, &observations, &mut random).await?;
    detach(tracer).await?;
    server.stop().await?;

    let calls = strace::read(BufReader::new(File::open(&trace)?))?;
    let responses = responses(&calls, sent.len())?;
    print_line(&format!("  {} deliveries were acknowledged; {} system calls", responses.len(), calls.len()))?;
    conclude(NOT_DURABLE, &check(&calls, &responses))?;
    Ok(true)
}

/// Traces processes that run, until [`detach`].
async fn attach(strace: &Path, processes: &[u32], trace: &Path) -> Result<Option<Child>, Error> {
    let mut command = Command::new(strace);
    command.args(["-f", "-y", "-xx", "-s", "10000000", "-e", CALLS, "-o"]).arg(trace);
    for process in processes {
        command.args(["-p", &process.to_string()]);
    }
    let mut tracer = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut log = AsyncBufReader::new(tracer.stderr.take().ok_or("no standard error")?).lines();
    let attached = async {
        let mut left = processes.to_vec();
        while let Ok(Some(line)) = log.next_line().await {
            if line.contains("not permitted") {
                return false;
            }
            // "strace: Process 123 attached with 4 threads", or it has ended meanwhile:
            // "strace: attach: ptrace(PTRACE_SEIZE, 123): No such process"
            left.retain(|process| {
                ![format!("Process {process} attached"), format!(", {process}): No such process")]
                    .iter()
                    .any(|end| line.contains(end))
            });
            if left.is_empty() {
                return true;
            }
        }
        false
    };
    let attached = timeout(TIMEOUT, attached).await.map_err(|_| "strace does not attach")?;
    // It tells of each process that begins, too.
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    Ok(attached.then_some(tracer))
}

async fn detach(mut tracer: Child) -> Result<(), Error> {
    signal("INT", Some(tracer.id().ok_or("strace ended by itself")?)).await?;
    timeout(TIMEOUT, tracer.wait()).await.map_err(|_| "strace does not detach")??;
    Ok(())
}

/// For each response: of the server's log, the write that holds the event must have been over when a sync
/// began that ended before the response.
fn check(calls: &[Call], responses: &[Response]) -> Vec<String> {
    let log: Vec<&Call> = calls.iter().filter(|call| call.file.contains("/pg_wal/")).collect();
    let check = |Response { uuid, started }: &Response| {
        // A record or page header in the log may split one half of the uuid, but not both.
        let (first, second) = uuid.as_bytes().split_at(18.min(uuid.len()));
        let holds = |call: &&&Call| contains(&call.data, first) || contains(&call.data, second);
        let Some(write) = log.iter().filter(|call| call.name.starts_with("pwrite")).find(holds) else {
            return Some(format!("{uuid} was acknowledged, and never written to the log"));
        };
        let syncs = log.iter().filter(|call| matches!(call.name.as_str(), "fsync" | "fdatasync"));
        let mut covering = syncs.filter(|sync| sync.file == write.file && sync.started > write.ended);
        let synced = covering.any(|sync| sync.ended < *started);
        (!synced).then(|| format!("{uuid} was acknowledged before the log was synced"))
    };
    responses.iter().filter_map(check).collect()
}

fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|text| text[0] == part[0] && text == part)
}
