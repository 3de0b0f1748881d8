//! Killing processes proves nothing about syncing: what was written outlives them. So the server's
//! system calls are traced, and the disk is rebuilt as a loss of power would have left it.

mod disk;
mod order;
mod strace;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smartshape_fake::EventPayload;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::book::{Book, uuid_of};
use crate::random::Random;
use crate::server::Server;
use crate::{Fault, load, say};
use disk::{Disk, Left};
use order::Answer;
use strace::Call;

const CALLS: &str = "trace=open,openat,creat,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2,\
     sendto,sendmsg,writev,recvfrom,recvmsg";
/// Together more than the log may hold, so that it is copied into the file and begun anew.
const LARGE: usize = 36;
const SMALL: usize = 36;
const AT_ONCE: usize = 6;

pub(crate) async fn run(
    binary: &Path,
    strace: &Path,
    folder: &Path,
    losses: usize,
    seed: u64,
) -> Result<(), Fault> {
    let (mut random, book) = (Random::new(seed), Arc::new(Book::default()));
    let inbox = folder.join("traced");
    std::fs::create_dir_all(&inbox)?;
    let traces = [folder.join("trace-1"), folder.join("trace-2")];
    let mut sent = Vec::new();
    for (number, trace) in traces.iter().enumerate() {
        let command = traced(strace, trace, binary);
        let place = inbox.join("inbox.db").to_string_lossy().into_owned();
        let mut server = Server::start_unread(command, &place)?;
        let url = server.url().await?;
        // While nobody reads what it prints, the worker stays at the first large event, and bodies stay.
        sent.extend(deliver(&url, LARGE / (1 + 2 * number), SMALL, &book, &mut random).await?);
        server.read_output(&book);
        if number == 0 { server.stop().await? } else { server.kill().await? }
    }
    let mut calls = Vec::new();
    for trace in &traces {
        let behind = calls.last().map_or(0, |call: &Call| call.ended + 1);
        let more = strace::read(BufReader::new(File::open(trace)?))?.into_iter();
        calls.extend(more.map(|call| Call {
            began: call.began + behind,
            ended: call.ended + behind,
            ..call
        }));
    }

    let answers = answers(&calls);
    if answers.len() < sent.len() {
        return Err(format!("{} answers in the trace to {} events", answers.len(), sent.len()).into());
    }
    let copies = copies(&calls, &answers);
    if copies == 0 {
        return Err("the log was never copied into the file, so that was not tested".into());
    }
    let mut faults = order::check(&calls, &answers);
    let expected: HashMap<&str, &EventPayload> = sent.iter().map(|event| (event.uuid(), event)).collect();
    let lying = Lying { calls: &calls, answers: &answers, expected, scratch: folder.join("rebuilt") };
    let disks = lying.check(&inbox, losses, &mut random, &mut faults).await?;
    say(&format!(
        "  {} deliveries were acknowledged; the log was copied into the file {copies} times",
        answers.len()
    ))?;
    say(&format!(
        "  {} system calls; {disks} disks rebuilt as a loss of power would leave them",
        calls.len()
    ))?;
    if faults.is_empty() {
        return Ok(());
    }
    let shown: String = faults.iter().take(20).map(|fault| format!("\n  {fault}")).collect();
    Err(format!("the inbox is not durable, {} faults:{shown}", faults.len()).into())
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
    book: &Arc<Book>,
    random: &mut Random,
) -> Result<Vec<EventPayload>, Fault> {
    let mut events: Vec<EventPayload> =
        (0..large + small).map(|number| load::event(random, number < large)).collect();
    for event in &events {
        book.pages().will_send(event);
    }
    for last in (2..events.len()).rev() {
        events.swap(last, 1 + random.below(last));
    }
    let sender = load::sender();
    let mut under_way = JoinSet::new();
    for event in &events {
        if under_way.len() == AT_ONCE {
            accepted(under_way.join_next().await)?;
        }
        let (sender, event, url) = (sender.clone(), event.clone(), url.to_owned());
        under_way.spawn(async move { sender.deliver(&event, &url).await });
    }
    while !under_way.is_empty() {
        accepted(under_way.join_next().await)?;
    }
    Ok(events)
}

type Joined = Option<Result<smartshape_fake::Outcome, tokio::task::JoinError>>;

fn accepted(outcome: Joined) -> Result<(), Fault> {
    match outcome.transpose()? {
        Some(outcome) if !outcome.accepted() => Err(outcome.to_string().into()),
        _ => Ok(()),
    }
}

/// How often the log was copied into the file while deliveries came in.
fn copies(calls: &[Call], answers: &[Answer]) -> usize {
    let (Some(first), Some(last)) = (answers.first(), answers.last()) else { return 0 };
    let under_way = calls.iter().filter(|call| call.began > first.began && call.ended < last.began);
    let to_file = under_way.filter(|call| call.file.ends_with("/inbox.db") && !of_network(call));
    // Written page by page, each time from some page on.
    let offsets = to_file.filter(|call| call.name == "pwrite64").map(Call::last_number);
    let (mut copies, mut before) = (0, usize::MAX);
    for offset in offsets {
        copies += usize::from(offset <= before);
        before = offset;
    }
    copies
}

