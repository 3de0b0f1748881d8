//! Forged tokens, many a second, beside an honest sender.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench_report::{Aim, Cell, Chart, Figure, Kind as Drawn, Part, Series, Table};
use smartshape_fake::{Prefix, token};

use super::{Run, known_token};
use crate::Outcome;
use crate::client::{Client, Tally};
use crate::payload::{Request, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, Spec};
use crate::tokens::Tokens;

pub(super) const FORGED_A_SECOND: u32 = 2000;
const FORGERS: usize = 128;
const HONEST: usize = 32;
pub(super) const KEPT: Aim = Aim::AtLeast(0.9);
const LET_IN: Aim = Aim::AtMost(5.0);
/// More than the receiver remembers rejected ones.
const FORGERIES: usize = 20_000;
/// How long a sender that was rejected waits before it tries again.
const RETRY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(15);

/// What is forged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forgery {
    Cost12,
    Cost31,
    Malformed,
    Mixed,
}

impl Forgery {
    const ALL: [Self; 4] = [Self::Cost12, Self::Cost31, Self::Malformed, Self::Mixed];

    fn name(self) -> &'static str {
        match self {
            Self::Cost12 => "cost 12",
            Self::Cost31 => "cost 31",
            Self::Malformed => "malformed",
            Self::Mixed => "mixed",
        }
    }

    /// As long as a token, and different for each number.
    fn token(self, model: &str, number: usize) -> String {
        match (self, number % 3) {
            (Self::Mixed, 0) => Self::Cost12.token(model, number),
            (Self::Mixed, 1) => Self::Cost31.token(model, number),
            (Self::Mixed, _) => Self::Malformed.token(model, number),
            (Self::Cost12, _) => format!("$2b$12${number:08}{}", &model[15..]),
            (Self::Cost31, _) => format!("$2b$31${number:08}{}", &model[15..]),
            (Self::Malformed, _) => format!("$2b$xx${number:08}{}", &model[15..]),
        }
    }

    pub(super) fn tokens(self, model: &str) -> Tokens {
        Tokens::in_turn((0..FORGERIES).map(|number| self.token(model, number)).collect())
    }
}

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let (rounds, slice, starts) = if run.quick { (1, 500, 1) } else { (5, 8000, 3) };
    let slice = Duration::from_millis(slice);
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let model = token("what a stranger guesses", 4, Prefix::TwoB)?;
    let (mut rows, mut drawn) = (Vec::new(), Vec::new());
    // Without any: what taking turns leaves of error.
    for forgery in [None].into_iter().chain(Forgery::ALL.map(Some)) {
        let mut measured = Vec::new();
        for _ in 0..rounds {
            let forged = forgery.map(|forgery| forgery.tokens(&model));
            measured.push(beside(forged, &request, slice, run).await?);
        }
        let of = |value: fn(&Beside) -> f64| Figure::of(measured.iter().map(value).collect());
        let kept = of(|beside| beside.together / beside.alone);
        let lost: u64 = measured.iter().map(|beside| beside.rejected).sum();
        if forgery.is_some() {
            drawn.push(Some(kept.clone()));
        }
        rows.push(vec![
            Cell::Text(forgery.map_or("nothing, A/A", Forgery::name).to_owned()),
            Cell::Figure(of(|beside| beside.forged), 0),
            Cell::Figure(of(|beside| beside.alone), 0),
            Cell::Figure(of(|beside| beside.together), 0),
            Cell::Figure(kept.clone(), 3),
            if forgery.is_some() { Cell::Text(KEPT.verdict(kept.median)) } else { Cell::Nothing },
            Cell::once(lost as f64, 0),
            Cell::Text(Aim::AtMost(0.0).verdict(lost as f64)),
        ]);
    }
    let mut started = Vec::new();
    for framework in Framework::ALL {
        let mut seconds = Vec::new();
        for _ in 0..starts {
            seconds.push(let_in(framework, &request, &model, run).await?);
        }
        let figure = Figure::of(seconds);
        started.push(vec![
            Cell::Text(framework.name().to_owned()),
            Cell::Figure(figure.clone(), 1),
            Cell::Text(LET_IN.verdict(figure.high)),
        ]);
    }
    Ok(Part {
        name: "flood",
        title: "A flood of forged tokens",
        meaning: format!(
            "{FORGED_A_SECOND} forged requests a second, each with another token, over {FORGERS} connections, to the same \
             server on axum, on its one core, as {HONEST} honest connections whose token is known and which keep that core \
             busy. Alone is half the time before and half afterwards. Aims: the honest ones keep {} of their throughput at \
             least, and none of them is rejected.",
            KEPT.bound()
        ),
        facts: vec![("payload", "the manual's `attribute_updated`".to_owned())],
        tables: vec![
            Table {
                title: "Beside a known sender",
                meaning: String::new(),
                columns: vec![
                    "forged",
                    "forged, a second",
                    "honest alone, a second",
                    "honest meanwhile, a second",
                    "kept",
                    "aim",
                    "honest ones rejected",
                    "aim ",
                ],
                rows,
            },
            Table {
                title: "A receiver that has just started",
                meaning: format!(
                    "It knows no token yet. Forgeries of cost 12 come as fast as above, from other addresses than the honest \
                     sender's, whose token is of cost 10, and which tries again {} ms after each rejection. How long until it is \
                     let in; {} s stand for never. Aim: {} s at most.",
                    RETRY.as_millis(),
                    PATIENCE.as_secs(),
                    LET_IN.bound()
                ),
                columns: vec!["framework", "let in after, s", "aim (the highest)"],
                rows: started,
            },
        ],
        charts: vec![Chart {
            file: "flood",
            title: format!("What a known sender keeps beside {FORGED_A_SECOND} forged requests a second"),
            kind: Drawn::Bars,
            across: "forged tokens",
            up: "share of throughput",
            categories: Forgery::ALL.map(|forgery| forgery.name().to_owned()).to_vec(),
            series: vec![Series { name: "known sender".to_owned(), figures: drawn }],
            aim: Some(KEPT.bound()),
        }],
    })
}

