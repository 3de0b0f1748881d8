//! What strangers and honest senders can make the server's memory grow to.

use std::time::Duration;

use bench_report::{Aim, Cell, Figure, Part, Table};
use bytes::Bytes;
use smartshape_fake::{Prefix, token};
use smartshape_webhook::TOKEN_HEADER;

use super::{Run, known_token};
use crate::Outcome;
use crate::client::Client;
use crate::payload::{Request, event_of, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, Spec};
use crate::tokens::Tokens;
use crate::uploads::{self, Load, Statuses};

const MIB: f64 = 1024.0 * 1024.0;
/// The receiver's defaults.
const BODY: usize = 50_000_000;
const BUDGET_MIB: f64 = 256.0;
const UNAUTHENTICATED: Aim = Aim::AtMost(32.0);
const SEEN: Aim = Aim::AtMost(96.0);
const FLAT: Aim = Aim::AtMost(4.0);
const AUTHENTICATED: usize = 64;
/// How often what was rejected is sent again.
const ATTEMPTS: usize = 200;

const AHEAD_ON_HTTP1: &str = "actix-web reads up to 128 KiB of each connection before it calls a handler, and as much again \
                              while the handler waits; what is sent after the rejection goes through the same buffers.";
const AHEAD_ON_HTTP2: &str = "What a client may send ahead, up to 1 MiB by default in each framework, is held for as long as \
                              a handler has not answered.";

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    Ok(Part {
        name: "memory",
        title: "Memory",
        meaning:
            "Resident memory of the server's process at its highest, also over that of the bare framework."
                .to_owned(),
        facts: vec![("payload", "bodies of 50 MB; for the rest the manual's `attribute_updated`".to_owned())],
        tables: vec![
            strangers(run, false).await?,
            strangers(run, true).await?,
            authenticated(run).await?,
            seen(run).await?,
            duplicates(run).await?,
        ],
        charts: Vec::new(),
    })
}

/// 1,000 uploads: each over a connection of its own, and with HTTP/2 over few connections too, which are cheaper to have.
async fn strangers(run: Run<'_>, http2: bool) -> Outcome<Table> {
    let (uploads, rounds) = if run.quick { (100, 1) } else { (1000, 3) };
    let loads = match http2 {
        false => vec![Load::Http1(uploads)],
        true => vec![Load::Http2(uploads, 1), Load::Http2(uploads / 100, 100)],
    };
    let body = Bytes::from(vec![b'x'; BODY]);
    let forged = token("what a stranger guesses", 4, Prefix::TwoB)?.replacen("$04$", "$12$", 1);
    let tokens =
        [("absent", None), ("malformed", Some("not a token")), ("well-formed, forged", Some(&*forged))];
    let mut rows = Vec::new();
    for framework in Framework::ALL {
        for load in &loads {
            for (name, token) in tokens {
                let header = token.map(|token| (TOKEN_HEADER, token));
                // A well-formed token waits for its hash, and so would a bare handler that asked for anything.
                let waits = token == Some(&*forged);
                let servers = [(Kind::Rejecting, false), (Kind::Ours, false), (Kind::Rejecting, true)];
                let mut highest = [Vec::new(), Vec::new(), Vec::new()];
                let mut answers = Statuses::new();
                for _ in 0..rounds {
                    let servers = servers.into_iter().zip(&mut highest).take(if waits { 3 } else { 2 });
                    for ((kind, slow), highest) in servers {
                        let spec = Spec { http2, slow, ..Spec::new(run.cores, framework, kind) };
                        let server = Server::start(spec)?;
                        let statuses = uploads::send(server.address, *load, header, &body).await?;
                        highest.push(server.highest_bytes()? as f64 / MIB);
                        answers.extend(statuses.into_iter().filter(|_| kind == Kind::Ours));
                    }
                }
                let [bare, ours, waiting] = highest;
                let grown = Figure::of(ours.iter().zip(&bare).map(|(ours, bare)| ours - bare).collect());
                let mut row = vec![Cell::Text(framework.name().to_owned())];
                if http2 {
                    row.push(Cell::once(load.connections() as f64, 0));
                }
                let verdict = UNAUTHENTICATED.verdict(grown.median);
                let waiting =
                    if waits { Cell::Figure(Figure::of(waiting), 1) } else { Cell::Text("–".to_owned()) };
                row.extend([
                    Cell::Text(name.to_owned()),
                    Cell::Figure(Figure::of(bare), 1),
                    Cell::Figure(Figure::of(ours), 1),
                    Cell::Figure(grown, 1),
                    Cell::Text(verdict),
                    waiting,
                    Cell::Text(counted(&answers)),
                ]);
                rows.push(row);
            }
        }
    }
    let mut columns = vec![
        "framework",
        "token",
        "bare, MiB",
        "receiver, MiB",
        "more, MiB",
        "aim",
        "bare that waits, MiB",
        "the receiver's answers",
    ];
    if http2 {
        columns.insert(1, "connections");
    }
    let title = if http2 { "Uploads of strangers over HTTP/2" } else { "Uploads of strangers" };
    let meaning = format!(
        "{uploads} uploads of 50 MB at once over {}, over connections that have been answered once: without a token, with a \
         malformed one, and with a well-formed one of another secret. Beside it, the same uploads to the bare framework \
         with a handler that rejects them at once, without reading. In turns, the middle of {rounds}. Aim: {} MiB more \
         at most. A well-formed token has to be hashed, for which 256 requests wait for up to 2 s; a bare handler that \
         lets as many wait as long, and does nothing else, stands beside it. \"None\" is a connection that ended before \
         its answer could be read. {}",
        if http2 { "HTTP/2" } else { "HTTP/1.1" },
        UNAUTHENTICATED.bound(),
        if http2 { AHEAD_ON_HTTP2 } else { AHEAD_ON_HTTP1 }
    );
    Ok(Table { title, meaning, columns, rows })
}

