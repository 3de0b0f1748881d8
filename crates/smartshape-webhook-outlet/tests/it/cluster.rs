//! A cluster of three servers that are killed under load.

use std::collections::HashSet;
use std::time::Duration;

use smartshape_webhook::Handler as _;
use smartshape_webhook_outlet::CloudEvent;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::nats::Nats;
use crate::{body_of, delivery};

const PUBLISHERS: usize = 16;
/// Acknowledged between two kills at least.
const PROGRESS: usize = 200;
/// An election takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(90);

/// `NATS_KILLS` is the number of leaders to kill; `cargo xtask torture` kills more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_and_clusters_lose_and_repeat_nothing() {
    let kills = std::env::var("NATS_KILLS").map_or(2, |kills| kills.parse().unwrap());
    let Some(mut nats) = Nats::start(3, "").await else { return };
    let outlet = nats.builder().min_replicas(3).timeout(Duration::from_secs(3)).open().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let (progress, mut acknowledged) = watch::channel(0);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (outlet, stopped, progress) = (outlet.clone(), stopped.clone(), progress.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                let mut failures = 0;
                while !*stopped.borrow() {
                    // Each event has two publishers, as after a delivery that was repeated to two replicas.
                    let event = delivery(&body_of(&format!("{}-{}", publisher / 2, ids.len())));
                    while outlet.handle(event.clone()).await.is_err() {
                        failures += 1;
                    }
                    ids.push(CloudEvent::from(&event).id);
                    progress.send_modify(|count| *count += 1);
                }
                (ids, failures)
            })
        })
        .collect();
    let mut goes_on = async || {
        let target = *acknowledged.borrow() + PROGRESS;
        timeout(TIMEOUT, acknowledged.wait_for(|count| *count >= target))
            .await
            .expect("an election")
            .unwrap();
    };
    goes_on().await;
    for _ in 0..kills {
        let leader = nats.servers.leader("EVENTS").unwrap();
        nats.servers.kill(leader).unwrap();
        goes_on().await;
        nats.servers.restart().unwrap();
        goes_on().await;
    }
    nats.servers.kill_all().unwrap();
    nats.servers.restart().unwrap();
    goes_on().await;
    stop.send(true).unwrap();
    let (mut acknowledged, mut failures) = (HashSet::new(), 0);
    for publisher in publishers {
        let (ids, failed) = publisher.await.unwrap();
        acknowledged.extend(ids);
        failures += failed;
    }
    let mut stored = HashSet::new();
    for message in nats.messages().await {
        let id = message.headers.as_ref().unwrap().get("ce-id").unwrap().as_str().to_owned();
        assert!(stored.insert(id), "stored twice");
    }
    println!(
        "{kills} leaders killed, then all servers: {} events acknowledged, {} stored, {failures} attempts failed",
        acknowledged.len(),
        stored.len()
    );
    assert_eq!(acknowledged.difference(&stored).count(), 0, "acknowledged and lost");
}
