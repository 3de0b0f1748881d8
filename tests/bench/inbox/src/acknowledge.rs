//! Durable acknowledgements through the inbox, in turns with a bare loop of group commits.

use std::time::{Duration, Instant};

use bench_report::{Aim, Cell, Figure, Table, milliseconds, p99, rate};
use smartshape_webhook::{Delivery, Handler as _};
use smartshape_webhook_inbox::Inbox;
use tokio::task::JoinSet;

use crate::bare_postgres::BarePostgres;
use crate::bare_sqlite::BareSqlite;
use crate::folder::Folder;
use crate::samples::Samples;
use crate::schema::Schema;
use crate::{Outcome, Scale};

/// As many as the inbox uses at once for storing.
const CONNECTIONS: usize = 4;
const ASKERS: [usize; 4] = [1, 16, 64, 256];
/// The least ratio that we aim at, and where.
const AIM: (usize, Aim) = (64, Aim::AtLeast(0.7));
/// Deliveries are made before the clock starts. Where they are used up, a side ends earlier.
const FIRST_STOCK: usize = 8 * 1024;

/// What a bare loop commits.
#[derive(Clone, Copy)]
struct Groups {
    size: usize,
    connections: usize,
}

/// The engine's own limit.
trait Bare {
    /// Commits groups until the time is over. Returns how many rows a second.
    async fn rate(
        &mut self,
        samples: &Samples,
        groups: Groups,
        stock: usize,
        slice: Duration,
    ) -> Outcome<f64>;
}

pub(crate) async fn on_sqlite(folder: &Folder, scale: Scale) -> Outcome<Table> {
    let mut rows = Vec::new();
    for askers in ASKERS {
        let inbox = Inbox::open(&folder.place("inbox.db")?).await?;
        let bare = BareSqlite::open(&folder.path().join("bare.db")).await?;
        let groups = Groups { size: askers, connections: 1 };
        rows.push(compare(&inbox, bare, askers, &[groups], scale).await?);
        drop(inbox);
        folder.forget("inbox.db");
        folder.forget("bare.db");
    }
    let loop_text = "one connection, write-ahead log, `synchronous = FULL`, one transaction for each group, \
         rows of the same columns in one statement for each table";
    Ok(table("Durable acknowledgements, SQLite", loop_text, "", &[], rows))
}

pub(crate) async fn on_postgres(schema: &Schema, scale: Scale) -> Outcome<Table> {
    let mut rows = Vec::new();
    for askers in ASKERS {
        schema.recreate().await?;
        let inbox = Inbox::open(&schema.inbox()).await?;
        let bare = BarePostgres::open(&schema.bare(), CONNECTIONS).await?;
        let as_many = Groups { size: askers, connections: CONNECTIONS };
        let shared = Groups { size: askers.div_ceil(CONNECTIONS), connections: askers.min(CONNECTIONS) };
        rows.push(compare(&inbox, bare, askers, &[as_many, shared], scale).await?);
    }
    let loop_text = "as many connections as the inbox uses at once, the inbox's one statement for each group";
    let more = " So the loop has several times as many rows under way as there are askers; a second loop has no more of \
         them, its groups being as many times smaller as there are connections.";
    let columns = ["loop with as many rows, a second", "ratio to it"];
    Ok(table("Durable acknowledgements, PostgreSQL", loop_text, more, &columns, rows))
}