/// Resident MiB while all are connected.
async fn resting(mut idle: Client, server: Server) -> Outcome<f64> {
    idle.send_for(Duration::from_millis(300)).await?;
    Ok(server.highest_bytes()? as f64 / MIB)
}

async fn authenticated(run: Run<'_>) -> Outcome<Table> {
    let uploads = if run.quick { 16 } else { AUTHENTICATED };
    let token = known_token()?;
    let event = event_of(BODY);
    let mut rows = Vec::new();
    for framework in Framework::ALL {
        let bare = Server::start(Spec::new(run.cores, framework, Kind::Bare))?;
        let idle = Client::new(bare.address, uploads, &Request::health(), &Tokens::default());
        let bare = resting(idle, bare).await?;
        let server = Server::start(Spec::new(run.cores, framework, Kind::Ours))?;
        let small = Request::delivery(&small_event(), &token)?;
        Client::new(server.address, 1, &small, &Tokens::default()).introduce().await?;
        let header = Some((TOKEN_HEADER, token.as_str()));
        let (mut left, mut rejected, mut others) = (uploads, 0, 0);
        for attempt in 0..ATTEMPTS {
            if left == 0 {
                break;
            }
            // Another uuid each time: an answer that was lost must not be a duplicate's.
            let body = event.replace("43a57abb-4ab6", &format!("43a57abb-{attempt:04x}")).into();
            let statuses = uploads::send(server.address, Load::Http1(left), header, &body).await?;
            left -= statuses.iter().filter(|status| **status == 200).count();
            rejected += statuses.iter().filter(|status| **status == 503).count();
            others += statuses.iter().filter(|status| !matches!(status, 200 | 503)).count();
        }
        let grown = server.highest_bytes()? as f64 / MIB - bare;
        let bound = Aim::AtMost((BUDGET_MIB * 1.1).round());
        rows.push(vec![
            Cell::Text(framework.name().to_owned()),
            Cell::once(grown, 0),
            Cell::Text(bound.verdict(grown)),
            Cell::once(rejected as f64, 0),
            Cell::once(others as f64, 0),
            Cell::once(left as f64, 0),
            Cell::Text(Aim::AtMost(0.0).verdict(left as f64)),
        ]);
    }
    Ok(Table {
        title: "Uploads of honest senders",
        meaning: format!(
            "{uploads} deliveries of 50 MB at once with a known token, over the bare framework with as many connections \
             open; what is rejected with 503 is sent again, together. Aims: the byte budget ({BUDGET_MIB} MiB by default) \
             and a tenth more, and no delivery lost."
        ),
        columns: vec![
            "framework",
            "grown by, MiB",
            "aim",
            "rejected with 503",
            "other answers",
            "lost",
            "aim ",
        ],
        rows,
    })
}

