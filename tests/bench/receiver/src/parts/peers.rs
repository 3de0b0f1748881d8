//! Other endpoints for the same deliveries.

use std::time::Duration;

use bench_report::{Aim, Cell, Chart, Figure, Kind as Drawn, Part, Series, Table};
use smartshape_fake::{Prefix, token};

use super::Run;
use crate::Outcome;
use crate::payload::{Request, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::tokens::Tokens;
use crate::turns::{self, Length, Side};

const COSTS: [u32; 3] = [4, 10, 12];
const LIKELY: u32 = 10;
/// Times as many requests a second.
const FASTER: Aim = Aim::AtLeast(1000.0);
/// Few, since each waits for its hash, and a turn ends when all are answered.
const CONNECTIONS: usize = 8;

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let length = if run.quick {
        Length { rounds: 1, slice: Duration::from_millis(200) }
    } else {
        Length { rounds: 5, slice: Duration::from_millis(500) }
    };
    let names: Vec<String> = ["ours", "naive Rust"]
        .into_iter()
        .map(str::to_owned)
        .chain(run.peers.iter().map(|peer| peer.name.clone()))
        .collect();
    let mut rows = Vec::new();
    let mut series: Vec<Series> =
        names.iter().map(|name| Series { name: name.clone(), figures: Vec::new() }).collect();
    for cost in COSTS {
        let request = Request::delivery(&small_event(), &token(SECRET, cost, Prefix::TwoB)?)?;
        let mut servers = vec![
            Server::start(Spec::new(run.cores, Framework::Axum, Kind::Ours))?,
            Server::start(Spec::new(run.cores, Framework::Axum, Kind::Naive))?,
        ];
        for peer in run.peers {
            servers.push(Server::start_peer(peer, run.cores)?);
        }
        let mut sides = Vec::new();
        for server in servers {
            sides.push(Side::with(server, CONNECTIONS, &request, &Tokens::default()).await?);
        }
        let turns = turns::take(&mut sides, length).await?;
        for (side, name) in names.iter().enumerate() {
            let (rate, faster) = (turns.rate(side), turns.ratio(0, side));
            series[side].figures.push(Some(rate.clone()));
            let decimals = decimals(&rate);
            let aim = Cell::Text(FASTER.verdict(faster.median));
            let faster_decimals = if faster.median < 10.0 { 1 } else { 0 };
            rows.push(vec![
                Cell::once(cost.into(), 0),
                Cell::Text(name.clone()),
                Cell::Figure(rate, decimals),
                Cell::Figure(turns.cpu(side), 0),
                if side == 0 { Cell::Nothing } else { Cell::Figure(faster, faster_decimals) },
                if side == 0 || cost < LIKELY { Cell::Nothing } else { aim },
            ]);
        }
    }
    let missing = if run.peers.is_empty() {
        "The endpoints in Node and Python are left out: they were not installed."
    } else {
        "Node and Python are the endpoints of tests/endpoints, repaired so that they run and answer."
    };
    Ok(Part {
        name: "peers",
        title: "Other endpoints",
        meaning: format!(
            "The same small event with the same token, whose cost the sender chooses. Ours verifies a token once and \
             remembers it; the others hash it at each delivery. The naive endpoint is axum with bcrypt on the async \
             thread and the body in a `serde_json::Value`. {missing} Those with a token of the same cost took turns. Aim: {} times at the cost that is likely ({LIKELY}), and \
             above.",
            FASTER.bound()
        ),
        facts: vec![("payload", format!("the manual's `attribute_updated`, over {CONNECTIONS} connections"))],
        tables: vec![Table {
            title: "",
            meaning: String::new(),
            columns: vec![
                "cost of the token",
                "endpoint",
                "a second",
                "CPU µs",
                "ours is faster, times",
                "aim",
            ],
            rows,
        }],
        charts: vec![Chart {
            file: "peers",
            title: "Endpoints by the token's cost: requests a second on one core".to_owned(),
            kind: Drawn::TallBars,
            across: "cost of the token",
            up: "requests a second",
            categories: COSTS.map(|cost| cost.to_string()).to_vec(),
            series,
            aim: None,
        }],
    })
}

fn decimals(rate: &Figure) -> usize {
    if rate.median < 100.0 { 1 } else { 0 }
}
