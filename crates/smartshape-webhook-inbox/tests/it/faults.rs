//! Faults that no store can be made to have at will.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::{Inbox, InboxErrorKind};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use smartshape_webhook::{Delivery, Handler as _, Received, Receiver, RequestHead, Secret};
use tokio::sync::Semaphore;

use crate::it::fixture::{LONG, delivery, poll_until, succeed};
use crate::it::stub::{Stub, attempt};

const SECRET: &str = "the secret of these tests";

fn inbox(storage: &Arc<Stub>, limit: Duration) -> Inbox {
    storage.inbox_with(&Inbox::builder("stub").store_timeout(limit))
}

/// A storage whose inserts wait for permits.
fn gated(inserts: usize) -> Stub {
    Stub { insert_gate: Some(Semaphore::new(inserts)), ..Stub::default() }
}

fn unavailable() -> Arc<Stub> {
    Arc::new(Stub { unreachable: true.into(), ..Stub::default() })
}

/// For all inserts of a test.
fn open_gate(storage: &Stub) {
    storage.insert_gate.as_ref().unwrap().add_permits(1000);
}

#[tokio::test]
async fn batch_failure_rejects_each_delivery() {
    let storage = Arc::new(Stub { unreachable: true.into(), ..gated(1) });
    let inbox = inbox(&storage, LONG);
    // The first one takes the turn; the others form a group behind it.
    let open = async {
        poll_until(async || storage.batches.load(Ordering::SeqCst) > 0).await;
        open_gate(&storage);
    };
    let (rejections, ()) = tokio::join!(join_all((0..50).map(|number| inbox.rejection(number))), open);
    assert!(rejections.iter().all(|error| error.contains("the store is away")), "{rejections:?}");
    assert!(storage.batches.load(Ordering::SeqCst) < 50, "deliveries that wait share a commit");
    storage.unreachable.store(false, Ordering::SeqCst);
    inbox.store([1]).await;
    assert_eq!(storage.inserted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn concurrent_duplicates_share_one_event() {
    let storage = Arc::new(gated(1));
    let inbox = inbox(&storage, LONG);
    inbox.store([0]).await;
    // Nothing is inserted before there are permits, so these form groups.
    let all = join_all((0..60).map(|number| inbox.store([1 + number % 3])));
    tokio::join!(all, async { open_gate(&storage) });
    assert!(storage.inserted.load(Ordering::SeqCst) < 20, "{:?}", storage.inserted);
}

#[tokio::test]
async fn hanging_storage_rejects_within_timeout() {
    let error = inbox(&Arc::new(gated(0)), Duration::from_millis(20)).rejection(1).await;
    assert!(error.contains("did not respond within 20 ms"), "{error}");
}

/// Otherwise rejected bodies would pile up outside the receiver's memory limit, and a storage that recovers would be
/// kept busy with them.
#[tokio::test]
async fn queued_body_counts_against_memory_limit_until_dropped() {
    let receiver = Receiver::builder()
        .secret(Secret::new(SECRET).unwrap())
        .verify_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let (first, large) = (received(&receiver, 0, 10).await, received(&receiver, 1, 300_000).await);
    let others = [received(&receiver, 2, 10).await, received(&receiver, 3, 10).await];
    let all = receiver.stats().reserved_bytes;

    let storage = Arc::new(gated(0));
    let inbox = inbox(&storage, LONG);
    // In paused time the hour passes as soon as everything waits.
    tokio::time::pause();
    // The store is at the first one, and the large one, which has a commit of its own, is the next.
    let (first, large) = tokio::join!(inbox.handle(first), inbox.handle(large));
    assert!(first.is_err() && large.is_err());
    for other in others {
        assert!(inbox.handle(other).await.is_err());
    }
    tokio::time::resume();
    assert!(all > 300_000);
    assert_eq!(receiver.stats().reserved_bytes, all, "all of it is still there");

    let one_leaves = async {
        let left = tokio::time::timeout(Duration::ZERO, inbox.handle(delivery(1001))).await;
        assert!(left.is_err());
        open_gate(&storage);
    };
    let (stored, ()) = tokio::join!(inbox.handle(delivery(1000)), one_leaves);
    assert!(stored.is_ok());
    assert_eq!(receiver.stats().reserved_bytes, 0);
    let inserted = storage.inserted.load(Ordering::SeqCst);
    assert_eq!(inserted, 2, "the one that was being inserted, and the one whose caller still waits");
}

/// A delivery that came through `receiver`.
async fn received(receiver: &Receiver, number: u32, length: usize) -> Delivery {
    let filler = "z".repeat(length);
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":"{filler}","owner":"o","runTimestamp":1,"uuid":"uuid-{number}"}}"#
    );
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    match receiver.receive(&head, body).await.unwrap() {
        Received::New(claimed) => claimed.delivery().clone(),
        Received::Duplicate => panic!("it came before"),
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_pings_storage_once_a_second() {
    let storage = unavailable();
    let inbox = inbox(&storage, Duration::from_secs(1));
    for looks in 1..=3 {
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::ZERO, inbox.is_ready()).await.is_err(), "it has left");
        }
        assert_eq!(join_all((0..100).map(|_| inbox.is_ready())).await, [false; 100]);
        assert_eq!(storage.pings.load(Ordering::SeqCst), looks);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn worker_rejects_invalid_settings() {
    let inbox = inbox(&unavailable(), Duration::from_secs(1));
    let make = || inbox.worker(succeed);
    for (name, worker) in [
        ("concurrency", make().concurrency(0)),
        ("lease_ttl", make().lease_ttl(Duration::ZERO)),
        ("max_attempts", make().max_attempts(0)),
        ("max_lost_leases", make().max_lost_leases(0)),
    ] {
        let error = worker.spawn().shutdown().await.unwrap_err();
        assert_eq!(error.kind(), InboxErrorKind::InvalidSettings);
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// A worker does not spin on a due event that it can never claim, such as one of a newer version.
#[tokio::test(start_paused = true)]
async fn worker_polls_for_due_event_that_it_cannot_claim() {
    let storage = Arc::new(Stub { unclaimable_event: true, ..Stub::default() });
    let inbox = inbox(&storage, Duration::from_secs(1));
    let worker = inbox.worker(succeed).spawn();
    // In paused time this is over as soon as everything waits.
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(storage.claims.load(Ordering::SeqCst), 11, "once at the start, then every second");
    worker.shutdown().await.unwrap();
}

/// A claim that returns after its lease has expired, or after the worker has shut down, counts no lost lease.
#[tokio::test(start_paused = true)]
async fn late_claim_is_released() {
    let storage = Arc::new(Stub { claim_gate: Some(Semaphore::new(0)), ..Stub::with(attempt()) });
    let inbox = inbox(&storage, Duration::from_secs(1));
    let worker = inbox.worker(|_: Delivery| async { panic!("no attempt is made") }).spawn();
    let released = async |times| {
        while storage.released.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // In paused time this is over as soon as everything waits.
    tokio::time::sleep(Duration::from_secs(61)).await;
    storage.claim_gate.as_ref().unwrap().add_permits(1);
    released(1).await;
    worker.shutdown().await.unwrap();
    *storage.attempt.lock().unwrap() = Some(attempt());
    storage.claim_gate.as_ref().unwrap().add_permits(1);
    released(2).await;
}
