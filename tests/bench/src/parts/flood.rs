//! Forged tokens, 2000 a second, and endless uploads beside a known sender; and new tokens on a host that is busy with other
//! programs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smartshape_fake::{Prefix, token};

use crate::client::{Client, Counts};
use crate::process::{LOAD_CORE, Process, SERVER_CORE, Server};
use crate::report::{Aim, Figure, table};
use crate::request::{Request, Tokens, fresh_tokens, known_token, small_event};
use crate::server::{Framework, Kind, Spec, other_secret};
use crate::uploads::trickle;
use crate::{Result, Run};

const FORGED_A_SECOND: u32 = 2000;
const FORGERS: usize = 128;
const HONEST: usize = 32;
/// More than are sent, and more than the receiver caches.
const FORGERIES: usize = 50_000;
const KEPT: Aim = Aim::AtLeast(0.9);
/// As many uploads as the receiver has permits.
const UPLOADS: usize = 256;
/// The cost of new tokens on a busy host, and how soon they are to be accepted.
const COST: u32 = 10;
const SOON: Duration = Duration::from_secs(1);
const SOON_ENOUGH: Aim = Aim::AtLeast(0.95);
/// Where forgeries come from while a sender, at the first of these addresses, is not known yet.
const FORGERS_AT: [(&str, Ipv4Addr); 2] =
    [("the sender's address", Ipv4Addr::LOCALHOST), ("another address", Ipv4Addr::new(127, 0, 0, 2))];
const RETRY_AFTER: Duration = Duration::from_secs(1);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(22);
/// In seconds.
const LET_IN: Aim = Aim::AtMost(5.0);

/// What follows `$2b$` in the forged tokens.
const KINDS: [(&str, &[&str], Aim); 5] = [
    ("nothing, A/A", &[], Aim::None),
    ("cost 12", &["12"], KEPT),
    ("cost 31", &["31"], KEPT),
    ("malformed", &["xx"], KEPT),
    ("mixed", &["12", "31", "xx"], KEPT),
];

/// Different tokens, each as long as a real one.
fn forge(costs: &[&str]) -> Result<Tokens> {
    let model = token("a stranger's guess", 4, Prefix::TwoB)?;
    let tokens = costs.iter().cycle().enumerate().take(FORGERIES);
    Ok(Tokens::once(tokens.map(|(number, cost)| format!("$2b${cost}${number:08}{}", &model[15..])).collect()))
}

/// What comes to the server beside a known sender.
#[derive(Clone, Copy)]
enum Load {
    /// Forged tokens with these costs; none is nothing.
    Forged(&'static [&'static str]),
    /// Uploads of another webhook that never end.
    Uploads,
}

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 500) } else { (5, 8000) };
    let slice = Duration::from_millis(slice);
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let no_rejection = Aim::AtMost(0.0);
    let mut rows = Vec::new();
    for (name, costs, aim) in KINDS {
        let mut measured = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            let samples = beside_known(&request, Load::Forged(costs), slice).await?;
            measured.iter_mut().zip(samples).for_each(|(measured, sample)| measured.push(sample));
        }
        let [alone, together, forged, rejected] = &measured;
        let kept = Figure::ratio(together, alone);
        let rejected: f64 = rejected.iter().sum();
        rows.push(format!(
            "{name} | {:.0} | {:.0} | {:.0} | {kept:.3} | {} | {rejected:.0} | {}",
            Figure::from_samples(forged),
            Figure::from_samples(alone),
            Figure::from_samples(together),
            aim.status(kept.median),
            no_rejection.status(rejected),
        ));
    }
    let columns = "forged | forged, requests/s | honest alone, requests/s | honest meanwhile, requests/s | kept | aim | honest ones rejected | aim";
    table("## A flood of forged tokens\n\n### Beside a known sender", columns, &rows);

    let mut kept = Vec::new();
    for _ in 0..rounds {
        let [alone, together, _, rejected] = beside_known(&request, Load::Uploads, slice).await?;
        if rejected > 0.0 {
            return Err("a delivery of the other webhook was rejected".into());
        }
        kept.push(together / alone);
    }
    let kept = Figure::from_samples(&kept);
    let row = format!("{kept:.3} | {}", KEPT.status(kept.median));
    table("### Uploads of another webhook that never end", "kept | aim", &[row]);

    let mut rows = Vec::new();
    for (name, from) in FORGERS_AT {
        let mut waited = Vec::new();
        for _ in 0..rounds {
            waited.push(beside_unknown(&request, from).await?);
        }
        let waited = Figure::from_samples(&waited);
        rows.push(format!("{name} | {waited:.2} | {}", LET_IN.status(waited.median)));
    }
    let columns = "forgeries come from | seconds until the sender is accepted | aim";
    table("### Beside a sender that is not known yet", columns, &rows);

    let (soon, seconds) = on_a_busy_host(&request, if run.quick { 20 } else { 100 }).await?;
    let row = format!("{soon:.2} | {} | {seconds:.2}", SOON_ENOUGH.status(soon));
    let columns = "new tokens accepted within 1 s | aim | seconds until the response";
    table("### A busy host", columns, &[row]);
    Ok(())
}

