//! Bodies of several sizes, beside the bare framework.

use std::time::Duration;

use crate::report::{Figure, table};
use crate::request::{Request, event_of, known_token};
use crate::server::{Framework, Kind, Spec};
use crate::turns::{Contender, Samples};
use crate::{Result, Run};

/// Name, bytes and connections: all bodies together fit into the receiver's memory limit.
const SIZES: [(&str, usize, usize); 4] =
    [("350 B", 350, 32), ("24 KB", 24_000, 32), ("1 MB", 1_000_000, 8), ("8 MB", 8_000_000, 4)];

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let (rounds, slice) = if run.quick { (3, 250) } else { (101, 150) };
    let token = known_token()?;
    let mut rows = Vec::new();
    for (name, bytes, connections) in SIZES {
        let delivery = Request::delivery(&event_of(bytes), &token)?;
        let mut contenders = Vec::new();
        for kind in [Kind::Bare, Kind::Receiver] {
            let spec = Spec::new(Framework::Axum, kind);
            contenders.push(Contender::start(spec, connections, &delivery).await?);
        }
        let Samples { rates, cpu } =
            Contender::measure(&mut contenders, rounds, Duration::from_millis(slice)).await?;
        rows.push(format!(
            "{name} | {:.0} | {:.0} | {:.3} | {:.1} | {:.1}",
            Figure::from_samples(&rates[0]),
            Figure::from_samples(&rates[1]),
            Figure::ratio(&rates[1], &rates[0]),
            Figure::from_samples(&cpu[0]),
            Figure::from_samples(&cpu[1]),
        ));
    }
    let columns = "body | bare, requests/s | receiver, requests/s | ratio | bare, CPU µs | receiver, CPU µs";
    table("## Sizes", columns, &rows);
    Ok(())
}