pub(super) struct Beside {
    pub(super) alone: f64,
    pub(super) together: f64,
    forged: f64,
    rejected: u64,
}

pub(super) async fn beside(
    forged: Option<Tokens>,
    request: &Request,
    slice: Duration,
    run: Run<'_>,
) -> Outcome<Beside> {
    let spec = Spec::new(run.cores, Framework::Axum, Kind::Ours);
    // It remembers as many deliveries as it ever will: the memory's growth would slow it down from slice to slice.
    let server = Server::start(Spec { sources: true, seen: spec.seen_capacity, ..spec })?;
    let mut honest = Client::new(server.address, HONEST, request, &Tokens::default());
    honest.introduce().await?;
    honest.send_for(slice / 4).await?;
    let forgers =
        forged.map(|forged| Client::new(server.address, FORGERS, request, &forged).paced(FORGED_A_SECOND));
    let flood = async {
        match forgers {
            Some(mut forgers) => Ok(forgers.send_for(slice).await?.0),
            None => Outcome::Ok(Tally::default()),
        }
    };
    let (before, before_for) = honest.send_for(slice / 2).await?;
    let (together, flood) = tokio::join!(honest.send_for(slice), flood);
    let ((together, together_for), flood) = (together?, flood?);
    let (after, after_for) = honest.send_for(slice / 2).await?;
    if flood.accepted > 0 {
        return Err("a forged token was accepted".into());
    }
    Ok(Beside {
        alone: (before.accepted + after.accepted) as f64 / (before_for + after_for).as_secs_f64(),
        together: together.accepted as f64 / together_for.as_secs_f64(),
        // Answers may take longer: an unknown token waits in line.
        forged: flood.rejected as f64 / slice.as_secs_f64(),
        rejected: before.rejected + together.rejected + after.rejected,
    })
}

/// How many seconds the honest sender needs.
async fn let_in(framework: Framework, request: &Request, model: &str, run: Run<'_>) -> Outcome<f64> {
    let server = Server::start(Spec { sources: true, ..Spec::new(run.cores, framework, Kind::Ours) })?;
    let forged = Forgery::Cost12.tokens(model);
    let mut forgers =
        Client::new(server.address, FORGERS, request, &forged).paced(FORGED_A_SECOND).elsewhere();
    let mut honest = Client::new(server.address, 1, request, &Tokens::default());
    let ended = AtomicBool::new(false);
    let flood = async {
        while !ended.load(Ordering::Relaxed) {
            forgers.send_for(RETRY).await?;
        }
        Outcome::Ok(())
    };
    let sender = async {
        // The flood is there first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        while !honest.send_once().await?.starts_with("HTTP/1.1 200 ") && begun.elapsed() < PATIENCE {
            tokio::time::sleep(RETRY).await;
        }
        ended.store(true, Ordering::Relaxed);
        Outcome::Ok(begun.elapsed().min(PATIENCE).as_secs_f64())
    };
    let (flood, seconds) = tokio::join!(flood, sender);
    flood?;
    seconds
}
