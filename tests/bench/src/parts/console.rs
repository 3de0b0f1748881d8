//! What the console costs: its pages with a million events, open pages on an idle inbox and beside a worker, and the
//! activity that it shows.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_ui::{Access, Ui, Visitor};
use tokio::task::JoinSet;

use super::inbox::{Engine, handle_all, milliseconds, send, stock_of};
use crate::report::{Aim, table};
use crate::turns::{repeat, take_turns};
use crate::{Result, Run};

const OPEN_PAGES: usize = 16;
/// The poll interval of the console's script.
const POLL_INTERVAL: Duration = Duration::from_millis(900);

const SQLITE: &str = include_str!("console/sqlite.sql");
const POSTGRES: &str = include_str!("console/postgres.sql");
/// What a process counts is not stored with these.
const SQLITE_WITHOUT: &str =
    "CREATE TRIGGER without BEFORE INSERT ON activity BEGIN SELECT RAISE(IGNORE); END";
const POSTGRES_WITHOUT: &str =
    "CREATE FUNCTION without() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER without BEFORE INSERT ON smartshape_inbox_activity FOR EACH ROW EXECUTE FUNCTION without()";

pub(crate) async fn measure(run: &Run) -> Result<()> {
    println!("\n## The console");
    Engine::measure_each(async |engine| {
        pages(engine, run.quick).await?;
        open_pages(engine, run.quick).await?;
        worker(engine, run.quick).await?;
        acknowledgements(engine, run.quick).await
    })
    .await
}

fn console(inbox: &Inbox) -> Ui {
    Ui::inbox(inbox.clone(), Access::decide(|_| Visitor::owner("ops")))
}

async fn get(ui: &Ui, query: &str) -> Result<Bytes> {
    let (head, ()) = http::Request::get(format!("/{query}")).body(())?.into_parts();
    let response = ui.respond(head, Bytes::new()).await;
    if response.status().is_success() {
        Ok(response.into_body())
    } else {
        Err(format!("{query} got {}", response.status()).into())
    }
}

async fn pages(engine: &Engine, quick: bool) -> Result<()> {
    let (events, rounds) = if quick { (20_000, 3) } else { (1_000_000, 30) };
    let (database, inbox) = engine.inbox().await?;
    let seed = engine.select(SQLITE, POSTGRES).replace("$ROWS", &events.to_string());
    database.execute(&seed).await?;
    let ui = console(&inbox);
    table(&format!("### Pages with {events} events, {}", engine.name()), "page | ms | KiB | aim");
    for (page, query) in [
        ("Overview", "?view=overview"),
        ("Overview, 14 days", "?view=overview&span=14d"),
        ("Events", "?view=events"),
        ("Events, in the middle", "?view=events&before=500000"),
        ("Dead letters", "?view=events&state=dead-letter"),
        ("dead letters of a reason", "?view=events&reason=0000000000000006"),
        ("completed", "?view=events&state=completed"),
        ("a search without a match", "?view=events&q=nothing-is-like-this"),
        ("the question before a replay of all", "?view=confirm&do=replay"),
    ] {
        let kib = get(&ui, query).await?.len() as f64 / 1024.0;
        let [time] = repeat(rounds, async || {
            let started_at = Instant::now();
            get(&ui, query).await?;
            Ok([milliseconds(started_at.elapsed())])
        })
        .await?;
        let status = Aim::AtMost(150.0).status(time.median());
        println!("| {page} | {time:.1} | {kib:.1} | {status} |");
    }
    Ok(())
}

/// The share of a core that open pages of an idle inbox take, without the network.
async fn open_pages(engine: &Engine, quick: bool) -> Result<()> {
    let time = Duration::from_secs(if quick { 3 } else { 20 });
    let (_database, inbox) = engine.inbox().await?;
    let ui = console(&inbox);
    let share = async |pages: usize| {
        let cpu_time = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime));
        let _watching: JoinSet<_> = (0..pages).map(|page| watch_overview(ui.clone(), page)).collect();
        // Each page loads once.
        tokio::time::sleep(POLL_INTERVAL * 2).await;
        let before = cpu_time()?;
        tokio::time::sleep(time).await;
        Result::Ok((cpu_time()? - before).as_secs_f64() / time.as_secs_f64() * 100.0)
    };
    let without = share(0).await?;
    let share = share(OPEN_PAGES).await? - without;
    table(
        &format!("### {OPEN_PAGES} open pages of an idle inbox, {}", engine.name()),
        "CPU, % of a core | aim",
    );
    println!("| {share:.2} | {} |", Aim::AtMost(1.0).status(share));
    Ok(())
}

/// Events a second of a worker with an empty handler, while no, one and all pages are open on the overview.
async fn worker(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, events) = if quick { (2, 1000) } else { (51, 3000) };
    let (_database, inbox) = engine.inbox().await?;
    let ui = console(&inbox);
    let mut aims = [(0, Aim::None), (1, Aim::AtLeast(0.98)), (OPEN_PAGES, Aim::None)];
    let rates = take_turns(&mut aims, rounds, async |(pages, _): &mut (usize, Aim)| {
        send(&inbox, 250, &stock_of(events)?, Duration::MAX).await?;
        let _watching: JoinSet<_> = (0..*pages).map(|page| watch_overview(ui.clone(), page)).collect();
        Ok([handle_all(&inbox, events, 64).await?])
    })
    .await?;
    let heading = format!("### A worker while overviews are open, {}", engine.name());
    table(&heading, "open pages | events/s | ratio to none | aim");
    for ((pages, aim), [rate]) in aims.iter().zip(&rates) {
        let ratio = rate.ratio_to(&rates[0][0]);
        println!("| {pages} | {rate:.0} | {ratio:.3} | {} |", aim.status(ratio.median()));
    }
    Ok(())
}

/// Asks as an open overview does, without the network, until an error.
async fn watch_overview(ui: Ui, page: usize) -> Result<()> {
    tokio::time::sleep(POLL_INTERVAL * page as u32 / OPEN_PAGES as u32).await;
    let (mut timer, mut seen) = (tokio::time::interval(POLL_INTERVAL), Bytes::new());
    loop {
        timer.tick().await;
        let tick = get(&ui, "?tick").await?;
        if tick != seen {
            get(&ui, "?view=overview").await?;
        }
        seen = tick;
    }
}

/// Durable acknowledgements of 64 senders, with and without the stored activity.
async fn acknowledgements(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, slice) = if quick { (2, 300) } else { (15, 2000) };
    let slice = Duration::from_millis(slice);
    let rates = take_turns(&mut [true, false], rounds, async |is_stored: &mut bool| {
        let (database, inbox) = engine.inbox().await?;
        if !*is_stored {
            database.execute(engine.select(SQLITE_WITHOUT, POSTGRES_WITHOUT)).await?;
        }
        // More than a slice needs.
        let (rate, _) = send(&inbox, 64, &stock_of(64 * 1024)?, slice).await?;
        Ok([rate])
    })
    .await?;
    let [[with], [without]] = [&rates[0], &rates[1]];
    let ratio = with.ratio_to(without);
    let status = Aim::AtLeast(0.97).status(ratio.median());
    let heading = format!("### Durable acknowledgements with the stored activity, {}", engine.name());
    table(&heading, "with, events/s | without, events/s | ratio | aim");
    println!("| {with:.0} | {without:.0} | {ratio:.3} | {status} |");
    Ok(())
}
