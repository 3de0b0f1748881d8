//! Killing processes proves nothing about syncing: what was written outlives them. So the server's
//! system calls are traced, and the disk is rebuilt as a loss of power would have left it.

mod disk;
mod loss;
mod order;
mod server;
mod strace;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use smartshape_fake::EventPayload;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::observed::{Observations, uuid_of};
use crate::random::Random;
use crate::server::Server;
use crate::{Error, conclude, load, print_line};
use loss::Loss;
use order::Response;
use strace::Call;

const CALLS: &str = "trace=open,openat,creat,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2,\
     sendto,sendmsg,writev,recvfrom,recvmsg";
/// Number of large events: together more than the log may hold, so that it is copied into the file and begun anew.
const LARGE: usize = 36;
const SMALL: usize = 36;
const CONCURRENCY: usize = 6;
const NOT_DURABLE: &str = "the inbox is not durable";

pub(crate) use server::run as run_on_server;

/// Traces the inbox on a file, and checks every disk that a loss of power could leave.
pub(crate) async fn run(
    binary: &Path,
    strace: &Path,
    folder: &Path,
    losses: usize,
    seed: u64,
) -> Result<(), Error> {
    let (mut random, observations) = (Random::new(seed), Arc::new(Observations::default()));
    let inbox = folder.join("traced");
    std::fs::create_dir_all(&inbox)?;
    let traces = [folder.join("trace-1"), folder.join("trace-2")];
    let mut sent = Vec::new();
    for (number, trace) in traces.iter().enumerate() {
        let command = traced(strace, trace, binary);
        let inbox_url = inbox.join("inbox.db").to_string_lossy().into_owned();
        let mut server = Server::start_unread(command, &inbox_url)?;
        let url = server.url().await?;
        // While nobody reads what it prints, the worker stays at the first large event, and bodies stay.
        sent.extend(deliver(&url, LARGE / (1 + 2 * number), SMALL, &observations, &mut random).await?);
        server.read_output(&observations);
        if number == 0 { server.stop().await? } else { server.kill().await? }
    }
    let mut calls = Vec::new();
    for trace in &traces {
        let behind = calls.last().map_or(0, |call: &Call| call.ended + 1);
        let more = strace::read(BufReader::new(File::open(trace)?))?.into_iter();
        calls.extend(more.map(|call| Call {
            started: call.started + behind,
            ended: call.ended + behind,
            ..call
        }));
    }

    let responses = responses(&calls, sent.len())?;
    let copies = copies(&calls, &responses);
    if copies == 0 {
        return Err("the log was never copied into the file, so that was not tested".into());
    }
    let mut faults = order::check(&calls, &responses);
    let expected: HashMap<&str, &EventPayload> = sent.iter().map(|event| (event.uuid(), event)).collect();
    let loss = Loss { calls: &calls, responses: &responses, expected, scratch: folder.join("rebuilt") };
    let disks = loss.check(&inbox, losses, &mut random, &mut faults).await?;
    print_line(&format!(
        "  {} deliveries were acknowledged; the log was copied into the file {copies} times",
        responses.len()
    ))?;
    print_line(&format!(
        "  {} system calls; {disks} disks rebuilt as a loss of power would leave them",
        calls.len()
    ))?;
    conclude(NOT_DURABLE, &faults)
}

/// The tracer is not the server's parent, so that signals reach the server.
fn traced(strace: &Path, trace: &Path, binary: &Path) -> Command {
    let mut command = Command::new(strace);
    command.args(["-D", "-f", "-y", "-xx", "-s", "10000000", "-e", CALLS, "-o"]).arg(trace).arg(binary);
    command
}

/// Sends events, a large one first, and returns them once all are acknowledged.
async fn deliver(
    url: &str,
    large: usize,
    small: usize,
    observations: &Arc<Observations>,
    random: &mut Random,
) -> Result<Vec<EventPayload>, Error> {
    let mut events: Vec<EventPayload> =
        (0..large + small).map(|number| load::event(random, number < large)).collect();
    for event in &events {
        observations.lock().will_send(event);
    }
    for last in (2..events.len()).rev() {
        events.swap(last, 1 + random.below(last));
    }
    let sender = load::sender();
    let (permits, mut deliveries) = (Arc::new(Semaphore::new(CONCURRENCY)), JoinSet::new());
    for event in &events {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (sender, event, url) = (sender.clone(), event.clone(), url.to_owned());
        deliveries.spawn(async move {
            let outcome = sender.deliver(&event, &url).await;
            drop(permit);
            outcome
        });
    }
    let outcomes = deliveries.join_all().await;
    match outcomes.iter().find(|outcome| !outcome.accepted()) {
        Some(outcome) => Err(outcome.to_string().into()),
        None => Ok(events),
    }
}

/// How often the log was copied into the file while deliveries came in.
fn copies(calls: &[Call], responses: &[Response]) -> usize {
    let (Some(first), Some(last)) = (responses.first(), responses.last()) else { return 0 };
    let meanwhile = calls.iter().filter(|call| call.started > first.started && call.ended < last.started);
    let to_file = meanwhile.filter(|call| call.file.ends_with("/inbox.db") && !is_network(call));
    // Written page by page, each time from some page on.
    let offsets = to_file.filter(|call| call.name == "pwrite64").map(Call::last_number);
    let (mut copies, mut before) = (0, usize::MAX);
    for offset in offsets {
        copies += usize::from(offset <= before);
        before = offset;
    }
    copies
}

/// The success responses to so many events, by the uuid at the end of what came in on the same connection.
fn responses(calls: &[Call], events: usize) -> Result<Vec<Response>, Error> {
    let (mut received, mut responses) = (HashMap::<&str, Vec<u8>>::new(), Vec::new());
    for call in calls.iter().filter(|call| call.file.starts_with("socket:") || call.file.starts_with("TCP")) {
        if call.name.starts_with("recv") {
            received.entry(&call.file).or_default().extend(&call.data);
        } else if call.data.starts_with(b"HTTP/1.1 200")
            && let Some(uuid) = received.remove(call.file.as_str()).as_deref().and_then(uuid_of)
        {
            responses.push(Response { uuid, started: call.started });
        }
    }
    responses.sort_by_key(|response| response.started);
    if responses.len() < events {
        return Err(format!("{} responses in the trace to {events} events", responses.len()).into());
    }
    Ok(responses)
}

fn is_network(call: &Call) -> bool {
    call.name.starts_with("recv") || call.name.starts_with("send") || call.name == "writev"
}
