//! How far strangers and honest senders can make the server's memory grow.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use smartshape_fake::{Prefix, token};

use crate::client::Client;
use crate::process::Server;
use crate::report::{Aim, Figure, table};
use crate::request::{Request, Tokens, event_of, known_token, small_event};
use crate::server::{Framework, Kind, Spec};
use crate::uploads;
use crate::{Result, Run};

/// The receiver's default limit of a body.
const BODY: usize = 50_000_000;
const STRANGERS: Aim = Aim::AtMost(32.0);
/// The receiver's default memory limit of 256 MiB, and a tenth more.
const HONEST: Aim = Aim::AtMost(282.0);
/// How often uploads that were rejected with 503 are sent again.
const ATTEMPTS: usize = 200;

pub(crate) async fn measure(run: &Run) -> Result<()> {
    println!("\n## Memory");
    strangers(run).await?;
    honest(run).await
}

async fn strangers(run: &Run) -> Result<()> {
    let (uploads, rounds) = if run.quick { (100, 1) } else { (1000, 3) };
    let body = Bytes::from(vec![b'x'; BODY]);
    let forged = token("a stranger's guess", 4, Prefix::TwoB)?.replacen("$04$", "$12$", 1);
    let at_once: &[Kind] = &[Kind::Rejecting, Kind::Receiver];
    // A well-formed token waits for its hash. A bare handler that waits as long stands beside it.
    let after_a_hash: &[Kind] = &[Kind::Rejecting, Kind::Receiver, Kind::Waiting];
    let tokens = [
        ("absent", None, at_once),
        ("malformed", Some("not a token"), at_once),
        ("well-formed, forged", Some(&*forged), after_a_hash),
    ];
    let mut rows = Vec::new();
    for (framework, (name, token, kinds)) in
        Framework::ALL.into_iter().flat_map(|framework| tokens.map(|token| (framework, token)))
    {
        let mut peaks = [Vec::new(), Vec::new(), Vec::new()];
        let mut statuses = Vec::new();
        for _ in 0..rounds {
            for (kind, peaks) in kinds.iter().zip(&mut peaks) {
                let server = Server::start(Spec::new(framework, *kind))?;
                let responses = uploads::send(server.address, uploads, token, &body).await?;
                peaks.push(server.peak_mib()?);
                if *kind == Kind::Receiver {
                    statuses.extend(responses);
                }
            }
        }
        let [bare, receiver, waiting] = &peaks;
        let more = Figure::difference(receiver, bare);
        let waiting = match waiting.as_slice() {
            [] => "–".to_owned(),
            waiting => format!("{:.1}", Figure::from_samples(waiting)),
        };
        rows.push(format!(
            "{} | {name} | {:.1} | {:.1} | {more:.1} | {} | {waiting} | {}",
            framework.name(),
            Figure::from_samples(bare),
            Figure::from_samples(receiver),
            STRANGERS.status(more.median),
            count(&statuses),
        ));
    }
    let columns = "framework | token | bare, MiB | receiver, MiB | more, MiB | aim | bare that waits, MiB | the receiver's responses";
    table("### Uploads of strangers", columns, &rows);
    Ok(())
}

async fn honest(run: &Run) -> Result<()> {
    let uploads = if run.quick { 16 } else { 64 };
    let token = known_token()?;
    let event = event_of(BODY);
    let mut rows = Vec::new();
    for framework in Framework::ALL {
        let bare = Server::start(Spec::new(framework, Kind::Bare))?;
        let mut idle = Client::new(bare.address, uploads, &Request::health(), &Tokens::Same);
        idle.send_for(Duration::from_millis(300)).await?;
        let server = Server::start(Spec::new(framework, Kind::Receiver))?;
        let small = Request::delivery(&small_event(), &token)?;
        Client::new(server.address, 1, &small, &Tokens::Same).warm_token_cache().await?;
        let (mut left, mut rejected, mut others) = (uploads, 0, 0);
        for attempt in 0..ATTEMPTS {
            if left == 0 {
                break;
            }
            // Another uuid each time: a lost response must not turn the next upload into a duplicate.
            let body = event.replace("43a57abb-4ab6", &format!("43a57abb-{attempt:04x}")).into();
            let statuses = uploads::send(server.address, left, Some(&token), &body).await?;
            let with = |status| statuses.iter().filter(|one| **one == status).count();
            left -= with(200);
            rejected += with(503);
            others += statuses.len() - with(200) - with(503);
        }
        let grown = server.peak_mib()? - bare.peak_mib()?;
        let (name, status) = (framework.name(), HONEST.status(grown));
        let all_stored = Aim::AtMost(0.0).status(left as f64);
        rows.push(format!("{name} | {grown:.0} | {status} | {rejected} | {others} | {left} | {all_stored}"));
    }
    let columns = "framework | grown by, MiB | aim | rejected with 503 | other responses | lost | aim";
    table("### Uploads of honest senders", columns, &rows);
    Ok(())
}

/// For example "768 × 401, 2232 × 503".
fn count(statuses: &[u16]) -> String {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(*status).or_insert(0) += 1;
    }
    let counted = counts.into_iter().map(|(status, count)| match status {
        0 => format!("{count} × none"),
        _ => format!("{count} × {status}"),
    });
    counted.collect::<Vec<_>>().join(", ")
}
