//! What the outlet publishes, beside two bare loops of the same client: `cargo xtask bench outlet`. One publishes the
//! body alone; the other the message that the outlet publishes, with its headers and its condition, so that the rest of
//! the difference is what the server does for them.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark talks to people")]

use std::path::PathBuf;
use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use smartshape_webhook::{Delivery, Handler as _};
use smartshape_webhook_outlet::{CloudEvent, JetStreamOutlet};
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
    println!(
        "| servers | bare, events/s | same message, bare, events/s | outlet, events/s | ratio | aim | to the same message |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, count, settings) in SETTINGS {
        let servers = Servers::start(&program, count, settings).unwrap();
        let urls: Vec<String> = servers.urls().split(',').map(str::to_owned).collect();
        let jetstream = jetstream::new(async_nats::connect(urls).await.unwrap());
        for (name, subject) in [("EVENTS", "smartshape.>"), ("BARE", "bare.>"), ("SAME", "same.>")] {
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
            let same = rate(&deliveries, |delivery| same(&jetstream, delivery)).await;
            let ours = rate(&deliveries, |delivery| async { outlet.handle(delivery).await.unwrap() }).await;
            measured.push([bare, same, ours, ours / bare, ours / same]);
        }
        let quartiles = |column: usize| {
            let mut values: Vec<f64> = measured.iter().map(|round| round[column]).collect();
            values.sort_by(f64::total_cmp);
            [1, 2, 3].map(|quarter| values[rounds * quarter / 4])
        };
        let [bare, same, ours] = [0, 1, 2].map(|column| quartiles(column)[1]);
        let [ratio, to_same] = [3, 4].map(|column| {
            let [low, median, high] = quartiles(column);
            format!("{median:.2} ({low:.2} to {high:.2})")
        });
        let met = if quartiles(3)[1] >= AIM { "met" } else { "missed" };
        println!("| {name} | {bare:.0} | {same:.0} | {ours:.0} | {ratio} | ≥ {AIM}: {met} | {to_same} |");
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

async fn same(jetstream: &Context, delivery: Delivery) {
    let event = CloudEvent::from(&delivery);
    let mut headers = HeaderMap::new();
    for (name, value) in event.headers() {
        headers.insert(name, value);
    }
    headers.insert(NATS_EXPECTED_STREAM, "SAME");
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    let subject = format!("same.{}.{}", event.event_type, event.id);
    jetstream.publish_with_headers(subject, headers, event.data).await.unwrap().await.unwrap();
}

async fn rate<F: Future<Output = ()>>(deliveries: &[Delivery], publish: impl Fn(Delivery) -> F) -> f64 {
    let started_at = Instant::now();
    stream::iter(deliveries.iter().cloned())
        .map(publish)
        .buffer_unordered(IN_FLIGHT)
        .for_each(|()| async {})
        .await;
    deliveries.len() as f64 / started_at.elapsed().as_secs_f64()
}
