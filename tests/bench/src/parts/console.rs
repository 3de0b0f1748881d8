//! What the console costs: its pages with a million events, open pages on an idle and on a busy inbox, and the activity
//! that it shows.

use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use smartshape_webhook_inbox::Inbox;
use smartshape_webhook_ui::{Access, Ui, Visitor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::inbox::{Engine, handle_all, milliseconds, send, stock_of};
use crate::report::{Aim, Figure, table};
use crate::turns::take_turns;
use crate::{Result, Run};

const TABS: usize = 16;
/// The poll interval of the console's script.
const POLL_INTERVAL: Duration = Duration::from_millis(900);

const SQLITE: &str = "
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $ROWS)
    INSERT INTO events (version, key, state, due, attempts, file_hash, event, file, uuid, owner, received, bytes, stored, settled, error, error_group)
    SELECT 1, randomblob(16), iif(i % 200 = 0, 0, iif(i % 66 = 0, 3, 2)), 0, 1, random(), iif(i % 3 = 0, 'file_uploaded', 'annotation_updated'),
        printf('%024x', i / 10), printf('%032x', i), 'owner@example.com', (unixepoch() - ($ROWS - i)) * 1000000, 956, 0,
        iif(i % 200 = 0, NULL, 0), iif(i % 66 = 0, printf('no part %024x: %d', i, i % 12), NULL), iif(i % 66 = 0, i % 12, NULL) FROM n;
    INSERT INTO bodies SELECT seq, '{}' FROM events WHERE state <> 2;
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20160)
    INSERT INTO activity SELECT unixepoch() / 60 - i, 50, 49, 3, 1, 9000, 700, 40, 9000 FROM n;
    ANALYZE;";
const POSTGRES: &str = "
    INSERT INTO smartshape_inbox_events
        (version, key, state, due, attempts, file_hash, event, file, uuid, owner, received, bytes, settled, error, error_group)
    SELECT 1, decode(md5(i::text), 'hex'), CASE WHEN i % 200 = 0 THEN 0 WHEN i % 66 = 0 THEN 3 ELSE 2 END, now(), 1, hashint8(i),
        CASE WHEN i % 3 = 0 THEN 'file_uploaded' ELSE 'annotation_updated' END, lpad(to_hex(i / 10), 24, '0'), md5(i::text), 'owner@example.com',
        (extract(epoch FROM now())::bigint - ($ROWS - i)) * 1000000, 956, CASE WHEN i % 200 <> 0 THEN now() END,
        CASE WHEN i % 66 = 0 THEN format('no part %s: %s', md5(i::text), i % 12) END, CASE WHEN i % 66 = 0 THEN i % 12 END
        FROM generate_series(1, $ROWS) i;
    INSERT INTO smartshape_inbox_bodies SELECT seq, '{}' FROM smartshape_inbox_events WHERE state <> 2;
    INSERT INTO smartshape_inbox_activity
        SELECT extract(epoch FROM now())::bigint / 60 - i, 50, 49, 3, 1, 9000, 700, 40, 9000 FROM generate_series(0, 20160) i;
    VACUUM ANALYZE;";
/// What a process counts is not stored with these.
const SQLITE_WITHOUT: &str =
    "CREATE TRIGGER without BEFORE INSERT ON activity BEGIN SELECT RAISE(IGNORE); END";
const POSTGRES_WITHOUT: &str =
    "CREATE FUNCTION without() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER without BEFORE INSERT ON smartshape_inbox_activity FOR EACH ROW EXECUTE FUNCTION without()";

pub(crate) async fn measure(run: &Run) -> Result<()> {
    println!("\n## The console");
    for engine in Engine::all() {
        let measured = async {
            pages(&engine, run.quick).await?;
            open_pages(&engine, run.quick).await?;
            worker(&engine, run.quick).await?;
            acknowledgements(&engine, run.quick).await
        };
        let measured = measured.await;
        engine.clean_up().await?;
        measured?;
    }
    Ok(())
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
    let mut rows = Vec::new();
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
        let (mut times, mut bytes) = (Vec::new(), 0);
        for round in 0..=rounds {
            let started_at = Instant::now();
            bytes = get(&ui, query).await?.len();
            if round > 0 {
                times.push(milliseconds(started_at.elapsed()));
            }
        }
        let time = Figure::from_samples(&times);
        let (kib, status) = (bytes as f64 / 1024.0, Aim::AtMost(150.0).status(time.median));
        rows.push(format!("{page} | {time:.1} | {kib:.1} | {status}"));
    }
    let heading = format!("### Pages with {events} events, {}", engine.name());
    table(&heading, "page | ms | KiB | aim", &rows);
    Ok(())
}

/// CPU time of this process so far, of its threads that have ended, too.
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which is in parentheses: the state, ten fields, and ticks of 10 ms in user and kernel mode.
    let fields = stat.rsplit_once(") ").ok_or("an unexpected /proc/self/stat")?.1.split(' ').skip(11).take(2);
    let ticks = fields.map(str::parse::<u64>).sum::<std::result::Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Asks over HTTP as open pages do, until `stop`. Returns the looks a second.
