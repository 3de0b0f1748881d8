//! What happens when there is more of something.

use std::time::Duration;

use bench_report::{Aim, Cell, Chart, Kind as Drawn, Part, Series, Table};

use super::{Run, known_token};
use crate::Outcome;
use crate::payload::{Request, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::tokens::{self, Tokens};
use crate::turns::{self, Length, Side};

const CONNECTIONS: usize = 32;
const MOST_CONNECTIONS: usize = 1024;
/// Throughput as CPU time allows it, beside that of the least.
const FLAT: Aim = Aim::AtLeast(0.9);

/// One thing that grows.
struct Growth {
    title: &'static str,
    file: &'static str,
    across: &'static str,
    counts: &'static [usize],
}

const CONNECTED: Growth = Growth {
    title: "Connections",
    file: "growth-connections",
    across: "connections",
    counts: &[1, 4, 16, 64, 256, MOST_CONNECTIONS],
};
const TOKENS: Growth = Growth {
    title: "Remembered tokens",
    file: "growth-tokens",
    across: "tokens, in turn",
    counts: &[1, 10, 100, 1000],
};
const SECRETS: Growth =
    Growth { title: "Secrets", file: "growth-secrets", across: "secrets", counts: &[1, 2, 4, 8] };
const SEEN: Growth = Growth {
    title: "Seen deliveries",
    file: "growth-seen",
    across: "deliveries remembered",
    counts: &[0, 10_000, 100_000, 1_000_000],
};

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let mut tables = Vec::new();
    let mut charts = Vec::new();
    for growth in [CONNECTED, TOKENS, SECRETS, SEEN] {
        let (table, chart) = series(&growth, &request, run).await?;
        tables.push(table);
        charts.push(chart);
    }
    Ok(Part {
        name: "growth",
        title: "Growth",
        meaning: format!(
            "On axum, with a known token and the manual's small event. All servers of a table took turns. \"Beside the \
             least\" is the CPU time for a request in the first row over that in this row; the aim is that it stays \
             flat: {} at least. Connections change what the framework itself takes, so there it is the CPU ratio to the \
             bare framework with as many connections that is held against the first row's; how high that ratio is, \
             and should be, is the first part's question.",
            FLAT.bound()
        ),
        facts: vec![("payload", "the manual's `attribute_updated`".to_owned())],
        tables,
        charts,
    })
}

async fn series(growth: &Growth, request: &Request, run: Run<'_>) -> Outcome<(Table, Chart)> {
    let length = if run.quick {
        Length { rounds: 3, slice: Duration::from_millis(200) }
    } else {
        Length { rounds: 101, slice: Duration::from_millis(100) }
    };
    let connected = growth.file == CONNECTED.file;
    let mut sides = Vec::new();
    for &count in growth.counts {
        let mut spec = Spec::new(run.cores, Framework::Axum, Kind::Ours);
        let mut list = Tokens::default();
        match growth.file {
            file if file == TOKENS.file => list = Tokens::in_turn(tokens::make(SECRET, 4, count)?),
            file if file == SECRETS.file => spec.secrets = count,
            file if file == SEEN.file => {
                spec.seen = count;
                // Nothing is forgotten meanwhile.
                spec.seen_capacity = 8_000_000;
            }
            // With the default, some of a thousand connections would be told to come again.
            _ => spec.max_in_flight = MOST_CONNECTIONS,
        }
        let connections = if connected { count } else { CONNECTIONS };
        sides.push(Side::with(Server::start(spec)?, connections, request, &list).await?);
        if connected {
            let bare = Spec::new(run.cores, Framework::Axum, Kind::Bare);
            sides.push(Side::start(bare, connections, request).await?);
        }
    }
    let turns = turns::take(&mut sides, length).await?;
    let each = if connected { 2 } else { 1 };
    let (mut rows, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for (place, count) in growth.counts.iter().enumerate() {
        let side = place * each;
        let mut row = vec![
            Cell::once(*count as f64, 0),
            Cell::Figure(turns.rate(side), 0),
            Cell::Figure(turns.cpu(side), 2),
        ];
        let beside = if connected {
            row.push(Cell::Figure(turns.cpu(side + 1), 2));
            row.push(Cell::Figure(turns.cpu_ratio(side, side + 1), 3));
            turns.cpu_ratio_beside([side, side + 1], [0, 1])
        } else {
            turns.cpu_ratio(side, 0)
        };
        row.push(Cell::Figure(beside.clone(), 3));
        row.push(if place == 0 { Cell::Nothing } else { Cell::Text(FLAT.verdict(beside.median)) });
        rows.push(row);
        ours.push(Some(turns.cpu(side)));
        bare.push(connected.then(|| turns.cpu(side + 1)));
    }
    let mut drawn = vec![Series { name: "ours".to_owned(), figures: ours }];
    let mut columns = vec![growth.across, "ours, a second", "ours, CPU µs"];
    if connected {
        columns.extend(["bare, CPU µs", "CPU ratio to bare"]);
        drawn.push(Series { name: "bare".to_owned(), figures: bare });
    }
    columns.extend(["beside the least", "aim"]);
    let chart = Chart {
        file: growth.file,
        title: format!("{}: CPU time for a request", growth.title),
        kind: Drawn::Lines,
        across: growth.across,
        up: "CPU µs for a request",
        categories: growth.counts.iter().map(ToString::to_string).collect(),
        series: drawn,
        aim: None,
    };
    Ok((Table { title: growth.title, meaning: String::new(), columns, rows }, chart))
}
