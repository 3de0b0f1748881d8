//! A known token and a small event: what receiving costs each time.

use std::time::Duration;

use bench_report::{Aim, Cell, Chart, Kind as Drawn, Part, Series, Table};

use super::{Run, alone, known_token};
use crate::Outcome;
use crate::payload::{Request, small_event};
use crate::server::{Framework, Kind, Spec};
use crate::turns::{self, Length, Side};

const CONNECTIONS: usize = 32;
const RATIO: Aim = Aim::AtLeast(0.95);
const ADDED: Aim = Aim::AtMost(1.0);

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let length = if run.quick {
        Length { rounds: 15, slice: Duration::from_millis(100) }
    } else {
        Length { rounds: 125, slice: Duration::from_millis(100) }
    };
    let body = small_event();
    let request = Request::delivery(&body, &known_token()?)?;
    let (mut rows, mut bare, mut ours, mut bare_cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let pairs = Framework::ALL.map(|framework| (framework, Kind::Ours)).into_iter();
    for (framework, kind) in pairs.chain([(Framework::Axum, Kind::Bare)]) {
        let mut sides = Vec::new();
        for kind in [Kind::Bare, kind] {
            sides.push(Side::start(Spec::new(run.cores, framework, kind), CONNECTIONS, &request).await?);
        }
        same_answers(&mut sides).await?;
        let turns = turns::take(&mut sides, length).await?;
        let (ratio, added) = (turns.ratio(1, 0), turns.added(1, 0));
        let control = kind == Kind::Bare;
        let verdict =
            |aim: Aim, median| if control { Cell::Nothing } else { Cell::Text(aim.verdict(median)) };
        rows.push(vec![
            Cell::Text(if control {
                format!("bare {}, A/A", framework.name())
            } else {
                framework.name().to_owned()
            }),
            Cell::Figure(turns.rate(0), 0),
            Cell::Figure(turns.rate(1), 0),
            Cell::Figure(ratio.clone(), 3),
            verdict(RATIO, ratio.median),
            Cell::Figure(turns.cpu(0), 2),
            Cell::Figure(turns.cpu(1), 2),
            Cell::Figure(added.clone(), 2),
            verdict(ADDED, added.median),
            Cell::Figure(turns.cpu_ratio(1, 0), 3),
            Cell::Text(turns.thrown_away(&[0, 1])),
        ]);
        if !control {
            bare.push(Some(turns.rate(0)));
            ours.push(Some(turns.rate(1)));
            bare_cpu.push(turns.cpu(0));
        }
    }
    let by_hand = beside_by_hand(run, length, &request).await?;
    let chart = Chart {
        file: "known",
        title: "Known token, small event: requests a second on one core".to_owned(),
        kind: Drawn::Bars,
        across: "framework",
        up: "requests a second",
        categories: Framework::ALL.map(|framework| framework.name().to_owned()).to_vec(),
        series: vec![
            Series { name: "bare framework".to_owned(), figures: bare },
            Series { name: "with our endpoint".to_owned(), figures: ours },
        ],
        aim: None,
    };
    Ok(Part {
        name: "known",
        title: "Known token, small event",
        meaning: format!(
            "The usual case: a sender that repeats its token, which has been verified once, and sends a small event \
             with a new uuid each time. Ours verifies, reads, parses the envelope, claims the delivery, runs the \
             handler and records that it is done. The bare framework spends most of its time in the system's network \
             calls; what ours adds is one pass over the JSON, a hash for the delivery's key, the claim and the memory \
             of what was seen. Aims: {} of the bare framework's throughput \
             at least, and {} µs of CPU time added at most. The CPU ratio is what the throughput's ratio would be if \
             nothing but the server's CPU time mattered. Only the two sides of a row took turns: compare figures \
             within a row.",
            RATIO.bound(),
            ADDED.bound()
        ),
        facts: vec![(
            "payload",
            format!("the manual's `attribute_updated`, {} bytes, over {CONNECTIONS} connections", body.len()),
        )],
        tables: vec![
            Table {
                title: "",
                meaning: String::new(),
                columns: vec![
                    "framework",
                    "bare, a second",
                    "ours, a second",
                    "ratio",
                    "aim",
                    "bare, CPU µs",
                    "ours, CPU µs",
                    "added, CPU µs",
                    "aim ",
                    "CPU ratio",
                    "rounds thrown away",
                ],
                rows,
            },
            by_hand,
            alone::table(run, &bare_cpu).await?,
        ],
        charts: vec![chart],
    })
}

/// Ours beside an endpoint that does no more than the task asks for.
async fn beside_by_hand(run: Run<'_>, length: Length, request: &Request) -> Outcome<Table> {
    let mut sides = Vec::new();
    for kind in [Kind::Bare, Kind::ByHand, Kind::Ours] {
        sides.push(Side::start(Spec::new(run.cores, Framework::Axum, kind), CONNECTIONS, request).await?);
    }
    same_answers(&mut sides).await?;
    let turns = turns::take(&mut sides, length).await?;
    let rows = ["bare", "written by hand", "ours"].into_iter().enumerate().map(|(side, name)| {
        let beside =
            |other| if side > other { Cell::Figure(turns.cpu_ratio(side, other), 3) } else { Cell::Nothing };
        vec![Cell::Text(name.to_owned()), Cell::Figure(turns.cpu(side), 2), beside(0), beside(1)]
    });
    Ok(Table {
        title: "Beside an endpoint written by hand",
        meaning: "The least, on axum: an endpoint that reads the body, compares the token with the one that it knows, finds \
                  the envelope and makes the key as ours does, looks the key up and remembers as many. It calls no handler, \
                  and remembers a delivery when it comes and not when it was handled, so that one whose handler failed \
                  would be lost. It has no limits of size, time, memory or places, hashes tokens of any cost, on the \
                  async thread, and counts and logs nothing. The three took turns; the ratios are those of CPU time, within each round."
            .to_owned(),
        columns: vec!["endpoint", "CPU µs", "of bare", "of the one by hand"],
        rows: rows.collect(),
    })
}

/// Servers that answer differently are not compared.
async fn same_answers(sides: &mut [Side]) -> Outcome<()> {
    let mut answers = Vec::new();
    for side in sides {
        let answer = side.client.send_once().await?;
        let mut lines: Vec<_> = answer
            .lines()
            .filter(|line| !line.to_ascii_lowercase().starts_with("date:"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        answers.push(lines);
    }
    match answers.windows(2).find(|pair| pair[0] != pair[1]) {
        Some(pair) => Err(format!("the answers differ: {:?} and {:?}", pair[0], pair[1]).into()),
        None => Ok(()),
    }
}
