//! Bodies of several sizes, beside the bare framework.

use std::time::Duration;

use crate::process::Server;
use crate::report::{heading, table};
use crate::request::{Request, event_of, known_token};
use crate::rounds::{Contender, Rounds};
use crate::server::{Framework, Kind, Spec};
use crate::{Result, Run};

/// Name, bytes and connections: all bodies together fit into the receiver's memory limit.
const SIZES: [(&str, usize, usize); 4] =
    [("350 B", 350, 32), ("24 KB", 24_000, 32), ("1 MB", 1_000_000, 8), ("8 MB", 8_000_000, 4)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (3, 250) } else { (101, 150) };
    let token = known_token()?;
    let mut rows = Vec::new();
    for (name, bytes, connections) in SIZES {
        let body = event_of(bytes);
        let delivery = Request::delivery(&body, &token)?;
        let mut contenders = Vec::new();
        for kind in [Kind::Bare, Kind::Receiver] {
            let server = Server::start(Spec::new(Framework::Axum, kind))?;
            contenders.push(Contender::new(server, connections, &delivery).await?);
        }
        let measured = Rounds::measure(&mut contenders, rounds, Duration::from_millis(slice)).await?;
        rows.push(vec![
            name.to_owned(),
            measured.rate(0).show(0),
            measured.rate(1).show(0),
            measured.ratio(1, 0).show(3),
            measured.cpu(0).show(1),
            measured.cpu(1).show(1),
        ]);
    }
    heading("## Sizes");
    let columns = "body | bare, requests/s | receiver, requests/s | ratio | bare, CPU µs | receiver, CPU µs";
    table(columns, &rows);
    Ok(())
}
