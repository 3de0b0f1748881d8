//! Events through `smartshape relay` to a URL, beside a forwarder that neither verifies nor stores them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::client::Client;
use crate::process::Server;
use crate::report::{Aim, Figure, table};
use crate::request::{Request, Tokens, known_token, small_event};
use crate::server::{Framework, Kind, Spec};
use crate::turns::take_turns;
use crate::{Result, Run};

/// The relay's `concurrency`, of which 16 is the default, and the sender's connections: a relay that is to pass on more has more of
/// both, since each commit waits for the disk.
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
    let app = Router::new().route(
        "/events",
        post(async move |_: Bytes| {
            counter.fetch_add(1, Ordering::Relaxed);
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let folder = tempfile::tempdir()?;
    let request = Request::delivery(&small_event(), &known_token()?)?;
    let forwarder = Server::start(Spec::new(Framework::Axum, Kind::Forwarder { target }))?;
    let mut rows = Vec::new();
    for (concurrency, connections) in LOADS {
        let inbox = folder.path().join(format!("relay-{concurrency}.db"));
        let relay = Server::start_relay(Path::new(&program), &inbox, target, concurrency)?;
        let mut clients = Vec::new();
        for server in [&relay, &forwarder] {
            let mut client = Client::new(server.address, connections, &request, &Tokens::Same);
            client.warm_token_cache().await?;
            clients.push(client);
        }
        let measure = async |client: &mut Client| passed_on(client, &received, slice).await;
        let rates = take_turns(&mut clients, rounds, measure).await?;
        let ratio = Figure::ratio(&rates[0], &rates[1]);
        rows.push(format!(
            "{concurrency} | {connections} | {:.0} | {:.0} | {ratio:.2} | {}",
            Figure::from_samples(&rates[0]),
            Figure::from_samples(&rates[1]),
            RATIO.status(ratio.median),
        ));
    }
    let columns =
        "`concurrency` | connections | relay on SQLite, events/s | bare forwarder, events/s | ratio | aim";
    table("## The relay", columns, &rows);
    Ok(())
}

/// Events a second, from the first request until the target has had all that were accepted.
async fn passed_on(client: &mut Client, received: &AtomicU64, slice: Duration) -> Result<f64> {
    // What came before, such as the first request, has arrived or does not count.
    let started_at = Instant::now();
    let before = received.load(Ordering::Relaxed);
    let counts = client.send_for(slice).await?.all_accepted()?;
    while received.load(Ordering::Relaxed) - before < counts.accepted {
        if started_at.elapsed() > TIMEOUT {
            return Err("the target does not get all events".into());
        }
        tokio::task::yield_now().await;
    }
    Ok(counts.accepted as f64 / started_at.elapsed().as_secs_f64())
}