/// The success answers, by the uuid at the end of what came in on the same connection.
fn answers(calls: &[Call]) -> Vec<Answer> {
    let (mut received, mut answers) = (HashMap::<&str, Vec<u8>>::new(), Vec::new());
    for call in calls.iter().filter(|call| call.file.starts_with("socket:") || call.file.starts_with("TCP")) {
        if call.name.starts_with("recv") {
            received.entry(&call.file).or_default().extend(&call.data);
        } else if call.data.starts_with(b"HTTP/1.1 200")
            && let Some(uuid) = received.remove(call.file.as_str()).as_deref().and_then(uuid_of)
        {
            answers.push(Answer { uuid, began: call.began });
        }
    }
    answers.sort_by_key(|answer| answer.began);
    answers
}

fn of_network(call: &Call) -> bool {
    call.name.starts_with("recv") || call.name.starts_with("send") || call.name == "writev"
}

struct Lying<'a> {
    calls: &'a [Call],
    answers: &'a [Answer],
    expected: HashMap<&'a str, &'a EventPayload>,
    scratch: PathBuf,
}

impl Lying<'_> {
    /// Goes through the trace and loses power just before each answer, and at other moments.
    async fn check(
        &self,
        inbox: &Path,
        losses: usize,
        random: &mut Random,
        faults: &mut Vec<String>,
    ) -> Result<usize, Fault> {
        let mut disk = Disk::of(inbox);
        let (mut steps, mut disks) = (Vec::with_capacity(self.calls.len() * 2), 0);
        for call in self.calls {
            steps.extend([(call.began, false, call), (call.ended, true, call)]);
        }
        steps.sort_by_key(|(line, is_end, _)| (*line, *is_end));
        let of_files = steps.iter().filter(|(.., call)| !of_network(call)).count();
        let every = (of_files / losses.max(1)).max(1);
        let mut answered = 0;
        for (line, is_end, call) in steps {
            let answering =
                !is_end && self.answers.get(answered).is_some_and(|answer| answer.began == call.began);
            if answering {
                answered += 1;
                let unsynced = disk.unsynced_names().into_iter();
                let needed = unsynced.filter(|name| matches!(*name, "inbox.db" | "inbox.db-wal"));
                faults.extend(needed.map(|name| format!("line {line}: the folder of {name} was not synced")));
            }
            let at_random = !of_network(call) && random.once_in(every);
            for (left, wanted) in [(Left::Nothing, answering), (Left::Some, at_random)] {
                if wanted {
                    disk.rebuild(&self.scratch, left, random)?;
                    self.look(answered, line, faults).await?;
                    disks += 1;
                }
            }
            if is_end { disk.end(call) } else { disk.begin(call) }
        }
        if answered < self.answers.len() {
            return Err(format!("only {answered} of {} answers were passed", self.answers.len()).into());
        }
        // Without this one, a trace that misses something would look like a loss of power.
        disk.rebuild(&self.scratch, Left::Everything, random)?;
        self.look(answered, usize::MAX, faults).await?;
        Ok(disks + 1)
    }

    /// What was answered must be there, and nothing damaged.
    async fn look(&self, answered: usize, line: usize, faults: &mut Vec<String>) -> Result<(), Fault> {
        let found = self.read().await;
        std::fs::remove_dir_all(&self.scratch)?;
        let rows = match found {
            Ok(rows) => rows,
            Err(error) => {
                faults.push(format!("power lost at line {line}: {error}"));
                return Ok(());
            }
        };
        for Answer { uuid, .. } in &self.answers[..answered] {
            let fault = match (rows.get(uuid), self.expected.get(uuid.as_str())) {
                // Handled already; its body was deleted in the same transaction.
                (Some((2, _)), _) => continue,
                (Some((_, Some(body))), Some(event)) if *body == event.to_body() => continue,
                (Some(_), _) => "has another body",
                (None, _) => "is gone",
            };
            faults.push(format!("power lost at line {line}: {uuid} was acknowledged and {fault}"));
        }
        Ok(())
    }

    async fn read(&self) -> Result<HashMap<String, (i64, Option<Vec<u8>>)>, sqlx::Error> {
        let file = self.scratch.join("inbox.db");
        if !file.exists() {
            return Ok(HashMap::new());
        }
        let mut connection =
            SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await?;
        let damage: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await?;
        if damage != "ok" {
            return Err(sqlx::Error::Protocol(damage));
        }
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = 'events'")
            .fetch_one(&mut connection)
            .await?;
        if tables == 0 {
            return Ok(HashMap::new());
        }
        let sql = "SELECT e.uuid, e.state, b.body FROM events e LEFT JOIN bodies b ON b.seq = e.seq";
        let rows: Vec<(String, i64, Option<Vec<u8>>)> =
            sqlx::query_as(sql).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(rows.into_iter().map(|(uuid, state, body)| (uuid, (state, body))).collect())
    }
}
