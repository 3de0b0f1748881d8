//! A host whose cores other programs keep busy, and a flood: new senders must get in, known ones must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bench_report::{Aim, Cell, Figure, Part, Table};
use smartshape_fake::{Prefix, token};

use super::flood::{self, FORGED_A_SECOND, Forgery, KEPT};
use super::{Run, known_token};
use crate::Outcome;
use crate::client::Client;
use crate::cores::{Cores, stay_on};
use crate::payload::{Request, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::tokens::{self, Tokens};

/// The cost that is likely.
const COST: u32 = 10;
const SOON: Duration = Duration::from_secs(1);
const SOON_ENOUGH: Aim = Aim::AtLeast(0.95);

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    let (tries, rounds, slice) = if run.quick { (20, 1, 500) } else { (100, 5, 8000) };
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let tokens = tokens::make(SECRET, COST, tries)?;
    let server = Server::start(Spec::new(run.cores, Framework::Axum, Kind::Ours))?;
    let mut sender = Client::new(server.address, 1, &request, &Tokens::once(tokens));
    let busy = Busy::keep(run.cores);
    let (mut seconds, mut soon) = (Vec::new(), 0);
    for _ in 0..tries {
        let begun = Instant::now();
        let accepted = sender.send_once().await?.starts_with("HTTP/1.1 200 ");
        soon += usize::from(accepted && begun.elapsed() <= SOON);
        seconds.push(begun.elapsed().as_secs_f64());
    }
    drop(busy);
    drop(server);
    let soon = soon as f64 / tries as f64;

    let model = token("what a stranger guesses", 4, Prefix::TwoB)?;
    let mut kept = Vec::new();
    for _ in 0..rounds {
        let forged = Some(Forgery::Cost12.tokens(&model));
        let beside = flood::beside(forged, &request, Duration::from_millis(slice), run).await?;
        kept.push(beside.together / beside.alone);
    }
    let kept = Figure::of(kept);
    Ok(Part {
        name: "busy",
        title: "A busy host",
        meaning: format!(
            "Two aims that pull in opposite directions. A program that never sleeps keeps each core busy at normal priority, and \
             {tries} tokens of cost {COST} that are not known yet come one after another: {} of them are to be answered with 200 within \
             {} s. And beside {FORGED_A_SECOND} forged tokens of cost 12 a second a known sender is to keep {} of its throughput, on a \
             core that it shares with the threads that check tokens.",
            SOON_ENOUGH.bound(),
            SOON.as_secs(),
            KEPT.bound()
        ),
        facts: Vec::new(),
        tables: vec![Table {
            title: "",
            meaning: String::new(),
            columns: vec![
                "new tokens: within 1 s",
                "aim",
                "seconds until the answer",
                "beside a flood: kept",
                "aim ",
            ],
            rows: vec![vec![
                Cell::once(soon, 2),
                Cell::Text(SOON_ENOUGH.verdict(soon)),
                Cell::Figure(Figure::of(seconds), 2),
                Cell::Figure(kept.clone(), 3),
                Cell::Text(KEPT.verdict(kept.median)),
            ]],
        }],
        charts: Vec::new(),
    })
}

/// Threads that never sleep, one on each core, until it is dropped.
struct Busy {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn keep(cores: Cores) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let spin = |core| {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                let pinned = stay_on([core]);
                while pinned.is_ok() && !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        Self { threads: cores.all().map(spin).into(), ended }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