/// Requests a second of the known sender alone and meanwhile, those of the flood, and those of the known sender that were rejected.
async fn beside_known(request: &Request, load: Load, slice: Duration) -> Result<[f64; 4]> {
    let spec = Spec::new(Framework::Axum, Kind::Receiver);
    let server = Server::start(match load {
        Load::Forged(_) => Spec { client_addr: true, ..spec },
        Load::Uploads => Spec { secrets: 2, ..spec },
    })?;
    let mut honest = Client::new(server.address, HONEST, request, &Tokens::Same);
    honest.warm_token_cache().await?;
    honest.send_for(slice / 4).await?;
    // Half before the load and half after it.
    let before = honest.send_for(slice / 2).await?;
    let (together, flood) = match load {
        Load::Forged([]) => (honest.send_for(slice).await?, Counts::default()),
        Load::Forged(costs) => {
            let forgers = Client::new(server.address, FORGERS, request, &forge(costs)?);
            let mut forgers = forgers.paced(FORGED_A_SECOND);
            tokio::try_join!(honest.send_for(slice), forgers.send_for(slice))?
        }
        Load::Uploads => {
            let mut uploads = trickle(server.address, UPLOADS, &token(&other_secret(1), 10, Prefix::TwoB)?);
            // So that they hold all permits that they get.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let together = honest.send_for(slice).await?;
            uploads.shutdown().await;
            (together, Counts::default())
        }
    };
    let after = honest.send_for(slice / 2).await?;
    if flood.accepted > 0 {
        return Err("a forged token was accepted".into());
    }
    let alone = (before.accepted + after.accepted) as f64;
    let alone = alone / (before.elapsed + after.elapsed).as_secs_f64();
    // Responses may come later: an unknown token waits in the queue.
    let forged = flood.rejected as f64 / slice.as_secs_f64();
    let rejected = before.rejected + together.rejected + after.rejected;
    Ok([alone, together.rate(), forged, rejected as f64])
}

/// Seconds until a receiver that has just started and is flooded accepts a sender's token. The sender tries again a second
/// after each rejection. Infinity if it gives up.
async fn beside_unknown(request: &Request, from: Ipv4Addr) -> Result<f64> {
    let spec = Spec::new(Framework::Axum, Kind::Receiver);
    let server = Server::start(Spec { client_addr: true, ..spec })?;
    let forged = Client::new(server.address, FORGERS, request, &forge(&["10"])?);
    let mut forgers = forged.paced(FORGED_A_SECOND).from(from);
    let mut sender = Client::new(server.address, 1, request, &Tokens::Same);
    let sent = async {
        // So that the queue is full.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started_at = Instant::now();
        while !sender.send_once().await?.0 {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Result::Ok(started_at.elapsed().as_secs_f64())
    };
    tokio::select! {
        waited = sent => waited,
        flood = forgers.send_for(GIVEN_UP_AFTER) => {
            flood?;
            Ok(f64::INFINITY)
        }
    }
}

/// The share of new tokens that are accepted soon while other programs keep both cores busy, and the times.
async fn on_a_busy_host(request: &Request, tries: usize) -> Result<(f64, Figure)> {
    let tokens = fresh_tokens(COST, tries)?;
    let server = Server::start(Spec::new(Framework::Axum, Kind::Receiver))?;
    let mut sender = Client::new(server.address, 1, request, &Tokens::once(tokens));
    // A program that never sleeps on each core.
    let _busy = [Process::busy(SERVER_CORE)?, Process::busy(LOAD_CORE)?];
    let (mut seconds, mut soon) = (Vec::new(), 0);
    for _ in 0..tries {
        let started_at = Instant::now();
        let (accepted, _) = sender.send_once().await?;
        soon += usize::from(accepted && started_at.elapsed() <= SOON);
        seconds.push(started_at.elapsed().as_secs_f64());
    }
    Ok((soon as f64 / tries as f64, Figure::from_samples(&seconds)))
}
