//! The receiver beside the bare framework.

use std::time::Duration;

use crate::process::Server;
use crate::report::{Aim, table};
use crate::request::{Request, event_of, known_token, small_event};
use crate::server::{FRAMEWORKS, Framework, Kind, Spec};
use crate::turns::Contender;
use crate::{Result, Run};

/// Minimum ratio to the bare framework's throughput.
const RATIO: Aim = Aim::AtLeast(0.7);
/// Maximum CPU time added to each request, in microseconds.
const ADDED: Aim = Aim::AtMost(6.0);
/// Name, bytes and connections: all bodies together fit into the receiver's memory limit.
const SIZES: [(&str, usize, usize); 4] =
    [("350 B", 350, 32), ("24 KB", 24_000, 32), ("1 MB", 1_000_000, 8), ("8 MB", 8_000_000, 4)];
const COLUMNS: &str = "bare, requests/s | receiver, requests/s | ratio | aim | bare, CPU µs | receiver, CPU µs | added, CPU µs | aim | CPU ratio";

/// What is sent to both, in turns.
struct Comparison {
    request: Request,
    connections: usize,
    rounds: usize,
    slice: Duration,
}

/// A known token and a small event: the usual case.
pub(crate) async fn known(run: &Run) -> Result<()> {
    let comparison = Comparison {
        request: Request::delivery(&small_event(), &known_token()?)?,
        connections: 32,
        rounds: if run.quick { 15 } else { 125 },
        slice: Duration::from_millis(100),
    };
    table("## Known token, small event", &format!("framework | {COLUMNS}"));
    for (name, framework) in FRAMEWORKS {
        comparison.row(name, framework, Kind::Receiver, [RATIO, ADDED]).await?;
    }
    // The bare server beside itself, as two processes.
    comparison.row("bare axum, A/A", Framework::Axum, Kind::Bare, [Aim::None; 2]).await
}

/// Bodies of several sizes.
pub(crate) async fn sizes(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (3, 250) } else { (101, 150) };
    let (slice, token) = (Duration::from_millis(slice), known_token()?);
    table("## Sizes", &format!("body | {COLUMNS}"));
    for (name, bytes, connections) in SIZES {
        let request = Request::delivery(&event_of(bytes), &token)?;
        let comparison = Comparison { request, connections, rounds, slice };
        comparison.row(name, Framework::Axum, Kind::Receiver, [Aim::None; 2]).await?;
    }
    Ok(())
}

impl Comparison {
    async fn row(&self, name: &str, framework: Framework, kind: Kind, aims: [Aim; 2]) -> Result<()> {
        let mut contenders = Vec::new();
        for kind in [Kind::Bare, kind] {
            let server = Server::start(Spec { framework, kind, ..Spec::default() })?;
            contenders.push(Contender::new(server, self.connections, &self.request).await?);
        }
        let samples = Contender::measure(&mut contenders, self.rounds, self.slice).await?;
        let [[bare, bare_cpu], [other, other_cpu]] = [&samples[0], &samples[1]];
        let (ratio, added) = (other.ratio_to(bare), other_cpu.minus(bare_cpu));
        println!(
            "| {name} | {bare:.0} | {other:.0} | {ratio:.3} | {} | {bare_cpu:.2} | {other_cpu:.2} | {added:.2} | {} | {:.3} |",
            aims[0].status(ratio.median()),
            aims[1].status(added.median()),
            bare_cpu.ratio_to(other_cpu),
        );
        Ok(())
    }
}
