//! What it costs to store each delivery durably before it is acknowledged, beside what the databases can do at best.

mod bare;
mod engine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bare::BareLoop;
use engine::Engine;
use smartshape_fake::EventPayload;
use smartshape_webhook::{Delivery, EventKind, Handler as _};
use smartshape_webhook_inbox::Inbox;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::report::{Aim, Samples, table};
use crate::turns::{repeat, take_turns};
use crate::{Result, Run};

/// Senders that each wait for an acknowledgement before they send the next delivery, and the minimum ratio to the bare
/// loop.
const SENDERS: [(usize, Aim); 4] =
    [(1, Aim::None), (16, Aim::None), (64, Aim::AtLeast(0.7)), (256, Aim::None)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    println!("\n## The durable inbox");
    Engine::measure_each(async |engine| {
        acknowledge(engine, run.quick).await?;
        worker(engine, run.quick).await
    })
    .await
}

/// Durable acknowledgements, in turns with a bare loop that has as many rows in flight.
async fn acknowledge(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, slice) = if quick { (3, 80) } else { (25, 160) };
    let slice = Duration::from_millis(slice);
    let columns = "senders | inbox, events/s | p99, ms | bare loop, rows/s | ratio | aim";
    table(&format!("### Durable acknowledgements, {}", engine.name()), columns);
    for (senders, aim) in SENDERS {
        let (_database, inbox) = engine.inbox().await?;
        let database = engine.database(1).await?;
        let mut bare = BareLoop::open(engine, &database.url).await?;
        let mut round = async || {
            // More than a slice needs, made before the clock starts.
            let stock = stock_of(16 * 1024)?;
            let (rate, latencies) = send(&inbox, senders, &stock, slice).await?;
            let limit = bare.rate(senders, &stock, slice).await?;
            Ok([rate, latencies.quantile(0.99), limit])
        };
        // The first round fills caches and does not count.
        round().await?;
        let [rate, latency, limit] = repeat(rounds, round).await?;
        let ratio = rate.ratio_to(&limit);
        let status = aim.status(ratio.median());
        println!("| {senders} | {rate:.0} | {latency:.1} | {limit:.0} | {ratio:.2} | {status} |");
    }
    Ok(())
}

/// Acknowledgements a second, and their latencies in milliseconds.
async fn send(inbox: &Inbox, senders: usize, stock: &[Delivery], slice: Duration) -> Result<(f64, Samples)> {
    let stocks: Vec<_> = stock.chunks(stock.len().div_ceil(senders)).map(<[_]>::to_vec).collect();
    let started_at = Instant::now();
    let mut tasks = JoinSet::new();
    for stock in stocks {
        let inbox = inbox.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(stock.len());
            for delivery in stock {
                let sent = Instant::now();
                inbox.handle(delivery).await.map_err(|error| error.display_chain())?;
                latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
                if started_at.elapsed() >= slice {
                    break;
                }
            }
            Ok::<_, String>(latencies)
        });
    }
    let mut latencies = Samples::default();
    while let Some(outcome) = tasks.join_next().await {
        latencies.0.extend(outcome??);
    }
    let rate = latencies.0.len() as f64 / started_at.elapsed().as_secs_f64();
    Ok((rate, latencies))
}

/// Events a second from claim to recorded completion.
async fn worker(engine: &Engine, quick: bool) -> Result<()> {
    let (_database, inbox) = engine.inbox().await?;
    let (rounds, events) = if quick { (1, 500) } else { (7, 3000) };
    let rates = take_turns(&mut [8, 64], rounds, async |concurrency: &mut usize| {
        send(&inbox, 250, &stock_of(events)?, Duration::MAX).await?;
        Ok([handle_all(&inbox, events, *concurrency).await?])
    })
    .await?;
    let heading = format!("### A worker with an empty handler, {}", engine.name());
    table(&heading, "concurrency 8, events/s | concurrency 64, events/s");
    println!("| {:.0} | {:.0} |", rates[0][0], rates[1][0]);
    Ok(())
}

/// Events a second of a worker with an empty handler that handles so many.
async fn handle_all(inbox: &Inbox, events: usize, concurrency: usize) -> Result<f64> {
    let handled = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&handled);
    let handler = move |_: Delivery| {
        permits.add_permits(1);
        async { Ok(()) }
    };
    let all = async move { drop(handled.acquire_many(events as u32).await) };
    let started_at = Instant::now();
    inbox.worker(handler).concurrency(concurrency).run(all).await?;
    Ok(events as f64 / started_at.elapsed().as_secs_f64())
}

/// Samples of an uploaded file, ten for each file, each with its own uuid.
fn stock_of(events: usize) -> Result<Vec<Delivery>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let make = |_| {
        let file = format!("{:024x}", NEXT.fetch_add(1, Ordering::Relaxed) / 10);
        let event = EventPayload::sample(EventKind::FileUploaded).with_file(file);
        Ok(Delivery::for_test(event.to_body())?)
    };
    (0..events).map(make).collect()
}
