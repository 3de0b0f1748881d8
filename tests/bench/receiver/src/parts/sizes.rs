//! Bodies of several sizes: beside the bare framework, and beside a receiver that verifies a signature.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bench_report::{Aim, Cell, Chart, Figure, Kind as Drawn, Part, Series, Table};
use serde::de::IgnoredAny;
use smartshape_webhook::Envelope;

use super::{Run, known_token};
use crate::Outcome;
use crate::cores;
use crate::payload::{Request, event_of};
use crate::server::{Framework, Kind, Spec};
use crate::turns::{self, Length, Side};

/// With how many connections at once: all bodies together fit into the receiver's byte budget.
const SIZES: [(&str, usize, usize); 4] =
    [("350 B", 350, 32), ("24 KB", 24_000, 32), ("1 MB", 1_000_000, 8), ("8 MB", 8_000_000, 4)];
const OVER_BARE: Aim = Aim::AtLeast(0.9);
const OVER_SIGNED: Aim = Aim::AtLeast(1.0);
const PASS: Aim = Aim::AtLeast(1.0);

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let length = if run.quick {
        Length { rounds: 3, slice: Duration::from_millis(250) }
    } else {
        Length { rounds: 101, slice: Duration::from_millis(150) }
    };
    let token = known_token()?;
    let (mut rows, mut figures) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    let mut bare_cpu = Vec::new();
    for (name, bytes, connections) in SIZES {
        let body = event_of(bytes);
        let honest = Request::delivery(&body, &token)?;
        let signed = Request::signed(&body)?;
        let mut sides = Vec::new();
        for (kind, request) in [(Kind::Bare, &honest), (Kind::Ours, &honest), (Kind::Signed, &signed)] {
            sides.push(Side::start(Spec::new(run.cores, Framework::Axum, kind), connections, request).await?);
        }
        let turns = turns::take(&mut sides, length).await?;
        let (over_bare, over_signed) = (turns.ratio(1, 0), turns.ratio(1, 2));
        rows.push(vec![
            Cell::Text(name.to_owned()),
            Cell::Figure(turns.rate(0), 0),
            Cell::Figure(turns.rate(1), 0),
            Cell::Figure(turns.rate(2), 0),
            Cell::Figure(over_bare.clone(), 3),
            Cell::Text(OVER_BARE.verdict(over_bare.median)),
            Cell::Figure(over_signed.clone(), 2),
            Cell::Text(OVER_SIGNED.verdict(over_signed.median)),
            Cell::Figure(turns.cpu(0), 1),
            Cell::Figure(turns.cpu(1), 1),
            Cell::Figure(turns.cpu(2), 1),
            Cell::Text(turns.thrown_away(&[0, 1])),
        ]);
        bare_cpu.push(turns.cpu(0));
        for (side, figures) in figures.iter_mut().enumerate() {
            figures.push(Some(turns.ratio(side, 0)));
        }
    }
    let names = ["bare", "ours", "signature over the body"];
    let chart = Chart {
        file: "sizes",
        title: "Throughput by the body's size, beside bare axum".to_owned(),
        kind: Drawn::Bars,
        across: "size of the body",
        up: "ratio to bare axum",
        categories: SIZES.map(|(name, ..)| name.to_owned()).to_vec(),
        series: names
            .into_iter()
            .zip(figures)
            .map(|(name, figures)| Series { name: name.to_owned(), figures })
            .collect(),
        aim: Some(OVER_BARE.bound()),
    };
    Ok(Part {
        name: "sizes",
        title: "Sizes",
        meaning: format!(
            "Events of many attributes on many nodes, on axum. Ours reads the whole body, and goes once over it to find \
             the envelope's fields and to be sure that it is JSON; it does not decode `data` until a handler asks. \
             The bare server looks at no byte. From 24 KB on this pass is the largest share of what ours takes: sampled \
             with perf on the servers, 44 % at 24 KB, 54 % at 1 MB and 70 % at 8 MB. There it is slower than in the second \
             table's loop. Next come the copy into a buffer of its own and the memory for it, which the system has to \
             supply anew. \
             Beside it a receiver that verifies an HMAC-SHA256 over the body with the `standardwebhooks` crate, and \
             reads the envelope with serde_json. Aims: {} of the bare framework's throughput at least, and faster than \
             the verifier of signatures at every size.",
            OVER_BARE.bound()
        ),
        facts: vec![("payload", "generated `attribute_updated` events, the same for all".to_owned())],
        tables: vec![
            Table {
                title: "Requests",
                meaning: String::new(),
                columns: vec![
                    "body",
                    "bare, a second",
                    "ours, a second",
                    "signed, a second",
                    "ours / bare",
                    "aim",
                    "ours / signed",
                    "aim ",
                    "bare, CPU µs",
                    "ours, CPU µs",
                    "signed, CPU µs",
                    "rounds thrown away",
                ],
                rows,
            },
            envelope(run, &bare_cpu)?,
        ],
        charts: vec![chart],
    })
}

