//! What it costs to store each delivery durably before it is acknowledged, beside what the databases can do at best.

mod bare;
mod claims;
mod engine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bare::BareLoop;
pub(crate) use engine::Engine;
use smartshape_fake::EventPayload;
use smartshape_webhook::{Delivery, EventKind, Handler as _};
use smartshape_webhook_inbox::Inbox;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::report::{Aim, Figure, p99, table};
use crate::turns::take_turns;
use crate::{Result, Run};

/// Senders that each wait for an acknowledgement before they send the next delivery, and the minimum ratio to the bare loop.
const SENDERS: [(usize, Aim); 4] =
    [(1, Aim::None), (16, Aim::None), (64, Aim::AtLeast(0.7)), (256, Aim::None)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    println!("\n## The durable inbox");
    let mut rows = Vec::new();
    for engine in Engine::all() {
        let measured = async {
            acknowledge(&engine, run.quick).await?;
            claims::measure(&engine, run.quick).await?;
            worker(&engine, run.quick).await
        };
        let measured = measured.await;
        engine.clean_up().await?;
        rows.push(measured?);
    }
    let columns = "database | concurrency 8, events/s | concurrency 64, events/s";
    table("### A worker with an empty handler", columns, &rows);
    Ok(())
}

/// Durable acknowledgements, in turns with a bare loop that has as many rows in flight.
async fn acknowledge(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, slice) = if quick { (3, 80) } else { (25, 160) };
    let slice = Duration::from_millis(slice);
    let mut rows = Vec::new();
    for (senders, aim) in SENDERS {
        let (_database, inbox) = engine.inbox().await?;
        let database = engine.database(1).await?;
        let mut bare = BareLoop::open(engine, &database.url).await?;
        let (mut rates, mut latencies, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        // Deliveries are made before the clock starts; the first round tells how many a slice needs.
        let mut stock = 8 * 1024;
        for round in 0..=rounds {
            let (rate, latency) = send(&inbox, senders, &stock_of(stock)?, slice).await?;
            let limit = bare.rate(senders, &stock_of(stock)?, slice).await?;
            stock = stock.max((rate.max(limit) * 2.0 * slice.as_secs_f64()) as usize);
            if round > 0 {
                rates.push(rate);
                latencies.push(milliseconds(latency));
                limits.push(limit);
            }
        }
        let ratio = Figure::ratio(&rates, &limits);
        rows.push(format!(
            "{senders} | {:.0} | {:.1} | {:.0} | {ratio:.2} | {}",
            Figure::from_samples(&rates),
            Figure::from_samples(&latencies),
            Figure::from_samples(&limits),
            aim.status(ratio.median),
        ));
    }
    let columns = "senders | inbox, events/s | p99, ms | bare loop, rows/s | ratio | aim";
    table(&format!("### Durable acknowledgements, {}", engine.name()), columns, &rows);
    Ok(())
}

/// Acknowledgements a second, and their p99 latency.
pub(crate) async fn send(
    inbox: &Inbox,
    senders: usize,
    stock: &[Delivery],
    slice: Duration,
) -> Result<(f64, Duration)> {
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
                latencies.push(sent.elapsed());
                if started_at.elapsed() >= slice {
                    break;
                }
            }
            Ok::<_, String>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        latencies.extend(outcome??);
    }
    let rate = latencies.len() as f64 / started_at.elapsed().as_secs_f64();
    Ok((rate, p99(&mut latencies)))
}

/// Events a second from claim to recorded completion.
async fn worker(engine: &Engine, quick: bool) -> Result<String> {
    let (_database, inbox) = engine.inbox().await?;
    let (rounds, events) = if quick { (1, 500) } else { (7, 3000) };
    let measure = async |concurrency: &mut usize| {
        send(&inbox, 250, &stock_of(events)?, Duration::MAX).await?;
        handle_all(&inbox, events, *concurrency).await
    };
    let rates = take_turns(&mut [8, 64], rounds, measure).await?;
    let [few, many] = [&rates[0], &rates[1]].map(|rates| Figure::from_samples(rates));
    Ok(format!("{} | {few:.0} | {many:.0}", engine.name()))
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
    let started_at = Instant::now();
    inbox.worker(handler).concurrency(concurrency).run(async move { all.notified().await }).await?;
    Ok(events as f64 / started_at.elapsed().as_secs_f64())
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Deliveries of ten events for each file.
pub(crate) fn stock_of(events: usize) -> Result<Vec<Delivery>> {
    deliveries(events, |number| number / 10)
}

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
