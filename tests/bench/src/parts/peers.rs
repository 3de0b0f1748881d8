//! Other endpoints for the same deliveries, which hash the token each time.

use std::time::Duration;

use smartshape_fake::{Prefix, token};

use crate::process::Server;
use crate::report::{Aim, Figure, table};
use crate::request::{Request, small_event};
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::turns::{Contender, Samples};
use crate::{Result, Run};

/// Costs of the token, and how many times faster the receiver is to be: from the likely cost on.
const COSTS: [(u32, Aim); 3] = [(4, Aim::None), (10, Aim::AtLeast(1000.0)), (12, Aim::AtLeast(1000.0))];
/// Number of concurrent requests. It is small, since a turn ends when all have a response, and each waits for its hash.
const CONNECTIONS: usize = 8;

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 200) } else { (5, 500) };
    let mut rows = Vec::new();
    for (cost, aim) in COSTS {
        let request = Request::delivery(&small_event(), &token(SECRET, cost, Prefix::TwoB)?)?;
        let (mut names, mut contenders) = (vec!["receiver", "naive Rust"], Vec::new());
        for kind in [Kind::Receiver, Kind::Naive] {
            let spec = Spec::new(Framework::Axum, kind);
            contenders.push(Contender::start(spec, CONNECTIONS, &request).await?);
        }
        for peer in &run.peers {
            names.push(&peer.name);
            contenders.push(Contender::new(Server::start_peer(peer)?, CONNECTIONS, &request).await?);
        }
        let Samples { rates, cpu } =
            Contender::measure(&mut contenders, rounds, Duration::from_millis(slice)).await?;
        for (index, name) in names.into_iter().enumerate() {
            let (rate, cpu) = (Figure::from_samples(&rates[index]), Figure::from_samples(&cpu[index]));
            let decimals = usize::from(rate.median < 100.0);
            let faster = Figure::ratio(&rates[0], &rates[index]);
            let compared = match index {
                0 => "– | –".to_owned(),
                _ => format!("{faster:.0} | {}", aim.status(faster.median)),
            };
            rows.push(format!("{cost} | {name} | {rate:.decimals$} | {cpu:.0} | {compared}"));
        }
    }
    let columns = "token's cost | endpoint | requests/s | CPU µs | receiver is faster, times | aim";
    table("## Other endpoints", columns, &rows);
    Ok(())
}
