//! Deduplication stores: one that hangs or panics, and what a store keeps.

use std::pin::Pin;
use std::time::Duration;

use smartshape_webhook::{
    ClaimState, Delivery, DeliveryKey, HandlerError, LeaseToken, Receiver, ReceiverBuilder, RejectionKind,
    StoreError,
};

use crate::common::{builder, poll_once, serve, uploaded};
use crate::store::{Does, Store};

use ClaimState::{Done, InFlight, New};
use Does::{Hangs, Panics, Returns};

/// A receiver that has the token in its cache. Pauses the clock.
async fn receiver(store: &Store, settings: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder) -> Receiver {
    let builder = builder().dedup_store(store.clone(), Duration::from_secs(600));
    let receiver = settings(builder).build().unwrap();
    assert_eq!(send(&receiver, "warm", true).await, Ok(()));
    tokio::time::pause();
    receiver
}

fn send(
    receiver: &Receiver,
    uuid: &str,
    succeeds: bool,
) -> Pin<Box<dyn Future<Output = Result<(), RejectionKind>>>> {
    let receiver = receiver.clone();
    let body = uploaded(uuid);
    Box::pin(async move {
        let handler = move |_: Delivery| async move {
            if succeeds { Ok(()) } else { Err(HandlerError::from("failed")) }
        };
        let response = serve(&receiver, body, handler);
        // The paused clock advances to this when every task is idle.
        let response = tokio::time::timeout(Duration::from_secs(3600), response).await.expect("stuck");
        response.rejection().map_or(Ok(()), |rejection| Err(rejection.kind()))
    })
}

#[tokio::test]
async fn failed_claim_is_rejected_and_holds_no_permit() {
    for fault in [Hangs, Panics] {
        let store = Store::default();
        let receiver = receiver(&store, |builder| builder.max_in_flight(1)).await;
        store.set(fault, Returns(New), Returns(New));
        for uuid in ["a", "b", "c"] {
            assert_eq!(send(&receiver, uuid, true).await, Err(RejectionKind::StoreUnavailable));
        }
        store.set(Returns(New), Returns(New), Returns(New));
        assert_eq!(send(&receiver, "d", true).await, Ok(()));
        assert_eq!((receiver.stats().in_flight, receiver.stats().reserved_bytes), (0, 0));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn failed_release_does_not_block_the_delivery() {
    for fault in [Hangs, Panics] {
        let store = Store::default();
        let receiver = receiver(&store, |builder| builder).await;
        store.set(Returns(New), Returns(New), fault);
        assert_eq!(send(&receiver, "a", false).await, Err(RejectionKind::HandlerFailed));
        // It waits for the release, which then times out.
        assert_eq!(send(&receiver, "a", true).await, Err(RejectionKind::DuplicateUnfinished));
        assert_eq!(send(&receiver, "a", true).await, Ok(()));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn failed_completion_is_acknowledged_and_holds_no_permit() {
    for fault in [Hangs, Panics] {
        let store = Store::default();
        let receiver = receiver(&store, |builder| builder.max_in_flight(1)).await;
        store.set(Returns(New), fault, Returns(New));
        for uuid in ["a", "b"] {
            assert_eq!(send(&receiver, uuid, true).await, Ok(()));
        }
        assert_eq!(receiver.drain(Duration::from_secs(3600)).await, 0);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn duplicate_of_another_process_waits_without_permit_and_body() {
    let store = Store::default();
    let receiver = receiver(&store, |builder| builder.max_in_flight(1)).await;
    store.set(Returns(InFlight), Returns(New), Returns(New));
    let uuids: Vec<_> = (0..1024).map(|number| format!("waits {number}")).collect();
    let mut waiting: Vec<_> = uuids.iter().map(|uuid| send(&receiver, uuid, true)).collect();
    for one in &mut waiting {
        assert!(poll_once(one).await.is_pending());
    }
    assert_eq!((receiver.stats().in_flight, receiver.stats().reserved_bytes), (0, 0));
    assert_eq!(
        send(&receiver, "c", true).await,
        Err(RejectionKind::DuplicateUnfinished),
        "1024 wait already"
    );
    // A new delivery gets the permit.
    store.set(Returns(New), Returns(New), Returns(New));
    assert_eq!(send(&receiver, "d", true).await, Ok(()));
    store.set(Returns(Done), Returns(New), Returns(New));
    for one in waiting {
        assert_eq!(one.await, Ok(()));
    }
}

#[tokio::test]
async fn delivery_that_another_process_released_is_left_to_the_next_attempt() {
    let store = Store::default();
    let receiver = receiver(&store, |builder| builder).await;
    store.set(Returns(InFlight), Returns(New), Returns(New));
    assert_eq!(
        send(&receiver, "a", true).await,
        Err(RejectionKind::DuplicateUnfinished),
        "still in flight at the end"
    );
    let mut waiting = send(&receiver, "a", true);
    assert!(poll_once(&mut waiting).await.is_pending());
    store.set(Returns(New), Returns(New), Returns(New));
    assert_eq!(waiting.await, Err(RejectionKind::DuplicateUnfinished));
    let mut next = send(&receiver, "a", true).await;
    if next == Err(RejectionKind::DuplicateUnfinished) {
        // The claim of the request before was still being released.
        next = send(&receiver, "a", true).await;
    }
    assert_eq!(next, Ok(()));
}

#[test]
fn keys_and_lease_tokens_survive_a_database() {
    let key = DeliveryKey::new("u", "file_uploaded", "o");
    assert_eq!(DeliveryKey::from_bytes(*key.as_bytes()), key);
    let text = key.to_string();
    assert_eq!((text.parse(), format!("{key:?}")), (Ok(key), format!("DeliveryKey({text})")));
    let short = &text[1..];
    for wrong in ["", short, &format!("{text}0"), &format!("+{short}"), &format!("g{short}")] {
        let error = wrong.parse::<DeliveryKey>().unwrap_err();
        assert_eq!(error.to_string(), "a delivery's key has 32 hexadecimal digits", "{wrong}");
    }
    assert_eq!(StoreError::new("out of reach").to_string(), "out of reach");
    assert_eq!(LeaseToken::new(u128::MAX - 1).number(), u128::MAX - 1);
}
