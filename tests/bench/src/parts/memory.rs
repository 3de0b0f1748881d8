//! How far strangers and honest senders can make the server's memory grow.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use smartshape_fake::{Prefix, token};
use smartshape_webhook::TOKEN_HEADER;
use tokio::net::TcpStream;

use crate::process::Server;
use crate::report::{Aim, table};
use crate::request::{Request, event_of, known_token, small_event};
use crate::server::{FRAMEWORKS, Kind, Spec};
use crate::turns::{Contender, repeat};
use crate::{Result, Run};

/// The receiver's default limit of a body.
const BODY: usize = 50_000_000;
const STRANGERS: Aim = Aim::AtMost(32.0);
/// The receiver's default memory limit of 256 MiB, and a tenth more.
const HONEST: Aim = Aim::AtMost(282.0);
/// How often uploads that were rejected with 503 are sent again.
const ATTEMPTS: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(120);

/// How often each status came, and 0 where a connection ended without a response.
type Statuses = BTreeMap<u16, usize>;

pub(crate) async fn measure(run: &Run) -> Result<()> {
    println!("\n## Memory");
    strangers(run).await?;
    honest(run).await
}

async fn strangers(run: &Run) -> Result<()> {
    let (uploads, rounds) = if run.quick { (100, 1) } else { (1000, 3) };
    let body = Bytes::from(vec![b'x'; BODY]);
    let forged = token("a stranger's guess", 4, Prefix::TwoB)?.replacen("$04$", "$12$", 1);
    let tokens =
        [("absent", None), ("malformed", Some("not a token")), ("well-formed, forged", Some(&*forged))];
    let columns = "framework | token | bare, MiB | receiver, MiB | more, MiB | aim | the receiver's responses, 0 if none";
    table("### Uploads of strangers", columns);
    for (name, framework) in FRAMEWORKS {
        for (kind_of_token, token) in tokens {
            let mut statuses = Statuses::new();
            let peak = async |kind, statuses: &mut Statuses| {
                let server = Server::start(Spec { framework, kind, ..Spec::default() })?;
                upload(server.address, uploads, token, &body, statuses).await?;
                server.peak_mib()
            };
            let [bare, receiver] = repeat(rounds, async || {
                let bare = peak(Kind::Rejecting, &mut Statuses::new()).await?;
                Ok([bare, peak(Kind::Receiver, &mut statuses).await?])
            })
            .await?;
            let more = receiver.minus(&bare);
            let (status, responses) = (STRANGERS.status(more.median()), count(&statuses));
            println!(
                "| {name} | {kind_of_token} | {bare:.1} | {receiver:.1} | {more:.1} | {status} | {responses} |"
            );
        }
    }
    Ok(())
}

async fn honest(run: &Run) -> Result<()> {
    let uploads = if run.quick { 16 } else { 64 };
    let token = known_token()?;
    let (small, event) = (Request::delivery(&small_event(), &token)?, event_of(BODY));
    table("### Uploads of honest senders", "framework | grown by, MiB | aim | responses | lost | aim");
    for (name, framework) in FRAMEWORKS {
        let bare = Server::start(Spec { framework, kind: Kind::Bare, ..Spec::default() })?;
        upload(bare.address, uploads, None, &Bytes::new(), &mut Statuses::new()).await?;
        let server = Server::start(Spec { framework, ..Spec::default() })?;
        let Contender { server, .. } = Contender::new(server, 1, &small).await?;
        let (mut left, mut statuses) = (uploads, Statuses::new());
        for attempt in 0..ATTEMPTS {
            // Another uuid each time: a lost response must not turn the next upload into a duplicate.
            let body = event.replace("43a57abb-4ab6", &format!("43a57abb-{attempt:04x}")).into();
            upload(server.address, left, Some(&token), &body, &mut statuses).await?;
            left = uploads - statuses.get(&200).copied().unwrap_or(0);
            if left == 0 {
                break;
            }
        }
        let grown = server.peak_mib()? - bare.peak_mib()?;
        let (status, responses) = (HONEST.status(grown), count(&statuses));
        let none_lost = Aim::AtMost(0.0).status(left as f64);
        println!("| {name} | {grown:.0} | {status} | {responses} | {left} | {none_lost} |");
    }
    Ok(())
}

/// For example "768 × 401, 2232 × 503".
fn count(statuses: &Statuses) -> String {
    let counts = statuses.iter().map(|(status, count)| format!("{count} × {status}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Opens so many connections and gets one response on each, then sends the body on all at once, with this token.
async fn upload(
    address: SocketAddr,
    connections: usize,
    token: Option<&str>,
    body: &Bytes,
    statuses: &mut Statuses,
) -> Result<()> {
    let mut opened = Vec::new();
    // One by one: an overrun listener resets connections.
    for _ in 0..connections {
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        let request = http::Request::get("/health").header("host", "localhost").body(Full::default())?;
        sender.send_request(request).await?.into_body().collect().await?;
        opened.push(sender);
    }
    let uploads = opened.into_iter().map(async |mut sender| {
        let request = http::Request::post("/callback").header("host", "localhost");
        let request = token.into_iter().fold(request, |request, token| request.header(TOKEN_HEADER, token));
        let response = sender.send_request(request.body(Full::new(body.clone()))?).await;
        Result::Ok(response.map_or(0, |response| response.status().as_u16()))
    });
    for status in tokio::time::timeout(TIMEOUT, try_join_all(uploads)).await?? {
        *statuses.entry(status).or_default() += 1;
    }
    Ok(())
}
