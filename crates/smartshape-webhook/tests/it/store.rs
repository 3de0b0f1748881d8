//! A shared deduplication store that hangs or panics.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    ClaimState, DedupStore, Delivery, DeliveryKey, HandlerError, LeaseToken, Receiver, ReceiverBuilder,
    RejectionKind, RequestHead, Secret, StoreError, StoreFuture, TOKEN_HEADER,
};

const SECRET: &str = "the secret of these tests";
static TOKEN: LazyLock<String> =
    LazyLock::new(|| bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string());

/// What the store does when it is asked.
#[derive(Clone, Copy)]
enum Does {
    Answers(ClaimState),
    Hangs,
    Panics,
}

use ClaimState::{Done, InFlight, New};
use Does::{Answers, Hangs, Panics};

/// How it meets claims, completions and releases.
#[derive(Clone)]
struct Store(Arc<Mutex<[Does; 3]>>);

impl Store {
    fn new() -> Self {
        Self(Arc::new(Mutex::new([Answers(New); 3])))
    }

    fn set(&self, claim: Does, complete: Does, release: Does) {
        *self.0.lock().unwrap() = [claim, complete, release];
    }

    async fn asked(&self, which: usize) -> Result<ClaimState, StoreError> {
        let does = self.0.lock().unwrap()[which];
        match does {
            Answers(state) => Ok(state),
            Hangs => pending().await,
            // Without the message that a panic prints.
            Panics => std::panic::resume_unwind(Box::new("on purpose")),
        }
    }
}

impl DedupStore for Store {
    fn claim(&self, _: DeliveryKey, _: LeaseToken, _: Duration) -> StoreFuture<'_, ClaimState> {
        Box::pin(self.asked(0))
    }

    fn complete(&self, _: DeliveryKey, _: LeaseToken) -> StoreFuture<'_, ()> {
        Box::pin(async { self.asked(1).await.map(drop) })
    }

    fn release(&self, _: DeliveryKey, _: LeaseToken) -> StoreFuture<'_, ()> {
        Box::pin(async { self.asked(2).await.map(drop) })
    }
}

/// A receiver that knows the token, and from then on a clock that stands still.
async fn receiver(store: &Store, settings: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder) -> Receiver {
    let builder = Receiver::builder()
        .secret(Secret::new(SECRET).unwrap())
        .verify_timeout(Duration::from_secs(60))
        .dedup_store(store.clone(), Duration::from_secs(600));
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
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
    );
    Box::pin(async move {
        let head = RequestHead::from_parts("POST", [(TOKEN_HEADER, TOKEN.as_bytes())]);
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
        let handler = move |_: Delivery| async move {
            if succeeds { Ok(()) } else { Err(HandlerError::from("failed")) }
        };
        let answer = receiver.serve(&head, body, Arc::new(handler));
        // The clock stands still, and leaps to this when nothing else can happen.
        let answer = tokio::time::timeout(Duration::from_secs(3600), answer).await.expect("stuck");
        answer.rejection().map_or(Ok(()), |rejection| Err(rejection.kind()))
    })
}

#[tokio::test]
async fn a_claim_without_an_answer_is_rejected_and_holds_nothing() {
    for trouble in [Hangs, Panics] {
        let store = Store::new();
        let receiver = receiver(&store, |builder| builder.max_in_flight(1)).await;
        store.set(trouble, Answers(New), Answers(New));
        for uuid in ["a", "b", "c"] {
            assert_eq!(send(&receiver, uuid, true).await, Err(RejectionKind::StoreUnavailable));
        }
        store.set(Answers(New), Answers(New), Answers(New));
        assert_eq!(send(&receiver, "d", true).await, Ok(()));
        assert_eq!((receiver.stats().in_flight, receiver.stats().reserved_bytes), (0, 0));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_claim_that_cannot_be_given_back_does_not_shut_the_delivery_out() {
    for trouble in [Hangs, Panics] {
        let store = Store::new();
        let receiver = receiver(&store, |builder| builder).await;
        store.set(Answers(New), Answers(New), trouble);
        assert_eq!(send(&receiver, "a", false).await, Err(RejectionKind::HandlerFailed));
        // It waits for the one before, which is then given up.
        assert_eq!(send(&receiver, "a", true).await, Err(RejectionKind::DuplicateUnfinished));
        assert_eq!(send(&receiver, "a", true).await, Ok(()));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_completion_that_cannot_be_recorded_is_acknowledged_and_holds_no_place() {
    for trouble in [Hangs, Panics] {
        let store = Store::new();
        let receiver = receiver(&store, |builder| builder.max_in_flight(1)).await;
        store.set(Answers(New), trouble, Answers(New));
        for uuid in ["a", "b"] {
            assert_eq!(send(&receiver, uuid, true).await, Ok(()));
        }
        assert_eq!(receiver.drain(Duration::from_secs(3600)).await, 0);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_duplicate_that_waits_for_another_process_holds_neither_a_permit_nor_its_body() {
    let store = Store::new();
    let receiver = receiver(&store, |builder| builder.max_in_flight(1)).await;
    store.set(Answers(InFlight), Answers(New), Answers(New));
    let uuids: Vec<_> = (0..1024).map(|number| format!("waits {number}")).collect();
    let mut waiting: Vec<_> = uuids.iter().map(|uuid| send(&receiver, uuid, true)).collect();
    for one in &mut waiting {
        assert!(poll_fn(|context| Poll::Ready(one.as_mut().poll(context).is_pending())).await);
    }
    assert_eq!((receiver.stats().in_flight, receiver.stats().reserved_bytes), (0, 0));
    assert_eq!(
        send(&receiver, "c", true).await,
        Err(RejectionKind::DuplicateUnfinished),
        "1024 wait already"
    );
    // One that is new here has the place.
    store.set(Answers(New), Answers(New), Answers(New));
    assert_eq!(send(&receiver, "d", true).await, Ok(()));
    store.set(Answers(Done), Answers(New), Answers(New));
    for one in waiting {
        assert_eq!(one.await, Ok(()));
    }
}

#[tokio::test]
async fn what_another_process_gave_back_is_left_to_the_senders_next_attempt() {
    let store = Store::new();
    let receiver = receiver(&store, |builder| builder).await;
    store.set(Answers(InFlight), Answers(New), Answers(New));
    assert_eq!(
        send(&receiver, "a", true).await,
        Err(RejectionKind::DuplicateUnfinished),
        "it stands at the end"
    );
    let mut waiting = pin!(send(&receiver, "a", true));
    assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
    store.set(Answers(New), Answers(New), Answers(New));
    assert_eq!(waiting.await, Err(RejectionKind::DuplicateUnfinished));
    let mut next = send(&receiver, "a", true).await;
    if next == Err(RejectionKind::DuplicateUnfinished) {
        // It met the one before while that was given back.
        next = send(&receiver, "a", true).await;
    }
    assert_eq!(next, Ok(()));
}
