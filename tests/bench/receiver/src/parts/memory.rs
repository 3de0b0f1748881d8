//! What strangers and honest senders can make the server's memory grow to.

use std::sync::Arc;
use std::time::Duration;

use bench_report::{Aim, Cell, Part, Table};
use smartshape_fake::{Prefix, token};
use smartshape_webhook::TOKEN_HEADER;

use super::{Run, known_token};
use crate::Outcome;
use crate::client::Client;
use crate::payload::{Request, event_of, small_event};
use crate::process::Server;
use crate::server::{Framework, Kind, Spec};
use crate::tokens::Tokens;
use crate::uploads::{self, Statuses};

const MIB: f64 = 1024.0 * 1024.0;
/// The receiver's defaults.
const BODY: usize = 50_000_000;
const BUDGET_MIB: f64 = 256.0;
const UNAUTHENTICATED: Aim = Aim::AtMost(32.0);
const SEEN: Aim = Aim::AtMost(96.0);
const FLAT: Aim = Aim::AtMost(4.0);
const AUTHENTICATED: usize = 64;
/// How often what was refused is sent again.
const ATTEMPTS: usize = 200;

pub(super) async fn measure(run: Run<'_>) -> Outcome<Part> {
    Ok(Part {
        name: "memory",
        title: "Memory",
        meaning: "Resident memory of the server's process at its highest, over that of the bare framework with as many \
                  connections open that have sent nothing yet."
            .to_owned(),
        facts: vec![("payload", "bodies of 50 MB; for the rest the manual's `attribute_updated`".to_owned())],
        tables: vec![strangers(run).await?, authenticated(run).await?, seen(run).await?, duplicates(run).await?],
        charts: Vec::new(),
    })
}

async fn strangers(run: Run<'_>) -> Outcome<Table> {
    let uploads = if run.quick { 100 } else { 1000 };
    let body: Arc<[u8]> = vec![b'x'; BODY].into();
    let forged = token("what a stranger guesses", 4, Prefix::TwoB)?.replacen("$04$", "$12$", 1);
    let mut rows = Vec::new();
    for framework in Framework::ALL {
        let bare = Server::start(Spec::new(run.cores, framework, Kind::Bare))?;
        let idle = Client::new(bare.address, uploads, &Request::health(), &Tokens::default());
        let bare = resting(idle, bare).await?;
        for (name, header) in [
            ("absent", String::new()),
            ("malformed", format!("{TOKEN_HEADER}: not a token\r\n")),
            ("well-formed, forged", format!("{TOKEN_HEADER}: {forged}\r\n")),
        ] {
            let server = Server::start(Spec::new(run.cores, framework, Kind::Ours))?;
            let statuses = uploads::send(server.address, uploads, &head(&header), &body).await?;
            let grown = server.highest_bytes()? as f64 / MIB - bare;
            rows.push(vec![
                Cell::Text(framework.name().to_owned()),
                Cell::Text(name.to_owned()),
                Cell::once(grown, 1),
                Cell::Text(UNAUTHENTICATED.verdict(grown)),
                Cell::Text(counted(&statuses)),
            ]);
        }
    }
    Ok(Table {
        title: "Uploads of strangers",
        meaning: format!(
            "{uploads} uploads of 50 MB at once over HTTP/1.1, without a token, with a malformed one, and with a well-formed \
             one of another secret. Aim: {} MiB at most. \"None\" is a connection that ended before its answer could be read. \
             actix-web goes on reading what a refused client sends, into buffers of its own, for up to its \
             `client_disconnect_timeout`.",
            UNAUTHENTICATED.bound()
        ),
        columns: vec!["framework", "token", "grown by, MiB", "aim", "answers"],
        rows,
    })
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
        let head = head(&format!("{TOKEN_HEADER}: {token}\r\n"));
        let (mut left, mut refused, mut others) = (uploads, 0, 0);
        for attempt in 0..ATTEMPTS {
            if left == 0 {
                break;
            }
            // Another uuid each time: an answer that was lost must not be a duplicate's.
            let body = event.replace("43a57abb-4ab6", &format!("43a57abb-{attempt:04x}")).into_bytes().into();
            let statuses = uploads::send(server.address, left, &head, &body).await?;
            left -= statuses.iter().filter(|status| **status == 200).count();
            refused += statuses.iter().filter(|status| **status == 503).count();
            others += statuses.iter().filter(|status| !matches!(status, 200 | 503)).count();
        }
        let grown = server.highest_bytes()? as f64 / MIB - bare;
        let bound = Aim::AtMost((BUDGET_MIB * 1.1).round());
        rows.push(vec![
            Cell::Text(framework.name().to_owned()),
            Cell::once(grown, 0),
            Cell::Text(bound.verdict(grown)),
            Cell::once(refused as f64, 0),
            Cell::once(others as f64, 0),
            Cell::once(left as f64, 0),
            Cell::Text(Aim::AtMost(0.0).verdict(left as f64)),
        ]);
    }
    Ok(Table {
        title: "Uploads of honest senders",
        meaning: format!(
            "{uploads} deliveries of 50 MB at once with a known token; what is refused with 503 is sent again, together. \
             Aims: the byte budget ({BUDGET_MIB} MiB by default) and a tenth more, and no delivery lost."
        ),
        columns: vec![
            "framework",
            "grown by, MiB",
            "aim",
            "refused with 503",
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
                // Those that wait for the slow one keep this waiting too, until they are refused.
                let (tally, _) = others.send_for(Duration::from_millis(time)).await?;
                count += tally.refused + tally.accepted;
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
            "A delivery whose handler takes long, and duplicates of it over {few} connections: 8 wait, the others are refused. \
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

fn head(header: &str) -> String {
    format!("POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY}\r\n{header}\r\n")
}

fn counted(statuses: &Statuses) -> String {
    let mut kinds: Vec<u16> = statuses.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let count = |kind: u16| statuses.iter().filter(|status| **status == kind).count();
    let name = |kind: u16| if kind == 0 { "none".to_owned() } else { kind.to_string() };
    kinds.into_iter().map(|kind| format!("{} × {}", count(kind), name(kind))).collect::<Vec<_>>().join(", ")
}
