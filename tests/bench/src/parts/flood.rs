//! Forged tokens, 2000 a second, beside a known and an unknown sender; and new tokens on a host that is busy with other
//! programs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smartshape_fake::{Prefix, token};

use crate::client::{Client, Counts};
use crate::process::{LOAD_CORE, Process, SERVER_CORE, Server};
use crate::report::{Aim, table};
use crate::request::{Request, fresh_tokens, known_token, small_event};
use crate::server::Spec;
use crate::turns::repeat;
use crate::{Result, Run};

/// Connections of the forgers, and how often each sends: together 2000 times a second.
const FORGERS: usize = 128;
const FORGERS_INTERVAL: Duration = Duration::from_millis(64);
/// Number of forged tokens: more than are sent, and more than the receiver caches.
const FORGERIES: usize = 50_000;
const HONEST: usize = 32;
const KEPT: Aim = Aim::AtLeast(0.9);
/// The cost of new tokens on a busy host, and how soon they are to be accepted.
const COST: u32 = 10;
const SOON: Duration = Duration::from_secs(1);
const SOON_ENOUGH: Aim = Aim::AtLeast(0.95);
/// Where forgeries come from while a sender, at the first of these addresses, is not known yet.
const FORGERS_AT: [(&str, Ipv4Addr); 2] =
    [("the sender's address", Ipv4Addr::LOCALHOST), ("another address", Ipv4Addr::new(127, 0, 0, 2))];
const RETRY_AFTER: Duration = Duration::from_secs(1);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(22);
/// Maximum time in seconds until a sender whose token is not known is accepted.
const LET_IN: Aim = Aim::AtMost(5.0);

/// What follows `$2b$` in the forged tokens.
const KINDS: [(&str, &[&str], Aim); 5] = [
    ("nothing, A/A", &[], Aim::None),
    ("cost 12", &["12"], KEPT),
    ("cost 31", &["31"], KEPT),
    ("malformed", &["xx"], KEPT),
    ("mixed", &["12", "31", "xx"], KEPT),
];

/// Forgers, who send different tokens, each as long as a real one.
fn forgers(server: &Server, costs: &[&str], from: Ipv4Addr) -> Result<Client> {
    let model = token("a stranger's guess", 4, Prefix::TwoB)?;
    let tokens = costs.iter().cycle().enumerate().take(FORGERIES);
    let tokens = tokens.map(|(number, cost)| format!("$2b${cost}${number:08}{}", &model[15..]));
    let request = Request::with_each_of(tokens.collect())?;
    Ok(Client::new(server.address, FORGERS, &request).paced(from, FORGERS_INTERVAL))
}

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 500) } else { (5, 8000) };
    let slice = Duration::from_millis(slice);
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let columns = "forged | forged, requests/s | honest alone, requests/s | honest meanwhile, requests/s | kept | aim | honest ones rejected | aim";
    table("## A flood of forged tokens\n\n### Beside a known sender", columns);
    for (name, costs, aim) in KINDS {
        let [alone, together, forged, rejected] =
            repeat(rounds, async || beside_known(&request, costs, slice).await).await?;
        let (kept, rejected) = (together.ratio_to(&alone), rejected.0.iter().sum());
        let (status, none_rejected) = (aim.status(kept.median()), Aim::AtMost(0.0).status(rejected));
        println!(
            "| {name} | {forged:.0} | {alone:.0} | {together:.0} | {kept:.3} | {status} | {rejected} | {none_rejected} |"
        );
    }

    let columns = "forgeries come from | seconds until the sender is accepted | aim";
    table("### Beside a sender that is not known yet", columns);
    for (name, from) in FORGERS_AT {
        let [waited] = repeat(rounds, async || Ok([beside_unknown(&request, from).await?])).await?;
        println!("| {name} | {waited:.2} | {} |", LET_IN.status(waited.median()));
    }

    let tries = if run.quick { 20 } else { 100 };
    let request = Request::with_each_of(fresh_tokens(COST, tries)?)?;
    let server = Server::start(Spec::default())?;
    let mut sender = Client::new(server.address, 1, &request);
    // A program that never sleeps on each core.
    let _busy = [Process::busy(SERVER_CORE)?, Process::busy(LOAD_CORE)?];
    let [seconds, soon] = repeat(tries, async || {
        let started_at = Instant::now();
        let is_accepted = sender.send_once().await?;
        let waited = started_at.elapsed();
        Ok([waited.as_secs_f64(), f64::from(is_accepted && waited <= SOON)])
    })
    .await?;
    let soon = soon.0.iter().sum::<f64>() / tries as f64;
    table("### A busy host", "new tokens accepted within 1 s | aim | seconds until the response");
    println!("| {soon:.2} | {} | {seconds:.2} |", SOON_ENOUGH.status(soon));
    Ok(())
}

/// Requests a second of the known sender alone and meanwhile, those of the flood, and those of the known sender that
/// were rejected.
async fn beside_known(request: &Request, costs: &[&str], slice: Duration) -> Result<[f64; 4]> {
    let server = Server::start(Spec { client_addr: true, ..Spec::default() })?;
    let mut honest = Client::new(server.address, HONEST, request);
    honest.warm_token_cache().await?;
    honest.send_for(slice / 4).await?;
    // Half before the flood and half after it.
    let before = honest.send_for(slice / 2).await?;
    let (together, flood) = if costs.is_empty() {
        (honest.send_for(slice).await?, Counts::default())
    } else {
        let mut forgers = forgers(&server, costs, Ipv4Addr::LOCALHOST)?;
        tokio::try_join!(honest.send_for(slice), forgers.send_for(slice))?
    };
    let after = honest.send_for(slice / 2).await?;
    if flood.accepted > 0 {
        return Err("a forged token was accepted".into());
    }
    let alone = (before.accepted + after.accepted) as f64 / (before.elapsed + after.elapsed).as_secs_f64();
    // Responses may come later: an unknown token waits in the queue.
    let forged = flood.rejected as f64 / slice.as_secs_f64();
    let rejected = before.rejected + together.rejected + after.rejected;
    Ok([alone, together.rate(), forged, rejected as f64])
}

/// Seconds until a receiver that has just started and is flooded accepts a sender's token. The sender tries again a
/// second after each rejection. Infinity if it gives up.
async fn beside_unknown(request: &Request, from: Ipv4Addr) -> Result<f64> {
    let server = Server::start(Spec { client_addr: true, ..Spec::default() })?;
    let mut forgers = forgers(&server, &["10"], from)?;
    let mut sender = Client::new(server.address, 1, request);
    let sent = async {
        // The queue is full by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started_at = Instant::now();
        while !sender.send_once().await? {
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
