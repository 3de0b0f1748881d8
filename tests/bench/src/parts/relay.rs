//! Events through `smartshape relay` to a URL, beside a forwarder that neither verifies nor stores them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::process::Server;
use crate::report::{Aim, table};
use crate::request::{Request, known_token, small_event};
use crate::server::{Kind, Spec};
use crate::turns::{Contender, take_turns};
use crate::{Result, Run};

/// The relay's `concurrency`, of which 16 is the default, and the sender's connections: a relay that is to pass on more
/// has more of both, since each commit waits for the disk.
const LOADS: [(u32, usize); 2] = [(16, 32), (64, 256)];
/// Minimum ratio to the forwarder's throughput.
const RATIO: Aim = Aim::AtLeast(0.7);
/// Maximum time until the target has all.
const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(run: &Run) -> Result<()> {
    let Some(program) = std::env::var_os("SMARTSHAPE") else {
        println!("\nThe relay is left out: SMARTSHAPE names no program; `cargo xtask bench relay` builds it");
        return Ok(());
    };
    let (rounds, slice) = if run.quick { (2, 300) } else { (15, 1000) };
    let slice = Duration::from_millis(slice);
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let count = async move |_: Bytes| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?;
    let app = Router::new().route("/events", post(count));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let folder = tempfile::tempdir()?;
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let columns =
        "`concurrency` | connections | relay on SQLite, events/s | bare forwarder, events/s | ratio | aim";
    table("## The relay", columns);
    for (concurrency, connections) in LOADS {
        let inbox = folder.path().join(format!("relay-{concurrency}.db"));
        let relay = Server::start_relay(&program, &inbox, target, concurrency)?;
        let forwarder = Server::start(Spec { kind: Kind::Forwarder { target }, ..Spec::default() })?;
        let mut contenders = Vec::new();
        for server in [relay, forwarder] {
            contenders.push(Contender::new(server, connections, &request).await?);
        }
        // Events a second, from the first request until the target has had all that were accepted.
        let rates = take_turns(&mut contenders, rounds, async |contender: &mut Contender| {
            // What came before, such as the first request, has arrived or does not count.
            let (started_at, before) = (Instant::now(), received.load(Ordering::Relaxed));
            let accepted = contender.client.send_for(slice).await?.all_accepted()?.accepted;
            let arrived = async {
                while received.load(Ordering::Relaxed) - before < accepted {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(TIMEOUT, arrived).await?;
            Ok([accepted as f64 / started_at.elapsed().as_secs_f64()])
        });
        let rates = rates.await?;
        let [[relay], [forwarder]] = [&rates[0], &rates[1]];
        let ratio = relay.ratio_to(forwarder);
        let status = RATIO.status(ratio.median());
        println!("| {concurrency} | {connections} | {relay:.0} | {forwarder:.0} | {ratio:.2} | {status} |");
    }
    Ok(())
}
