//! Other endpoints for the same deliveries, which hash the token each time.

use std::time::Duration;

use smartshape_fake::{Prefix, token};

use crate::process::Server;
use crate::report::{Aim, table};
use crate::request::{Request, small_event};
use crate::server::{Kind, SECRET, Spec};
use crate::turns::Contender;
use crate::{Result, Run};

/// Costs of the token, and how many times faster the receiver is to be: from the likely cost on.
const COSTS: [(u32, Aim); 3] = [(4, Aim::None), (10, Aim::AtLeast(1000.0)), (12, Aim::AtLeast(1000.0))];
/// Number of concurrent requests. It is small, since a turn ends when all have a response, and each waits for its hash.
const CONNECTIONS: usize = 8;

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (1, 200) } else { (5, 500) };
    let columns = "token's cost | endpoint | requests/s | CPU µs | receiver is faster, times | aim";
    table("## Other endpoints", columns);
    for (cost, aim) in COSTS {
        let request = Request::delivery(&small_event(), &token(SECRET, cost, Prefix::TwoB)?)?;
        let naive = Server::start(Spec { kind: Kind::Naive, ..Spec::default() })?;
        let mut servers = vec![("receiver", Server::start(Spec::default())?), ("naive Rust", naive)];
        for [name, program, file] in run.peers.as_chunks().0 {
            servers.push((name, Server::start_peer(program, file)?));
        }
        let (mut names, mut contenders) = (Vec::new(), Vec::new());
        for (name, server) in servers {
            names.push(name);
            contenders.push(Contender::new(server, CONNECTIONS, &request).await?);
        }
        let samples = Contender::measure(&mut contenders, rounds, Duration::from_millis(slice)).await?;
        for (index, (name, [rate, cpu])) in names.iter().zip(&samples).enumerate() {
            let decimals = usize::from(rate.median() < 100.0);
            let faster = samples[0][0].ratio_to(rate);
            let compared = match index {
                0 => "– | –".to_owned(),
                _ => format!("{faster:.0} | {}", aim.status(faster.median())),
            };
            println!("| {cost} | {name} | {rate:.decimals$} | {cpu:.0} | {compared} |");
        }
    }
    Ok(())
}