fn table(
    title: &'static str,
    loop_text: &str,
    more: &str,
    columns: &[&'static str],
    rows: Vec<Vec<Cell>>,
) -> Table {
    Table {
        title,
        meaning: format!(
            "Askers that each hand a delivery to `Inbox` as a `Handler`, wait until it is durable, and hand over the \
             next. Beside it the engine's own limit: a bare loop of group commits of the same rows through the same \
             SQL library on the same disk ({loop_text}; groups as large as there are askers).{more} The aim is a ratio of at \
             least {} at {} askers.",
            AIM.1.bound(),
            AIM.0
        ),
        columns: [&["askers", "inbox, a second", "p99, ms", "bare loop, a second", "ratio", "aim"], columns]
            .concat(),
        rows,
    }
}

async fn compare(
    inbox: &Inbox,
    mut bare: impl Bare,
    askers: usize,
    loops: &[Groups],
    scale: Scale,
) -> Outcome<Vec<Cell>> {
    let samples = Samples::new()?;
    let (mut ours, mut latencies) = (Vec::new(), Vec::new());
    let mut limits = vec![(Vec::new(), Vec::new()); loops.len()];
    let mut stock = FIRST_STOCK;
    // The first round is for the caches.
    for round in 0..=scale.rounds {
        let (acknowledged, latency) = ask(inbox, &samples, askers, stock, scale.slice).await?;
        let mut highest = acknowledged;
        if round > 0 {
            ours.push(acknowledged);
            latencies.push(milliseconds(latency));
        }
        for (groups, (limits, ratios)) in loops.iter().zip(&mut limits) {
            let limit = bare.rate(&samples, *groups, stock, scale.slice).await?;
            highest = highest.max(limit);
            if round > 0 {
                limits.push(limit);
                ratios.push(acknowledged / limit);
            }
        }
        stock = stock.max((highest * 2.0 * scale.slice.as_secs_f64()) as usize);
    }
    let mut cells = vec![
        Cell::Figure(Figure::once(askers as f64), 0),
        Cell::Figure(Figure::of(ours), 0),
        Cell::Figure(Figure::of(latencies), 1),
    ];
    for (place, (limits, ratios)) in limits.into_iter().enumerate() {
        let ratio = Figure::of(ratios);
        // The aim is about the first loop only.
        let aim = (place == 0)
            .then(|| if askers == AIM.0 { Cell::Text(AIM.1.verdict(ratio.median)) } else { Cell::Nothing });
        cells.extend([Cell::Figure(Figure::of(limits), 0), Cell::Figure(ratio, 2)]);
        cells.extend(aim);
    }
    Ok(cells)
}

/// How many acknowledgements a second, and the p99 latency.
async fn ask(
    inbox: &Inbox,
    samples: &Samples,
    askers: usize,
    stock: usize,
    slice: Duration,
) -> Outcome<(f64, Duration)> {
    let stocks: Vec<Vec<Delivery>> =
        (0..askers).map(|_| samples.deliveries(stock / askers)).collect::<Outcome<_>>()?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for stock in stocks {
        let inbox = inbox.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(stock.len());
            let mut stock = stock.into_iter();
            for delivery in stock.by_ref() {
                let asked = Instant::now();
                inbox.handle(delivery).await.map_err(|error| error.chain())?;
                latencies.push(asked.elapsed());
                if begun.elapsed() >= slice {
                    break;
                }
            }
            // What is left over is not dropped before the clock has stopped.
            Ok::<_, String>((latencies, stock))
        });
    }
    let (mut latencies, mut left_over) = (Vec::new(), Vec::new());
    while let Some(outcome) = tasks.join_next().await {
        let (measured, stock) = outcome??;
        latencies.extend(measured);
        left_over.push(stock);
    }
    let acknowledged = rate(latencies.len(), begun.elapsed());
    Ok((acknowledged, p99(&mut latencies)))
}

impl Bare for BareSqlite {
    async fn rate(
        &mut self,
        samples: &Samples,
        groups: Groups,
        stock: usize,
        slice: Duration,
    ) -> Outcome<f64> {
        let records = samples.deliveries(stock)?;
        let (begun, mut rows) = (Instant::now(), 0);
        for group in records.chunks_exact(groups.size) {
            self.commit(group).await?;
            rows += group.len();
            if begun.elapsed() >= slice {
                break;
            }
        }
        Ok(rate(rows, begun.elapsed()))
    }
}

impl Bare for BarePostgres {
    async fn rate(
        &mut self,
        samples: &Samples,
        groups: Groups,
        stock: usize,
        slice: Duration,
    ) -> Outcome<f64> {
        let mut tasks = JoinSet::new();
        // A whole group for each at least.
        let each = (stock / groups.connections).max(groups.size);
        let records =
            (0..groups.connections).map(|_| samples.deliveries(each)).collect::<Outcome<Vec<_>>>()?;
        let begun = Instant::now();
        for (mut connection, records) in self.connections.drain(..groups.connections).zip(records) {
            tasks.spawn(async move {
                let mut rows = 0;
                for group in records.chunks_exact(groups.size) {
                    BarePostgres::commit(&mut connection, group).await?;
                    rows += group.len();
                    if begun.elapsed() >= slice {
                        break;
                    }
                }
                Ok::<_, sqlx::Error>((connection, rows))
            });
        }
        let mut rows = 0;
        while let Some(outcome) = tasks.join_next().await {
            let (connection, committed) = outcome??;
            self.connections.push(connection);
            rows += committed;
        }
        Ok(rate(rows, begun.elapsed()))
    }
}
