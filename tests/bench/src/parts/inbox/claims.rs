//! How long the next event of an ordered worker takes to start, as the backlog grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smartshape_webhook::{Delivery, HandlerError};
use smartshape_webhook_inbox::{Inbox, WorkerHandle};
use tokio::sync::{Semaphore, mpsc};

use super::engine::Engine;
use super::{deliveries, milliseconds, send};
use crate::Result;
use crate::report::{Aim, Figure, table};
use crate::turns::take_turns;

/// Maximum ratio to the smallest backlog.
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

pub(super) async fn measure(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, many) = if quick { (5, 10_000) } else { (60, 100_000) };
    let (mut databases, mut backlogs) = (Vec::new(), Vec::new());
    for (number, (events, files)) in [(10, 10), (1000, 1000), (many, many), (many, 1)].into_iter().enumerate()
    {
        let database = engine.database(number).await?;
        backlogs.push(Backlog::open(&database.url, events, files as u64).await?);
        databases.push(database);
    }
    let times = take_turns(&mut backlogs, rounds, async |backlog: &mut Backlog| backlog.step().await).await?;
    let rows = backlogs.iter().zip(&times).map(|(Backlog { events, files, .. }, measured)| {
        let ratio = Figure::ratio(measured, &times[0]);
        let status = AIM.status(ratio.median);
        format!("{events} | {files} | {:.1} | {ratio:.2} | {status}", Figure::from_samples(measured))
    });
    let heading = format!("### From one event's end to the next one's start, {}", engine.name());
    let columns = "waiting events | files | ms for each event | ratio to 10 | aim";
    table(&heading, columns, &rows.collect::<Vec<_>>());
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
        let started_at = Instant::now();
        for _ in 0..STEPS {
            self.permits.add_permits(1);
            self.started.recv().await.ok_or("the worker ended")?;
        }
        Ok(milliseconds(started_at.elapsed()) / STEPS as f64)
    }
}

/// Stores events, distributed over the files.
async fn store(inbox: &Inbox, events: usize, files: u64) -> Result<()> {
    send(inbox, 256, &deliveries(events, |number| number % files)?, Duration::MAX).await.map(drop)
}
