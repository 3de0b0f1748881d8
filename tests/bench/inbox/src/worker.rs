//! How fast stored events are worked off by a handler that does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bench_report::{Cell, Figure, Table, rate};
use smartshape_webhook::Delivery;
use smartshape_webhook_inbox::Inbox;
use tokio::sync::Notify;

use crate::folder::Folder;
use crate::samples::Samples;
use crate::schema::Schema;
use crate::{Outcome, Scale};

const CONCURRENCY: [usize; 2] = [8, 64];

pub(crate) async fn measure(folder: &Folder, schema: Option<&Schema>, scale: Scale) -> Outcome<Table> {
    let sqlite = Inbox::open(&folder.place("worker.db")?).await?;
    let mut rows = vec![row("SQLite", &sqlite, scale).await?];
    drop(sqlite);
    folder.forget("worker.db");
    if let Some(schema) = schema {
        schema.recreate().await?;
        rows.push(row("PostgreSQL", &Inbox::open(&schema.inbox()).await?, scale).await?);
    }
    Ok(Table {
        title: "A worker with an empty handler",
        meaning: format!(
            "Events a second, from claim to recorded completion, {} waiting at the start. The two concurrencies took \
             turns. A handler that does something takes its own time on top, as many at once as the concurrency says.",
            scale.worker_events
        ),
        columns: vec!["engine", "concurrency 8, a second", "concurrency 64, a second"],
        rows,
    })
}

async fn row(engine: &str, inbox: &Inbox, scale: Scale) -> Outcome<Vec<Cell>> {
    let samples = Samples::new()?;
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..=scale.worker_rounds {
        for (rates, concurrency) in rates.iter_mut().zip(CONCURRENCY) {
            for _ in 0..scale.worker_events / 250 {
                samples.store(inbox, 250).await?;
            }
            let measured = work_off(inbox, concurrency, scale.worker_events).await?;
            if round > 0 {
                rates.push(measured);
            }
        }
    }
    let cells = rates.map(|rates| Cell::Figure(Figure::of(rates), 0));
    Ok([Cell::Text(engine.to_owned())].into_iter().chain(cells).collect())
}

async fn work_off(inbox: &Inbox, concurrency: usize, events: usize) -> Outcome<f64> {
    let (left, all) = (Arc::new(AtomicUsize::new(events)), Arc::new(Notify::new()));
    let handler = {
        let all = Arc::clone(&all);
        move |_: Delivery| {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                all.notify_one();
            }
            async { Ok(()) }
        }
    };
    let begun = Instant::now();
    inbox.worker(handler).concurrency(concurrency).run(async move { all.notified().await }).await?;
    let measured = rate(events, begun.elapsed());
    let stats = inbox.stats().await?;
    if stats.waiting + stats.running > 0 {
        return Err("the worker left events behind".into());
    }
    Ok(measured)
}
