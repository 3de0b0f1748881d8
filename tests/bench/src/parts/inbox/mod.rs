//! What it costs to store each delivery durably before it is acknowledged, beside what the databases can do at best.

mod bare;
mod claims;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bare::BareLoop;
pub(crate) use bare::Schema;
use smartshape_fake::EventPayload;
use smartshape_webhook::{Delivery, EventKind, Handler as _};
use smartshape_webhook_inbox::Inbox;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::report::{Aim, Figure, heading, number, p99, table};
use crate::{Result, Run};

/// Senders that each wait for an acknowledgement before they send the next delivery.
const SENDERS: [usize; 4] = [1, 16, 64, 256];
/// Ratio to the bare loop, with this many senders.
const AIM: (usize, Aim) = (64, Aim::AtLeast(0.7));
const CONCURRENCY: [usize; 2] = [8, 64];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let folder = Folder::new()?;
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let schema = url.map(|url| Schema { url });
    heading("## The durable inbox");
    let measured = async {
        acknowledge(&folder, None, run.quick).await?;
        claims::measure(&folder, None, run.quick).await?;
        let mut rows = vec![worker(&folder, None, run.quick).await?];
        if let Some(schema) = &schema {
            acknowledge(&folder, Some(schema), run.quick).await?;
            claims::measure(&folder, Some(schema), run.quick).await?;
            rows.push(worker(&folder, Some(schema), run.quick).await?);
        }
        heading("### A worker with an empty handler");
        table("database | concurrency 8, events/s | concurrency 64, events/s", &rows);
        Result::Ok(())
    };
    let measured = measured.await;
    if let Some(schema) = &schema {
        schema.drop_all().await?;
    }
    measured
}

/// Durable acknowledgements, in turns with a bare loop that has as many rows in flight. On SQLite without a schema.
async fn acknowledge(folder: &Folder, schema: Option<&Schema>, quick: bool) -> Result<()> {
    let (rounds, slice) = if quick { (3, 80) } else { (25, 160) };
    let slice = Duration::from_millis(slice);
    let mut rows = Vec::new();
    for senders in SENDERS {
        let inbox = open(folder, schema).await?;
        let mut bare = BareLoop::open(&folder.0.path().join("bare.db"), schema).await?;
        let (mut ours, mut latencies, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        // Deliveries are made before the clock starts; the first round tells how many a slice needs.
        let mut stock = 8 * 1024;
        for round in 0..=rounds {
            let (rate, latency) = send(&inbox, senders, stock, slice).await?;
            let limit = bare.rate(senders, &deliveries(stock, TEN_FOR_EACH_FILE)?, slice).await?;
            stock = stock.max((rate.max(limit) * 2.0 * slice.as_secs_f64()) as usize);
            if round > 0 {
                ours.push(rate);
                latencies.push(milliseconds(latency));
                limits.push(limit);
            }
        }
        let ratio = Figure::ratio(&ours, &limits);
        rows.push(vec![
            number(senders as f64, 0),
            Figure::from_samples(ours).show(0),
            Figure::from_samples(latencies).show(1),
            Figure::from_samples(limits).show(0),
            ratio.show(2),
            if senders == AIM.0 { AIM.1.status(ratio.median) } else { "–".to_owned() },
        ]);
    }
    heading(&format!("### Durable acknowledgements, {}", name(schema)));
    table("senders | inbox, events/s | p99, ms | bare loop, rows/s | ratio | aim", &rows);
    Ok(())
}

/// Acknowledgements a second, and their p99 latency.
pub(crate) async fn send(
    inbox: &Inbox,
    senders: usize,
    stock: usize,
    slice: Duration,
) -> Result<(f64, Duration)> {
    let stocks =
        (0..senders).map(|_| deliveries(stock / senders, TEN_FOR_EACH_FILE)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for stock in stocks {
        let inbox = inbox.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(stock.len());
            let mut stock = stock.into_iter();
            for delivery in stock.by_ref() {
                let sent = Instant::now();
                inbox.handle(delivery).await.map_err(|error| error.display_chain())?;
                latencies.push(sent.elapsed());
                if begun.elapsed() >= slice {
                    break;
                }
            }
            // The rest is dropped after the clock has stopped.
            Ok::<_, String>((latencies, stock))
        });
    }
    let (mut latencies, mut rest) = (Vec::new(), Vec::new());
    while let Some(outcome) = tasks.join_next().await {
        let (measured, stock) = outcome??;
        latencies.extend(measured);
        rest.push(stock);
    }
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    Ok((rate, p99(&mut latencies)))
}

