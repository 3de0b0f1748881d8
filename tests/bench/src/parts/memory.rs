//! How far strangers and honest senders can make the server's memory grow.

use std::time::Duration;

use bytes::Bytes;
use smartshape_fake::{Prefix, token};
use smartshape_webhook::TOKEN_HEADER;

use crate::client::Client;
use crate::process::Server;
use crate::report::{Aim, Figure, heading, number, table};
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
    heading("## Memory");
    let uploads = if run.quick { 100 } else { 1000 };
    heading("### Uploads of strangers");
    strangers(run, uploads).await?;
    honest(run).await
}

async fn strangers(run: &Run, uploads: usize) -> Result<()> {
    let rounds = if run.quick { 1 } else { 3 };
    let body = Bytes::from(vec![b'x'; BODY]);
    let forged = token("a stranger's guess", 4, Prefix::TwoB)?.replacen("$04$", "$12$", 1);
    let tokens =
        [("absent", None), ("malformed", Some("not a token")), ("well-formed, forged", Some(&*forged))];
    let cases = Framework::ALL.into_iter().flat_map(|framework| tokens.map(|token| (framework, token)));
    let mut rows = Vec::new();
    for (framework, (name, token)) in cases {
        let header = token.map(|token| (TOKEN_HEADER, token));
        let mut servers = vec![(Kind::Rejecting, false), (Kind::Receiver, false)];
        // A well-formed token waits for its hash. A bare handler that waits as long stands beside it.
        if token == Some(&*forged) {
            servers.push((Kind::Rejecting, true));
        }
        let mut peaks = [Vec::new(), Vec::new(), Vec::new()];
        let mut statuses = Vec::new();
        for _ in 0..rounds {
            for ((kind, slow), peaks) in servers.iter().zip(&mut peaks) {
                let spec = Spec { slow: *slow, ..Spec::new(framework, *kind) };
                let server = Server::start(spec)?;
                let responses = uploads::send(server.address, uploads, header, &body).await?;
                peaks.push(server.peak_mib()?);
                if *kind == Kind::Receiver {
                    statuses.extend(responses);
                }
            }
        }
        let [bare, receiver, waiting] = peaks;
        let more = Figure::from_samples(
            receiver.iter().zip(&bare).map(|(receiver, bare)| receiver - bare).collect(),
        );
        rows.push(vec![
            framework.name().to_owned(),
            name.to_owned(),
            Figure::from_samples(bare).show(1),
            Figure::from_samples(receiver).show(1),
            more.show(1),
            STRANGERS.status(more.median),
            if waiting.is_empty() { "–".to_owned() } else { Figure::from_samples(waiting).show(1) },
            count(&statuses),
        ]);
    }
    let columns = "framework | token | bare, MiB | receiver, MiB | more, MiB | aim | bare that waits, MiB | the receiver's responses";
    table(columns, &rows);
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
            let statuses = uploads::send(server.address, left, Some((TOKEN_HEADER, &token)), &body).await?;
            let with = |status| statuses.iter().filter(|one| **one == status).count();
            left -= with(200);
            rejected += with(503);
            others += statuses.len() - with(200) - with(503);
        }
        let grown = server.peak_mib()? - bare.peak_mib()?;
        rows.push(vec![
            framework.name().to_owned(),
            number(grown, 0),
            HONEST.status(grown),
            number(rejected as f64, 0),
            number(others as f64, 0),
            number(left as f64, 0),
            Aim::AtMost(0.0).status(left as f64),
        ]);
    }
    heading("### Uploads of honest senders");
    let columns = "framework | grown by, MiB | aim | rejected with 503 | other responses | lost | aim";
    table(columns, &rows);
    Ok(())
}

/// For example "768 × 401, 2232 × 503".
fn count(statuses: &[u16]) -> String {
    let mut kinds = statuses.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let counted = kinds.into_iter().map(|kind| {
        let count = statuses.iter().filter(|status| **status == kind).count();
        if kind == 0 { format!("{count} × none") } else { format!("{count} × {kind}") }
    });
    counted.collect::<Vec<_>>().join(", ")
}
