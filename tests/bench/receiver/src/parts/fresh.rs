//! A new salt with every delivery: each token has to be hashed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_report::{Aim, Cell, Figure, Part, Table};

use super::{Run, known_token};
use crate::client::Client;
use crate::payload::{Request, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::tokens::{self, Tokens};
use crate::{Outcome, cores};

/// Cheap enough that a run has tokens enough, since making one takes as long as checking it.
const COST: u32 = 8;
const SENDERS: usize = 8;
const KNOWN_SENDERS: usize = 32;
const AIM: Aim = Aim::AtLeast(0.95);

/// What is asked of the server meanwhile.
#[derive(Clone, Copy)]
enum Beside {
    Known,
    Health,
}

#[derive(Default)]
struct Measured {
    raw: Vec<f64>,
    fresh: Vec<f64>,
    rejected: u64,
    rejected_meanwhile: u64,
    alone: [Vec<f64>; 2],
    together: [Vec<f64>; 2],
    fresh_meanwhile: [Vec<f64>; 2],
}

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let (rounds, slice) = if run.quick { (1, 700) } else { (5, 2000) };
    let slice = Duration::from_millis(slice);
    let few = tokens::make(SECRET, COST, 20)?;
    let enough = (hash_raw(&few, slice, run)? * slice.as_secs_f64() * 1.5) as usize + SENDERS;
    let list = tokens::make(SECRET, COST, enough)?;
    let token = known_token()?;
    let known = Request::delivery(&small_event(), &token)?;
    let spec = Spec::new(run.cores, Framework::Axum, Kind::Ours);
    // As with the flood: a memory that still grows would slow the second slice down.
    let spec = Spec { seen: spec.seen_capacity, ..spec };
    let mut measured = Measured::default();
    for _ in 0..rounds {
        round(&mut measured, spec, (&list, &known), slice, run).await?;
    }
    let ratio = |side: &[f64], other: &[f64]| {
        Figure::of(side.iter().zip(other).map(|(side, other)| side / other).collect())
    };
    let hashed = ratio(&measured.fresh, &measured.raw);
    let [known, health] = [0, 1].map(|beside| ratio(&measured.together[beside], &measured.alone[beside]));
    let row = vec![
        Cell::Figure(Figure::of(measured.raw), 1),
        Cell::Figure(Figure::of(measured.fresh), 1),
        Cell::Figure(hashed.clone(), 3),
        Cell::Text(AIM.verdict(hashed.median)),
        Cell::once(measured.rejected as f64, 0),
        Cell::Figure(known, 3),
        Cell::Figure(health, 3),
        Cell::Figure(Figure::of(measured.fresh_meanwhile.concat()), 1),
        Cell::once(measured.rejected_meanwhile as f64, 0),
    ];
    Ok(Part {
        name: "fresh",
        title: "A new salt with every delivery",
        meaning: format!(
            "SmartShape's manual does not say whether the salt is new each time. If it is, no token can be remembered, \
             and each delivery costs a hash. Left: {SENDERS} senders of such deliveries alone, beside what the same core \
             hashes in a bare loop. Aim: {0}. Right: how much of their throughput senders of known tokens and of `GET /health`, \
             which keep the server's only core busy, keep while the {SENDERS} senders go on, and how many of their deliveries get \
             through meanwhile. Both are senders who know a secret, so the system's scheduler shares the core out among them.",
            AIM.bound()
        ),
        facts: vec![("payload", format!("the manual's `attribute_updated`, tokens of cost {COST}"))],
        tables: vec![Table {
            title: "",
            meaning: String::new(),
            columns: vec![
                "bare loop, a second",
                "new salts, a second",
                "ratio",
                "aim",
                "rejected",
                "known tokens keep",
                "/health keeps",
                "new salts meanwhile, a second",
                "rejected meanwhile",
            ],
            rows: vec![row],
        }],
        charts: Vec::new(),
    })
}

async fn round(
    measured: &mut Measured,
    spec: Spec,
    (list, known): (&Arc<[String]>, &Request),
    slice: Duration,
    run: Run<'_>,
) -> Outcome<()> {
    measured.raw.push(hash_raw(list, slice, run)?);
    // Each server is a new one, which has seen none of the tokens.
    let server = Server::start(spec)?;
    let mut fresh = senders(&server, known, list);
    let (tally, elapsed) = fresh.send_for(slice).await?;
    measured.fresh.push(tally.accepted as f64 / elapsed.as_secs_f64());
    measured.rejected += tally.rejected;
    for (place, beside) in [Beside::Known, Beside::Health].into_iter().enumerate() {
        let server = Server::start(spec)?;
        let request = match beside {
            Beside::Known => known.clone(),
            Beside::Health => Request::health(),
        };
        let mut others = Client::new(server.address, KNOWN_SENDERS, &request, &Tokens::default());
        others.introduce().await?;
        let mut fresh = senders(&server, known, list);
        let (alone, alone_for) = others.send_for(slice).await?;
        let (together, hashed) = tokio::join!(others.send_for(slice), fresh.send_for(slice));
        let ((together, together_for), (hashed, _)) = (together?, hashed?);
        measured.alone[place].push(alone.accepted as f64 / alone_for.as_secs_f64());
        measured.together[place].push(together.accepted as f64 / together_for.as_secs_f64());
        measured.fresh_meanwhile[place].push(hashed.in_time as f64 / slice.as_secs_f64());
        measured.rejected_meanwhile += hashed.rejected;
    }
    Ok(())
}

fn senders(server: &Server, request: &Request, list: &Arc<[String]>) -> Client {
    Client::new(server.address, SENDERS, request, &Tokens::once(Arc::clone(list)))
}

/// How many tokens the server's core checks in a second when it does nothing else.
fn hash_raw(list: &[String], time: Duration, run: Run<'_>) -> Outcome<f64> {
    cores::stay_on([run.cores.server])?;
    let (begun, mut hashes) = (Instant::now(), 0_usize);
    while begun.elapsed() < time {
        if !bcrypt::verify(SECRET, &list[hashes % list.len()])? {
            return Err("a token is not of its secret".into());
        }
        hashes += 1;
    }
    let rate = hashes as f64 / begun.elapsed().as_secs_f64();
    run.cores.send()?;
    Ok(rate)
}
