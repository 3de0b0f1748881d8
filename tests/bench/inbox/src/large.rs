//! A large store, in a process of its own for the sake of its memory, beside a small one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench_report::{Cell, Figure, Table, milliseconds, resident_bytes};
use serde_json::{Value, json};
use smartshape_webhook::Delivery;
use smartshape_webhook::Handler as _;
use smartshape_webhook_inbox::{EventFilter, Inbox};

use crate::folder::Folder;
use crate::samples::Samples;
use crate::{Outcome, Scale};

/// The word by which this program tells itself to measure a large store.
pub(crate) const COMMAND: &str = "large";
const SMALL: usize = 1000;
const REPEATED: usize = 21;
const CLAIMED: usize = 64;
const BATCH: usize = 2500;

const OPERATIONS: [&str; 6] = [
    "open, ms",
    "store one, ms",
    "start 64 attempts, ms",
    "start 64 attempts in order, ms",
    "release 64, ms",
    "stats, ms",
];
const SIZES: [&str; 3] = ["file, MiB", "bytes in use for each event", "resident memory, MiB"];

pub(crate) fn measure(folder: &Folder, scale: Scale) -> Outcome<Table> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg(folder.path()).arg(scale.stored_events.to_string()).stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err("the large store could not be measured".into());
    }
    let measured: Value = serde_json::from_slice(&output.stdout)?;
    let cell = |column: &str, what: &str| {
        let samples: Vec<f64> =
            measured[column][what].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        if samples.is_empty() {
            Cell::Nothing
        } else {
            Cell::Figure(Figure::of(samples), if what.ends_with("ms") { 2 } else { 0 })
        }
    };
    let row = |what: &str| {
        [Cell::Text(what.to_owned())].into_iter().chain(COLUMNS.map(|column| cell(column, what))).collect()
    };
    Ok(Table {
        title: "A large store, SQLite",
        meaning: format!(
            "{SMALL} events, {0} events, and {0} events that were completed and of which the tombstones are left, with \
             {SMALL} waiting. The small and the large store took turns; {REPEATED} times each. Stats count what waits, so they \
             take longer the more there is; deliveries need not wait for them. A worker sweeps before its first claim, \
             which looks through the tombstones for bodies that are to be kept no longer. Space that completed events leave behind stays \
             with the file and is filled again. The memory is that of a process that filled the store and measured all this.",
            scale.stored_events
        ),
        columns: vec!["what", "small", "all waiting", "tombstones"],
        rows: OPERATIONS.iter().chain(&SIZES).map(|what| row(what)).collect(),
    })
}

const COLUMNS: [&str; 3] = ["small", "waiting", "tombstones"];

/// What the process for the large store does.
pub(crate) async fn run_here(folder: &str, events: &str) -> Outcome<()> {
    let (folder, events) = (Path::new(folder), events.parse()?);
    let (small, large) = (folder.join("small.db"), folder.join("large.db"));
    let samples = Samples::new()?;
    fill(&small, &samples, SMALL).await?;
    fill(&large, &samples, events).await?;
    let mut measured = json!({});
    let both = [(COLUMNS[0], small.as_path()), (COLUMNS[1], large.as_path())];
    measure_both(&mut measured, both, &samples).await?;
    measured[COLUMNS[1]]["resident memory, MiB"] = json!(resident_mib());
    sizes(&mut measured[COLUMNS[1]], &large, events).await?;
    complete_all(&large).await?;
    fill(&large, &samples, SMALL).await?;
    measure_both(&mut measured, [both[0], (COLUMNS[2], large.as_path())], &samples).await?;
    measured[COLUMNS[2]]["resident memory, MiB"] = json!(resident_mib());
    sizes(&mut measured[COLUMNS[2]], &large, events).await?;
    println!("{measured}");
    Ok(())
}

async fn open(path: &Path) -> Outcome<Inbox> {
    Ok(Inbox::open(path.to_str().ok_or("the folder's name is not UTF-8")?).await?)
}

async fn fill(path: &Path, samples: &Samples, events: usize) -> Outcome<()> {
    let inbox = open(path).await?;
    let mut left = events;
    while left > 0 {
        let batch = left.min(BATCH);
        samples.store(&inbox, batch).await?;
        left -= batch;
    }
    Ok(())
}

/// Leaves tombstones.
async fn complete_all(path: &Path) -> Outcome<()> {
    let inbox = open(path).await?;
    let (mut after, slice) = (0, 20_000);
    loop {
        inbox.purge(EventFilter::default().after(after).limit(slice)).await?;
        after += i64::from(slice);
        if inbox.list(EventFilter::default().after(after).limit(1)).await?.is_empty() {
            return Ok(());
        }
    }
}

async fn measure_both(measured: &mut Value, stores: [(&str, &Path); 2], samples: &Samples) -> Outcome<()> {
    for _ in 0..REPEATED {
        for (column, path) in stores {
            let times = measure_one(path, samples).await?;
            for (what, time) in OPERATIONS.iter().zip(times) {
                let list = &mut measured[column][*what];
                match list.as_array_mut() {
                    Some(list) => list.push(json!(milliseconds(time))),
                    None => *list = json!([milliseconds(time)]),
                }
            }
        }
    }
    Ok(())
}

/// One time for each of the operations.
async fn measure_one(path: &Path, samples: &Samples) -> Outcome<[Duration; OPERATIONS.len()]> {
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
    let inbox = open(path).await?;
    let opened = lap();
    let delivery = samples.delivery()?;
    lap();
    inbox.handle(delivery).await.map_err(|error| error.chain())?;
    let stored = lap();
    let (plain, released) = attempts(&inbox, false).await?;
    let (ordered, _) = attempts(&inbox, true).await?;
    lap();
    inbox.stats().await?;
    Ok([opened, stored, plain, ordered, released, lap()])
}

/// How long a worker takes to start attempts, and then to release them at its shutdown.
async fn attempts(inbox: &Inbox, ordered: bool) -> Outcome<(Duration, Duration)> {
    let (sender, mut started) = tokio::sync::mpsc::unbounded_channel();
    let worker = inbox.worker(move |_: Delivery| {
        let sent = sender.send(());
        async move {
            sent?;
            std::future::pending().await
        }
    });
    let worker = worker.concurrency(CLAIMED).shutdown_timeout(Duration::ZERO);
    let begun = Instant::now();
    let worker = if ordered { worker.ordered_by_file() } else { worker }.spawn();
    for _ in 0..CLAIMED {
        started.recv().await.ok_or("the worker has ended")?;
    }
    let starting = begun.elapsed();
    worker.shutdown().await?;
    Ok((starting, begun.elapsed() - starting))
}

async fn sizes(measured: &mut Value, path: &Path, events: usize) -> Outcome<()> {
    let stats = open(path).await?.stats().await?;
    let bytes = std::fs::metadata(path)?.len();
    measured["file, MiB"] = json!([bytes as f64 / 1024.0 / 1024.0]);
    measured["bytes in use for each event"] = json!([stats.disk_bytes as f64 / events as f64]);
    Ok(())
}

/// Of this process; a list, for it may be unknown.
fn resident_mib() -> Vec<f64> {
    resident_bytes(std::process::id()).map(|bytes| bytes as f64 / (1024.0 * 1024.0)).into_iter().collect()
}