async fn poll_as_open_pages(ui: &Ui, stop: Duration) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server =
        tokio::spawn(axum::serve(listener, Router::new().route_service("/", ui.clone())).into_future());
    let mut tabs = JoinSet::new();
    for tab in 0..TABS as u32 {
        tabs.spawn(async move {
            let mut ticks = Vec::new();
            let mut stream = TcpStream::connect(address).await?;
            let end = Instant::now() + stop;
            tokio::time::sleep(POLL_INTERVAL * tab / TABS as u32).await;
            let mut timer = tokio::time::interval(POLL_INTERVAL);
            while Instant::now() < end {
                timer.tick().await;
                stream.write_all(b"GET /?tick HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await?;
                let mut response = [0; 2048];
                let length = stream.read(&mut response).await?;
                let response = String::from_utf8_lossy(&response[..length]).into_owned();
                ticks.extend(
                    response.split_once("\r\n\r\n").map(|(_, tick)| (tick.to_owned(), Instant::now())),
                );
            }
            std::io::Result::Ok(ticks)
        });
    }
    let mut seen = Vec::new();
    while let Some(ticks) = tabs.join_next().await {
        seen.extend(ticks??);
    }
    server.abort();
    seen.sort();
    // The first to see a tick made the console look.
    seen.dedup_by(|later, earlier| later.0 == earlier.0);
    let mut times: Vec<_> = seen.into_iter().map(|(_, at)| at).collect();
    times.sort();
    // The first tick may be of a look before.
    let [_, first, between @ .., last] = times.as_slice() else { return Ok(0.0) };
    Ok((between.len() + 1) as f64 / (*last - *first).as_secs_f64())
}

async fn open_pages(engine: &Engine, quick: bool) -> Result<()> {
    let time = Duration::from_secs(if quick { 3 } else { 20 });
    let (_database, inbox) = engine.inbox().await?;
    let ui = console(&inbox);
    let share = async |watched: bool| {
        let before = cpu_time()?;
        if watched {
            poll_as_open_pages(&ui, time).await?;
        } else {
            tokio::time::sleep(time).await;
        }
        Result::Ok((cpu_time()? - before).as_secs_f64() / time.as_secs_f64() * 100.0)
    };
    let idle = share(false).await?;
    let watched = share(true).await?;
    let looks = tokio::select! {
        looks = poll_as_open_pages(&ui, time) => looks?,
        failed = keep_storing(&inbox) => failed?,
    };
    let aim = Aim::AtMost(1.0);
    let row = |what: &str, measured: f64| format!("{what} | {measured:.2} | {}", aim.status(measured));
    let rows = [
        row("CPU of an idle inbox, % of a core, with the pages' own side", watched - idle),
        row("looks at the database a second, while it changes", looks),
    ];
    table(&format!("### {TABS} open pages, {}", engine.name()), "what | measured | aim", &rows);
    Ok(())
}

/// Stores events until an error, so that each look sees another number of them.
async fn keep_storing(inbox: &Inbox) -> Result<f64> {
    loop {
        send(inbox, 1, &stock_of(1)?, Duration::MAX).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Events a second of a worker with an empty handler, while no, one and all pages are open on the overview.
async fn worker(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, events) = if quick { (2, 1000) } else { (51, 3000) };
    let (_database, inbox) = engine.inbox().await?;
    let ui = console(&inbox);
    let aims = [(0, Aim::None), (1, Aim::AtLeast(0.98)), (TABS, Aim::None)];
    let rates = take_turns(&mut aims.clone(), rounds, async |(pages, _): &mut (usize, Aim)| {
        send(&inbox, 250, &stock_of(events)?, Duration::MAX).await?;
        let _watching: JoinSet<_> = (0..*pages).map(|page| watch_overview(ui.clone(), page)).collect();
        handle_all(&inbox, events, 64).await
    })
    .await?;
    let rows = aims.iter().zip(&rates).map(|((pages, aim), measured)| {
        let ratio = Figure::ratio(measured, &rates[0]);
        let (rate, status) = (Figure::from_samples(measured), aim.status(ratio.median));
        format!("{pages} | {rate:.0} | {ratio:.3} | {status}")
    });
    let heading = format!("### A worker while overviews are open, {}", engine.name());
    table(&heading, "open pages | events/s | ratio to none | aim", &rows.collect::<Vec<_>>());
    Ok(())
}

/// Asks as an open overview does, without the network, until an error.
async fn watch_overview(ui: Ui, page: usize) {
    tokio::time::sleep(POLL_INTERVAL * page as u32 / TABS as u32).await;
    let (mut timer, mut seen) = (tokio::time::interval(POLL_INTERVAL), Bytes::new());
    loop {
        timer.tick().await;
        let Ok(tick) = get(&ui, "?tick").await else { return };
        if tick != seen && get(&ui, "?view=overview").await.is_err() {
            return;
        }
        seen = tick;
    }
}

/// Durable acknowledgements of 64 senders, with and without the stored activity.
async fn acknowledgements(engine: &Engine, quick: bool) -> Result<()> {
    let (rounds, slice) = if quick { (2, 300) } else { (15, 2000) };
    let slice = Duration::from_millis(slice);
    let mut stock = 16 * 1024;
    let rates = take_turns(&mut [true, false], rounds, async |is_stored: &mut bool| {
        let (database, inbox) = engine.inbox().await?;
        if !*is_stored {
            database.execute(engine.select(SQLITE_WITHOUT, POSTGRES_WITHOUT)).await?;
        }
        let (rate, _) = send(&inbox, 64, &stock_of(stock)?, slice).await?;
        stock = stock.max((rate * 2.0 * slice.as_secs_f64()) as usize);
        Ok(rate)
    })
    .await?;
    let ratio = Figure::ratio(&rates[0], &rates[1]);
    let status = Aim::AtLeast(0.97).status(ratio.median);
    let [with, without] = [&rates[0], &rates[1]].map(|rates| Figure::from_samples(rates));
    let heading = format!("### Durable acknowledgements with the stored activity, {}", engine.name());
    let row = format!("{with:.0} | {without:.0} | {ratio:.3} | {status}");
    table(&heading, "with, events/s | without, events/s | ratio | aim", &[row]);
    Ok(())
}
