//! Other endpoints for the same deliveries, which hash the token each time.

use std::time::Duration;

use smartshape_fake::{Prefix, token};

use crate::process::Server;
use crate::report::{Aim, heading, number, table};
use crate::request::{Request, small_event};
use crate::rounds::{Contender, Rounds};
use crate::server::{Framework, Kind, SECRET, Spec};
use crate::{Result, Run};

const COSTS: [u32; 3] = [4, 10, 12];
/// From the likely cost on.
const LIKELY: u32 = 10;
const FASTER: Aim = Aim::AtLeast(1000.0);
/// Few, since a turn ends when all are answered, and each waits for its hash.
const CONNECTIONS: usize = 8;

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 200) } else { (5, 500) };
    let mut rows = Vec::new();
    for cost in COSTS {
        let request = Request::delivery(&small_event(), &token(SECRET, cost, Prefix::TwoB)?)?;
        let mut names = vec!["receiver", "naive Rust"];
        let mut servers = Vec::new();
        for kind in [Kind::Receiver, Kind::Naive] {
            servers.push(Server::start(Spec::new(Framework::Axum, kind))?);
        }
        for peer in &run.peers {
            names.push(&peer.name);
            servers.push(Server::start_peer(peer)?);
        }
        let mut contenders = Vec::new();
        for server in servers {
            contenders.push(Contender::new(server, CONNECTIONS, &request).await?);
        }
        let measured = Rounds::measure(&mut contenders, rounds, Duration::from_millis(slice)).await?;
        for (side, name) in names.into_iter().enumerate() {
            let (rate, faster) = (measured.rate(side), measured.ratio(0, side));
            let is_compared = side > 0 && cost >= LIKELY;
            rows.push(vec![
                number(cost.into(), 0),
                name.to_owned(),
                rate.show(usize::from(rate.median < 100.0)),
                measured.cpu(side).show(0),
                if side == 0 { "–".to_owned() } else { faster.show(0) },
                if is_compared { FASTER.status(faster.median) } else { "–".to_owned() },
            ]);
        }
    }
    heading("## Other endpoints");
    let columns = "token's cost | endpoint | requests/s | CPU µs | receiver is faster, times | aim";
    table(columns, &rows);
    Ok(())
}
