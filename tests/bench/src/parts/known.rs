//! A known token and a small event: the usual case.

use std::time::Duration;

use crate::report::{Aim, Figure, table};
use crate::request::{Request, known_token, small_event};
use crate::server::{Framework, Kind, Spec};
use crate::turns::{Contender, Samples};
use crate::{Result, Run};

const CONNECTIONS: usize = 32;
/// Minimum ratio to the bare framework's throughput.
const RATIO: Aim = Aim::AtLeast(0.7);
/// Maximum CPU time added to each request, in microseconds.
const ADDED: Aim = Aim::AtMost(6.0);

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let rounds = if run.quick { 15 } else { 125 };
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let mut rows = Vec::new();
    let pairs = Framework::ALL.map(|framework| (framework.name(), framework, Kind::Receiver, [RATIO, ADDED]));
    // The bare server beside itself, as two processes.
    let control = ("bare axum, A/A", Framework::Axum, Kind::Bare, [Aim::None, Aim::None]);
    for (name, framework, other, aims) in pairs.into_iter().chain([control]) {
        let mut contenders = Vec::new();
        for kind in [Kind::Bare, other] {
            contenders.push(Contender::start(Spec::new(framework, kind), CONNECTIONS, &request).await?);
        }
        compare_responses(&mut contenders).await?;
        let Samples { rates, cpu } =
            Contender::measure(&mut contenders, rounds, Duration::from_millis(100)).await?;
        let (ratio, added) = (Figure::ratio(&rates[1], &rates[0]), Figure::difference(&cpu[1], &cpu[0]));
        rows.push(format!(
            "{name} | {:.0} | {:.0} | {ratio:.3} | {} | {:.2} | {:.2} | {added:.2} | {} | {:.3}",
            Figure::from_samples(&rates[0]),
            Figure::from_samples(&rates[1]),
            aims[0].status(ratio.median),
            Figure::from_samples(&cpu[0]),
            Figure::from_samples(&cpu[1]),
            aims[1].status(added.median),
            Figure::ratio(&cpu[0], &cpu[1]),
        ));
    }
    let columns = "framework | bare, requests/s | receiver, requests/s | ratio | aim | bare, CPU µs | receiver, CPU µs | added, CPU µs | aim | CPU ratio";
    table("## Known token, small event", columns, &rows);
    Ok(())
}

/// Servers that respond differently are not comparable.
async fn compare_responses(contenders: &mut [Contender]) -> Result<()> {
    let mut responses = Vec::new();
    for contender in contenders {
        let response = contender.client.send_once().await?.1.to_ascii_lowercase();
        let mut lines: Vec<_> = response.lines().filter(|line| !line.starts_with("date:")).collect();
        lines.sort_unstable();
        responses.push(lines.join("\n"));
    }
    if responses.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!("the responses differ: {responses:?}").into());
    }
    Ok(())
}
