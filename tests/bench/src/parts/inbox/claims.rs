//! How long the next event of an ordered worker takes to start, as the backlog grows.

use std::sync::Arc;
use std::time::Instant;

use smartshape_webhook::{Delivery, Handler as _, HandlerError};
use smartshape_webhook_inbox::{Inbox, WorkerHandle};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::bare::Schema;
use super::{Folder, deliveries, milliseconds, name};
use crate::Result;
use crate::report::{Aim, Figure, heading, number, table};

/// Ratio to the smallest backlog.
const AIM: Aim = Aim::AtMost(2.0);
/// Events that are recorded and claimed in a row, one after the other.
const STEPS: usize = 8;

/// An inbox whose backlog stays the same, and a worker whose handler waits for a permit.
struct Backlog {
    events: usize,
    files: u64,
    inbox: Inbox,
    permits: Arc<Semaphore>,
    started: mpsc::UnboundedReceiver<()>,
    worker: WorkerHandle,
}

/// The backlogs take turns, so that a busy machine slows down all of them. On SQLite without a schema.
pub(super) async fn measure(folder: &Folder, schema: Option<&Schema>, quick: bool) -> Result<()> {
    let (rounds, many) = if quick { (5, 10_000) } else { (60, 100_000) };
    let folder = folder.empty()?;
    let mut backlogs = Vec::new();
    for (place, (events, files)) in [(10, 10), (1000, 1000), (many, many), (many, 1)].into_iter().enumerate()
    {
        let url = match schema {
            Some(schema) => schema.recreate_backlog(place).await?,
            None => folder.join(format!("{place}.db")).to_str().ok_or("the path is not UTF-8")?.to_owned(),
        };
        backlogs.push(Backlog::open(&url, events, files as u64).await?);
    }
    let mut times = vec![Vec::new(); backlogs.len()];
    for _ in 0..rounds {
        for (times, backlog) in times.iter_mut().zip(&mut backlogs) {
            times.push(backlog.step().await?);
        }
    }
    let rows = backlogs.iter().zip(&times).map(|(backlog, measured)| {
        let ratio = Figure::ratio(measured, &times[0]);
        vec![
            number(backlog.events as f64, 0),
            number(backlog.files as f64, 0),
            Figure::from_samples(measured.clone()).show(1),
            ratio.show(2),
            AIM.status(ratio.median),
        ]
    });
    heading(&format!("### From one event's end to the next one's start, {}", name(schema)));
    table("waiting events | files | ms for each event | ratio to 10 | aim", &rows.collect::<Vec<_>>());
    for backlog in backlogs {
        backlog.permits.close();
        backlog.worker.shutdown().await?;
    }
    Ok(())
}

impl Backlog {
    async fn open(url: &str, events: usize, files: u64) -> Result<Self> {
        let inbox = Inbox::open(url).await?;
        let permits = Arc::new(Semaphore::new(0));
        let (sender, started) = mpsc::unbounded_channel();
        let permit = Arc::clone(&permits);
        let handler = move |_: Delivery| {
            let (sent, permit) = (sender.send(()), Arc::clone(&permit));
            async move {
                sent?;
                permit.acquire().await?.forget();
                Ok::<_, HandlerError>(())
            }
        };
        store(&inbox, events, files).await?;
        let worker = inbox.worker(handler).ordered_by_file().concurrency(1).spawn();
        let mut backlog = Self { events, files, inbox, permits, started, worker };
        backlog.started.recv().await.ok_or("the worker ended")?;
        Ok(backlog)
    }

    /// Milliseconds for each event.
    async fn step(&mut self) -> Result<f64> {
        store(&self.inbox, STEPS, self.files).await?;
        let begun = Instant::now();
        for _ in 0..STEPS {
            self.permits.add_permits(1);
            self.started.recv().await.ok_or("the worker ended")?;
        }
        Ok(milliseconds(begun.elapsed()) / STEPS as f64)
    }
}

/// Stores events, distributed over the files.
async fn store(inbox: &Inbox, events: usize, files: u64) -> Result<()> {
    const SENDERS: usize = 256;
    let mut tasks = JoinSet::new();
    let all = deliveries(events, |number| number % files)?;
    for part in all.chunks(events.div_ceil(SENDERS)) {
        let (inbox, part) = (inbox.clone(), part.to_vec());
        tasks.spawn(async move {
            for delivery in part {
                inbox.handle(delivery).await.map_err(|error| error.display_chain())?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(stored) = tasks.join_next().await {
        stored??;
    }
    Ok(())
}