/// The pass by itself, without a server, and how fast it would have to be beside what the bare server takes.
fn envelope(run: Run<'_>, bare_cpu: &[Figure]) -> Outcome<Table> {
    let (rounds, slice) = if run.quick { (5, 20) } else { (75, 20) };
    cores::stay_on([run.cores.server])?;
    let mut rows = Vec::new();
    for ((name, bytes, _), bare) in SIZES.into_iter().zip(bare_cpu) {
        let body = event_of(bytes);
        let body = body.as_bytes();
        let passes: [&dyn Fn() -> bool; 3] = [
            &|| Envelope::parse(black_box(body)).is_ok(),
            &|| serde_json::from_slice::<IgnoredAny>(black_box(body)).is_ok(),
            &|| sonic_rs::from_slice::<IgnoredAny>(black_box(body)).is_ok(),
        ];
        let mut measured = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (pass, measured) in passes.iter().zip(&mut measured) {
                measured.push(gigabytes(body.len(), Duration::from_millis(slice), pass)?);
            }
        }
        let of_serde_json = Figure::of(measured[0].iter().zip(&measured[1]).map(|(a, b)| a / b).collect());
        let [ours, serde_json, sonic] = measured.map(Figure::of);
        // Below that, what is done once for each event is what takes the time.
        let aim = if bytes >= 24_000 { Cell::Text(PASS.verdict(ours.median)) } else { Cell::Nothing };
        rows.push(vec![
            Cell::Text(name.to_owned()),
            Cell::Figure(ours, 2),
            aim,
            Cell::Figure(serde_json, 2),
            Cell::Figure(of_serde_json, 2),
            Cell::Figure(sonic, 2),
            Cell::Figure(needed(bytes, bare), 2),
        ]);
    }
    run.cores.send()?;
    Ok(Table {
        title: "The envelope's pass",
        meaning: format!(
            "`Envelope::parse` in a loop, in gigabytes a second, beside what two parsers need only to skip the same text. \
             The aim is {} GB/s at least. serde_json is what the crate builds on: sonic-rs holds much unsafe code, and \
             all of it would read what strangers send. Last, how fast a pass would have to be if it were all that ours \
             adds and the server were to keep {} of the bare one's throughput: where that is many times what any of the \
             three reaches, no receiver that looks at each byte reaches the aim for requests.",
            PASS.bound(),
            OVER_BARE.bound()
        ),
        columns: vec![
            "body",
            "ours, GB/s",
            "aim",
            "serde_json skips, GB/s",
            "ours / serde_json",
            "sonic-rs skips, GB/s",
            "needed for the ratio, GB/s",
        ],
        rows,
    })
}

/// Gigabytes a second at which a pass leaves the aim's share to a server that takes so much CPU time without it.
fn needed(bytes: usize, bare: &Figure) -> Figure {
    let speed = |microseconds: f64| bytes as f64 / (microseconds * (1.0 / OVER_BARE.bound() - 1.0)) / 1e3;
    Figure { median: speed(bare.median), low: speed(bare.high), high: speed(bare.low) }
}

fn gigabytes(bytes: usize, time: Duration, pass: &dyn Fn() -> bool) -> Outcome<f64> {
    let (begun, mut passes) = (Instant::now(), 0_usize);
    while begun.elapsed() < time {
        // The clock is not asked for each small one.
        for _ in 0..(100_000 / bytes).max(1) {
            if !pass() {
                return Err("a generated event could not be read".into());
            }
            passes += 1;
        }
    }
    Ok((passes * bytes) as f64 / begun.elapsed().as_secs_f64() / 1e9)
}
