//! A known token and a small event: the usual case.

use std::time::Duration;

use crate::process::Server;
use crate::report::{Aim, heading, table};
use crate::request::{Request, known_token, small_event};
use crate::rounds::{Contender, Rounds};
use crate::server::{Framework, Kind, Spec};
use crate::{Result, Run};

const CONNECTIONS: usize = 32;
/// Of the bare framework's throughput.
const RATIO: Aim = Aim::AtLeast(0.7);
/// Microseconds of CPU time for each request.
const ADDED: Aim = Aim::AtMost(6.0);

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let rounds = if run.quick { 15 } else { 125 };
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let mut rows = Vec::new();
    let pairs = Framework::ALL.map(|framework| (framework, Kind::Receiver));
    // A/A: the bare server beside itself, as two processes.
    for (framework, other) in pairs.into_iter().chain([(Framework::Axum, Kind::Bare)]) {
        let mut contenders = Vec::new();
        for kind in [Kind::Bare, other] {
            let server = Server::start(Spec::new(framework, kind))?;
            contenders.push(Contender::new(server, CONNECTIONS, &request).await?);
        }
        compare_responses(&mut contenders).await?;
        let measured = Rounds::measure(&mut contenders, rounds, Duration::from_millis(100)).await?;
        let (ratio, added) = (measured.ratio(1, 0), measured.added_cpu(1, 0));
        let is_control = other == Kind::Bare;
        let status = |aim: Aim, median| if is_control { "–".to_owned() } else { aim.status(median) };
        rows.push(vec![
            if is_control { "bare axum, A/A".to_owned() } else { framework.name().to_owned() },
            measured.rate(0).show(0),
            measured.rate(1).show(0),
            ratio.show(3),
            status(RATIO, ratio.median),
            measured.cpu(0).show(2),
            measured.cpu(1).show(2),
            added.show(2),
            status(ADDED, added.median),
            measured.cpu_ratio(1, 0).show(3),
        ]);
    }
    heading("## Known token, small event");
    let columns = "framework | bare, requests/s | receiver, requests/s | ratio | aim | bare, CPU µs | receiver, CPU µs | added, CPU µs | aim | CPU ratio";
    table(columns, &rows);
    Ok(())
}

/// Servers that respond differently are not comparable.
async fn compare_responses(contenders: &mut [Contender]) -> Result<()> {
    let mut responses = Vec::new();
    for side in contenders {
        let response = side.client.send_once().await?.to_ascii_lowercase();
        let mut lines: Vec<_> = response.lines().filter(|line| !line.starts_with("date:")).collect();
        lines.sort_unstable();
        responses.push(lines.join("\n"));
    }
    if responses.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!("the responses differ: {responses:?}").into());
    }
    Ok(())
}