/// Events a second from claim to recorded completion; the two concurrencies take turns.
async fn worker(folder: &Folder, schema: Option<&Schema>, quick: bool) -> Result<Vec<String>> {
    let inbox = open(folder, schema).await?;
    let (rounds, events) = if quick { (1, 500) } else { (7, 3000) };
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for (rates, concurrency) in rates.iter_mut().zip(CONCURRENCY) {
            send(&inbox, 250, events, Duration::MAX).await?;
            let rate = handle_all(&inbox, events, concurrency).await?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let figures = rates.map(|rates| Figure::from_samples(rates).show(0));
    Ok([name(schema).to_owned()].into_iter().chain(figures).collect())
}

/// Events a second of a worker with an empty handler that handles so many.
pub(crate) async fn handle_all(inbox: &Inbox, events: usize, concurrency: usize) -> Result<f64> {
    let left = AtomicUsize::new(events);
    let all = Arc::new(Notify::new());
    let done = Arc::clone(&all);
    let handler = move |_: Delivery| {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            done.notify_one();
        }
        async { Ok(()) }
    };
    let begun = Instant::now();
    inbox.worker(handler).concurrency(concurrency).run(async move { all.notified().await }).await?;
    Ok(events as f64 / begun.elapsed().as_secs_f64())
}

/// An empty inbox.
pub(crate) async fn open(folder: &Folder, schema: Option<&Schema>) -> Result<Inbox> {
    let path = folder.empty()?.join("inbox.db");
    if let Some(schema) = schema {
        schema.recreate().await?;
        return Ok(Inbox::open(&schema.inbox()).await?);
    }
    Ok(Inbox::open(path.to_str().ok_or("the folder's name is not UTF-8")?).await?)
}

pub(crate) fn name(schema: Option<&Schema>) -> &'static str {
    if schema.is_some() { "PostgreSQL" } else { "SQLite" }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

const TEN_FOR_EACH_FILE: fn(u64) -> u64 = |number| number / 10;

/// Samples of an uploaded file, each with its own uuid; `file` gives the file's number for each event's number.
fn deliveries(count: usize, file: impl Fn(u64) -> u64) -> Result<Vec<Delivery>> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let sample = EventPayload::exact_sample(EventKind::FileUploaded);
    let text = String::from_utf8(sample.to_body().to_vec())?;
    let delivery = Delivery::for_test(sample.to_body())?;
    let make = |_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let uuid = format!("{:08x}-c1ed-49b5-9585-{number:012x}", std::process::id());
        let file = format!("{:024x}", file(number));
        let body = text.replace(delivery.uuid(), &uuid).replace(delivery.file().as_str(), &file);
        Ok(Delivery::for_test(body)?)
    };
    (0..count).map(make).collect()
}

/// A folder that is deleted at the end. It lies beside this program, since the system's own may be in memory.
pub(crate) struct Folder(TempDir);

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let program = std::env::current_exe()?;
        let beside = program.parent().ok_or("the program is in no folder")?;
        Ok(Self(tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?))
    }

    /// Each inbox gets the disk's cache to itself, and another folder than those before it: SQLite deletes the log when the
    /// last connection is closed, which happens after an inbox is dropped, and would delete the log of a file that has
    /// taken its place.
    fn empty(&self) -> Result<PathBuf> {
        let _ = std::fs::remove_dir_all(self.0.path());
        let folder = self.0.path().join(FOLDERS.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The file of the inbox that was opened last.
    pub(crate) fn newest(&self) -> PathBuf {
        self.0.path().join((FOLDERS.load(Ordering::Relaxed) - 1).to_string()).join("inbox.db")
    }
}
