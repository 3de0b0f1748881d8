//! A primary that fails under load, and a standby that takes over.
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::it::cluster::Cluster;
use crate::it::fixture::{delivery, poll_until};
use crate::it::link::Link;
use crate::{EventFilter, EventState, Inbox, InboxErrorKind};

/// The promised time after a promotion within which the inbox works again.
const GOES_ON_WITHIN: Duration = Duration::from_secs(30);
/// Longer than anything else takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_primary_loses_nothing() {
    rounds(Fault::Kill).await;
}

/// The primary's connections and its address fall silent, while it keeps running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primary_that_is_cut_off_loses_nothing() {
    rounds(Fault::CutOff).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    CutOff,
}

async fn rounds(fault: Fault) {
    let rounds = std::env::var("FAILOVER_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        let Some(cluster) = Cluster::start().await else { return };
        let started_at = Instant::now();
        let (stored, handled) = fail_over(cluster, fault).await;
        println!(
            "{fault:?} {round}: inserts went on {stored:?} after the promotion, workers {handled:?} after it; all took {:?}",
            started_at.elapsed()
        );
    }
}

/// Numbered deliveries, each sent until it is acknowledged, and what became of them.
#[derive(Default)]
struct Load {
    next: AtomicU32,
    ended: AtomicBool,
    acknowledged: Mutex<HashSet<u32>>,
    handled: Mutex<HashSet<u32>>,
}

