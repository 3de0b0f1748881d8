//! Forged tokens, 2,000 a second, and endless uploads beside a known sender; and new tokens on a host that is busy with other programs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smartshape_fake::{Prefix, token};

use crate::client::Client;
use crate::process::{LOAD_CORE, Process, SERVER_CORE, Server};
use crate::report::{Aim, Figure, heading, number, table};
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
/// As many as there are permits.
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
const KINDS: [(&str, &[&str]); 4] =
    [("cost 12", &["12"]), ("cost 31", &["31"]), ("malformed", &["xx"]), ("mixed", &["12", "31", "xx"])];

/// Different tokens, each as long as a real one.
fn forge(costs: &[&str]) -> Result<Tokens> {
    let model = token("a stranger's guess", 4, Prefix::TwoB)?;
    let tokens = costs.iter().cycle().enumerate().take(FORGERIES);
    Ok(Tokens::once(tokens.map(|(number, cost)| format!("$2b${cost}${number:08}{}", &model[15..])).collect()))
}

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 500) } else { (5, 8000) };
    let slice = Duration::from_millis(slice);
    let request = Request::delivery(&small_event(), &known_token()?)?;
    heading("## A flood of forged tokens\n\n### Beside a known sender");
    let mut rows = Vec::new();
    for (name, costs) in [("nothing, A/A", [].as_slice())].into_iter().chain(KINDS) {
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(beside_known(&request, costs, slice).await?);
        }
        let of = |value: fn(&[f64; 4]) -> f64| Figure::from_samples(measured.iter().map(value).collect());
        let kept = of(|[alone, together, ..]| together / alone);
        let rejected = measured.iter().map(|[.., rejected]| rejected).sum::<f64>();
        rows.push(vec![
            name.to_owned(),
            of(|[_, _, forged, _]| *forged).show(0),
            of(|[alone, ..]| *alone).show(0),
            of(|[_, together, ..]| *together).show(0),
            kept.show(3),
            if costs.is_empty() { "–".to_owned() } else { KEPT.status(kept.median) },
            number(rejected, 0),
            Aim::AtMost(0.0).status(rejected),
        ]);
    }
    let columns = "forged | forged, requests/s | honest alone, requests/s | honest meanwhile, requests/s | kept | aim | honest ones rejected | aim";
    table(columns, &rows);

    heading("### Uploads of another webhook that never end");
    let mut measured = Vec::new();
    for _ in 0..rounds {
        measured.push(beside_uploads(&request, slice).await?);
    }
    let kept = Figure::from_samples(measured);
    table("kept | aim", &[vec![kept.show(3), KEPT.status(kept.median)]]);

    heading("### Beside a sender that is not known yet");
    let mut rows = Vec::new();
    for (name, from) in FORGERS_AT {
        let mut waited = Vec::new();
        for _ in 0..rounds {
            waited.push(beside_unknown(&request, from).await?);
        }
        let waited = Figure::from_samples(waited);
        rows.push(vec![name.to_owned(), waited.show(2), LET_IN.status(waited.median)]);
    }
    table("forgeries come from | seconds until the sender is accepted | aim", &rows);

    heading("### A busy host");
    let tries = if run.quick { 20 } else { 100 };
    let (soon, seconds) = on_a_busy_host(&request, tries).await?;
    let row = vec![number(soon, 2), SOON_ENOUGH.status(soon), seconds.show(2)];
    table("new tokens accepted within 1 s | aim | seconds until the response", &[row]);
    Ok(())
}

/// Requests a second of the honest sender alone and meanwhile, those of the flood, and honest ones that were rejected.
async fn beside_known(request: &Request, costs: &[&str], slice: Duration) -> Result<[f64; 4]> {
    let spec = Spec::new(Framework::Axum, Kind::Receiver);
    let server = Server::start(Spec { client_addr: true, ..spec })?;
    let mut honest = Client::new(server.address, HONEST, request, &Tokens::Same);
    honest.warm_token_cache().await?;
    honest.send_for(slice / 4).await?;
    let mut forgers = Client::new(server.address, 0, request, &Tokens::Same);
    if !costs.is_empty() {
        forgers = Client::new(server.address, FORGERS, request, &forge(costs)?).paced(FORGED_A_SECOND);
    }
    // Half before the flood and half after it.
    let before = honest.send_for(slice / 2).await?;
    let (together, flood) = tokio::join!(honest.send_for(slice), forgers.send_for(slice));
    let (together, flood) = (together?, flood?);
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

/// The share of its throughput that a known sender keeps.
async fn beside_uploads(request: &Request, slice: Duration) -> Result<f64> {
    let spec = Spec { secrets: 2, ..Spec::new(Framework::Axum, Kind::Receiver) };
    let server = Server::start(spec)?;
    let mut honest = Client::new(server.address, HONEST, request, &Tokens::Same);
    honest.warm_token_cache().await?;
    honest.send_for(slice / 4).await?;
    let before = honest.send_for(slice / 2).await?;
    let mut uploads = trickle(server.address, UPLOADS, &token(&other_secret(1), 10, Prefix::TwoB)?);
    // So that they hold all permits that they get.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let together = honest.send_for(slice).await?;
    uploads.shutdown().await;
    let after = honest.send_for(slice / 2).await?;
    if before.rejected + together.rejected + after.rejected > 0 {
        return Err("a delivery of the other webhook was rejected".into());
    }
    let alone = (before.accepted + after.accepted) as f64;
    Ok(together.rate() / (alone / (before.elapsed + after.elapsed).as_secs_f64()))
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
        let begun = Instant::now();
        while !sender.send_once().await?.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Result::Ok(begun.elapsed().as_secs_f64())
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
        let begun = Instant::now();
        let accepted = sender.send_once().await?.starts_with("HTTP/1.1 200 ");
        soon += usize::from(accepted && begun.elapsed() <= SOON);
        seconds.push(begun.elapsed().as_secs_f64());
    }
    Ok((soon as f64 / tries as f64, Figure::from_samples(seconds)))
}
