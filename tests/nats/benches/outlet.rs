//! What the outlet publishes, beside a bare loop of the same client: `cargo xtask bench outlet`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark talks to people")]

use std::path::PathBuf;
use std::time::Instant;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use smartshape_webhook::{Delivery, Handler as _};
use smartshape_webhook_outlet::JetStreamOutlet;
use test_nats::Servers;

const IN_FLIGHT: usize = 64;
const AIM: f64 = 0.8;
/// The second does not wait for the disk, so that what the client does shows most.
const SETTINGS: [(&str, usize, &str); 3] = [
    ("one server, syncs each message", 1, ""),
    ("one server, syncs every 2 minutes", 1, r#"jetstream { store_dir: "{store}", sync_interval: "2m" }"#),
    ("three servers", 3, ""),
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --benches` only builds and starts it.
    let (rounds, events) =
        if std::env::args().any(|argument| argument == "--bench") { (11, 4_000) } else { (1, 10) };
    let Some(program) = std::env::var_os("NATS_SERVER").map(PathBuf::from) else { return };
    println!("| servers | bare, events/s | outlet, events/s | ratio | aim |\n|---|---|---|---|---|");
    for (name, count, settings) in SETTINGS {
        let servers = Servers::start(&program, count, settings).unwrap();
        let urls: Vec<String> = servers.urls().split(',').map(str::to_owned).collect();
        let jetstream = jetstream::new(async_nats::connect(urls).await.unwrap());
        for (name, subject) in [("EVENTS", "smartshape.>"), ("BARE", "bare.>")] {
            let subjects = vec![subject.to_owned()];
            let (name, num_replicas, discard) = (name.to_owned(), count, DiscardPolicy::New);
            let config = Config { name, subjects, num_replicas, discard, ..Default::default() };
            jetstream.create_stream(config).await.unwrap();
        }
        let outlet =
            JetStreamOutlet::builder(&servers.urls(), "EVENTS").min_replicas(1).open().await.unwrap();
        let mut measured = Vec::new();
        for round in 0..rounds {
            // In turns, and each round's ratio for itself, so that a busy moment of the machine meets both sides.
            let deliveries: Vec<_> = (0..events).map(|number| delivery(round, number)).collect();
            let bare = rate(&deliveries, |delivery| bare(&jetstream, delivery)).await;
            let ours = rate(&deliveries, |delivery| async { outlet.handle(delivery).await.unwrap() }).await;
            measured.push((ours / bare, bare, ours));
        }
        measured.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, bare, ours) = measured[rounds / 2];
        let (low, high) = (measured[rounds / 4].0, measured[rounds * 3 / 4].0);
        let met = if ratio >= AIM { "met" } else { "missed" };
        println!("| {name} | {bare:.0} | {ours:.0} | {ratio:.2} ({low:.2} to {high:.2}) | ≥ {AIM}: {met} |");
    }
}

fn delivery(round: usize, number: usize) -> Delivery {
    let body = format!(
        r#"{{"file":"5c6f","event":"file_uploaded","data":{{"name":"{}"}},"owner":"test@smartshape.io","runTimestamp":1548061171539,"uuid":"{round}-{number}"}}"#,
        "x".repeat(250)
    );
    Delivery::for_test(body).unwrap()
}

async fn bare(jetstream: &Context, delivery: Delivery) {
    let body: Bytes = delivery.raw().clone();
    jetstream.publish(format!("bare.{}", delivery.key()), body).await.unwrap().await.unwrap();
}

async fn rate<F: Future<Output = ()>>(deliveries: &[Delivery], publish: impl Fn(Delivery) -> F) -> f64 {
    let begun = Instant::now();
    stream::iter(deliveries.iter().cloned())
        .map(publish)
        .buffer_unordered(IN_FLIGHT)
        .for_each(|()| async {})
        .await;
    deliveries.len() as f64 / begun.elapsed().as_secs_f64()
}