impl Load {
    async fn send(self: Arc<Self>, inbox: Inbox) {
        while !self.ended.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            while inbox.handle(delivery(number)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.acknowledged.lock().unwrap().insert(number);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn record(&self, delivery: &Delivery) {
        let number = delivery.uuid().strip_prefix("uuid-").unwrap().parse().unwrap();
        self.handled.lock().unwrap().insert(number);
    }
}

/// Waits until `count` numbers from `first` on are in the set.
async fn wait_for_count(set: &Mutex<HashSet<u32>>, first: u32, count: usize) {
    while set.lock().unwrap().iter().filter(|number| **number >= first).count() < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns how long after the promotion deliveries were stored and handled that were sent after it.
async fn fail_over(mut cluster: Cluster, fault: Fault) -> (Duration, Duration) {
    let mut links = [Link::to(cluster.address(0)).await, Link::to(cluster.address(1)).await];
    links.iter_mut().for_each(Link::join);
    let url = cluster.url(&format!("{},{}", links[0].address(), links[1].address()));
    let inbox = Inbox::open(&url).await.unwrap();
    cluster.execute(0, "CREATE TABLE effects (uuid text)").await;
    let load = Arc::new(Load::default());
    let seen = Arc::clone(&load);
    let plain = inbox.worker(move |delivery: Delivery| {
        seen.record(&delivery);
        async { Ok(()) }
    });
    let plain = plain.lease_ttl(Duration::from_secs(10)).spawn();
    let (seen, is_first) = (Arc::clone(&load), Arc::new(AtomicBool::new(true)));
    let transactional = inbox.transactional_worker(move |transaction, delivery| {
        let (seen, is_first) = (Arc::clone(&seen), Arc::clone(&is_first));
        Box::pin(async move {
            let insert = sqlx::query("INSERT INTO effects (uuid) VALUES ($1)").bind(delivery.uuid());
            insert.execute(&mut **transaction).await?;
            if is_first.swap(false, Ordering::SeqCst) {
                // A statement to a server that is cut off hangs like this: only the inbox can end it.
                std::future::pending::<()>().await;
            }
            seen.record(&delivery);
            Ok(())
        })
    });
    let transactional = transactional.unwrap().lease_ttl(Duration::from_secs(10)).spawn();
    let senders: Vec<_> = (0..4).map(|_| tokio::spawn(Arc::clone(&load).send(inbox.clone()))).collect();
    timeout(TIMEOUT, wait_for_count(&load.handled, 0, 50)).await.expect("it works");

    match fault {
        Fault::Kill => cluster.kill(0),
        Fault::CutOff => links[0].cut_off(),
    }
    cluster.promote(1).await;
    let promoted = Instant::now();
    let (first, limit) = (load.next.load(Ordering::SeqCst), promoted + GOES_ON_WITHIN);
    timeout_at(limit, wait_for_count(&load.acknowledged, first, 1)).await.expect("inserts go on");
    let stored = promoted.elapsed();
    timeout_at(limit, wait_for_count(&load.handled, first, 1)).await.expect("workers go on");
    let handled = promoted.elapsed();
    let ready = poll_until(async || inbox.health().await.is_ready());
    timeout_at(limit, ready).await.expect("it is ready again");

    // The former primary is back, and would take everything.
    match fault {
        Fault::Kill => cluster.run(0, &["-c", "synchronous_standby_names="]).await,
        Fault::CutOff => {
            let alone = "ALTER SYSTEM SET synchronous_standby_names = ''";
            cluster.execute(0, alone).await;
            cluster.execute(0, "SELECT pg_reload_conf()").await;
            let commits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            poll_until(async || cluster.value(0, commits).await == 0).await;
            links[0].restore();
        }
    }
    let changes = "SELECT sum(seq + fence + attempts + state * seq)::bigint FROM smartshape_inbox_events";
    let before = cluster.value(0, changes).await;
    let second = Inbox::open(&url).await.unwrap();
    let also = tokio::spawn(Arc::clone(&load).send(second));
    let first = load.next.load(Ordering::SeqCst);
    timeout(TIMEOUT, wait_for_count(&load.handled, first, 100)).await.expect("it goes on");
    load.ended.store(true, Ordering::SeqCst);
    for sender in senders.into_iter().chain([also]) {
        timeout(TIMEOUT, sender).await.expect("each delivery is acknowledged").unwrap();
    }
    poll_until(async || inbox.stats().await.is_ok_and(|stats| stats.waiting + stats.running == 0)).await;
    plain.shutdown().await.unwrap();
    transactional.shutdown().await.unwrap();

    assert_eq!(cluster.value(0, changes).await, before, "the former primary was written to");
    let completed = EventFilter::default().state(EventState::Completed).limit(u32::MAX);
    let completed = inbox.list(completed).await.unwrap().into_iter().map(|event| event.uuid);
    let completed: HashSet<String> = completed.collect();
    let lost = |number: &&u32| !completed.contains(&format!("uuid-{number}"));
    let acknowledged = load.acknowledged.lock().unwrap().clone();
    let lost: Vec<_> = acknowledged.iter().filter(lost).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
    let twice = "SELECT count(*) - count(DISTINCT uuid) FROM effects";
    assert_eq!(cluster.value(1, twice).await, 0, "effects that happened twice");
    (stored, handled)
}

/// While no server can be written to, an inbox opens for reading alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standby_is_only_read() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let url = cluster.url(&format!("{},{}", cluster.address(1), cluster.address(0)));
    let inbox = Inbox::open(&url).await.unwrap();
    inbox.store([1]).await;
    cluster.kill(0);
    // A connection that is open still may notice first.
    let is_named = |reason: String| reason.contains("server 1: it is a standby");
    poll_until(async || inbox.health().await.storage_error.is_some_and(is_named)).await;
    let open = || Inbox::builder(&url).connect_timeout(Duration::ZERO);
    assert_eq!(open().open().await.unwrap_err().kind(), InboxErrorKind::Unavailable);
    let reading = open().read_only(true).open().await.unwrap();
    assert_eq!(reading.events().await.len(), 1);
}

/// A commit whose wait for the standby was cut short is visible, and a repetition finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicate_is_acknowledged_only_when_standby_has_event() {
    let Some(cluster) = Cluster::start().await else { return };
    let inbox = Inbox::open(&cluster.url(&cluster.address(0))).await.unwrap();
    cluster.execute(0, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    cluster.execute(0, "SELECT pg_reload_conf()").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    // The server reads its settings some time later.
    let mut number = 0;
    let storing = loop {
        number += 1;
        let inbox = inbox.clone();
        let storing = tokio::spawn(async move { inbox.handle(delivery(number)).await.is_ok() });
        poll_until(async || storing.is_finished() || cluster.value(0, waiting).await > 0).await;
        if !storing.is_finished() {
            break storing;
        }
    };
    let cut_short = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    cluster.execute(0, cut_short).await;
    assert!(!storing.await.unwrap(), "acknowledged without the standby");
    assert!(
        inbox.handle(delivery(number)).await.is_err(),
        "a repetition is acknowledged without the standby"
    );
    cluster.execute(0, "ALTER SYSTEM RESET synchronous_standby_names").await;
    cluster.execute(0, "SELECT pg_reload_conf()").await;
    // Nobody is waited for any more.
    poll_until(async || inbox.handle(delivery(number)).await.is_ok()).await;
}