async fn seen(run: Run<'_>) -> Outcome<Table> {
    let count = if run.quick { 100_000 } else { 1_000_000 };
    let mut resident = Vec::new();
    for seen in [0, count] {
        let spec = Spec { seen, seen_capacity: count, ..Spec::new(run.cores, Framework::Axum, Kind::Ours) };
        let server = Server::start(spec)?;
        Client::new(server.address, 1, &Request::health(), &Tokens::default()).introduce().await?;
        resident.push(server.resident_bytes()? as f64);
    }
    let each = (resident[1] - resident[0]) / count as f64;
    Ok(Table {
        title: "Seen deliveries",
        meaning: format!("Remembered by the store in memory. Aim: {} bytes each at most.", SEEN.bound()),
        columns: vec!["deliveries", "bytes each", "aim"],
        rows: vec![vec![Cell::once(count as f64, 0), Cell::once(each, 1), Cell::Text(SEEN.verdict(each))]],
    })
}

async fn duplicates(run: Run<'_>) -> Outcome<Table> {
    let (few, many) = (500, 10_000);
    let token = known_token()?;
    let spec = Spec { slow: true, ..Spec::new(run.cores, Framework::Axum, Kind::Ours) };
    let server = Server::start(spec)?;
    let request = Request::delivery(&small_event(), &token)?.fixed();
    // The slow handler takes longer than all this.
    let mut first = Client::new(server.address, 1, &request, &Tokens::default());
    let mut others = Client::new(server.address, few, &request, &Tokens::default());
    let flood = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut sent, mut resident) = (Vec::new(), Vec::new());
        for (more, time) in [(few as u64, 100), (many, 3000)] {
            let before = sent.last().copied().unwrap_or(0);
            let mut count = before;
            while count < before + more {
                // Those that wait for the slow one keep this waiting too, until they are rejected.
                let (tally, _) = others.send_for(Duration::from_millis(time)).await?;
                count += tally.rejected + tally.accepted;
            }
            sent.push(count);
            resident.push(server.resident_bytes()? as f64 / MIB);
        }
        Outcome::Ok((sent, resident))
    };
    let measured = tokio::select! {
        measured = flood => measured?,
        answer = first.send_once() => return Err(format!("the slow delivery was done first: {:?}", answer?).into()),
    };
    let (sent, resident) = measured;
    let grown = resident[1] - resident[0];
    Ok(Table {
        title: "Duplicates of one slow delivery",
        meaning: format!(
            "A delivery whose handler takes long, and duplicates of it over {few} connections: 8 wait, the others are rejected. \
             Aim: flat; {} MiB at most pass for it, since the allocator keeps some.",
            FLAT.bound()
        ),
        columns: vec![
            "duplicates at first",
            "MiB then",
            "duplicates in all",
            "MiB then ",
            "grown by, MiB",
            "aim",
        ],
        rows: vec![vec![
            Cell::once(sent[0] as f64, 0),
            Cell::once(resident[0], 1),
            Cell::once(sent[1] as f64, 0),
            Cell::once(resident[1], 1),
            Cell::once(grown, 2),
            Cell::Text(FLAT.verdict(grown)),
        ]],
    })
}

fn counted(statuses: &Statuses) -> String {
    let mut kinds: Vec<u16> = statuses.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let count = |kind: u16| statuses.iter().filter(|status| **status == kind).count();
    let name = |kind: u16| if kind == 0 { "none".to_owned() } else { kind.to_string() };
    kinds.into_iter().map(|kind| format!("{} × {}", count(kind), name(kind))).collect::<Vec<_>>().join(", ")
}
