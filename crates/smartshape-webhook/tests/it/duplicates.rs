//! The limits of waiting duplicates.

use std::pin::Pin;
use std::task::Poll;

use smartshape_webhook::{Delivery, HandlerError, Receiver, RejectionKind};
use tokio::sync::watch;

use crate::common::{builder, poll_once, serve, uploaded};

/// A receiver whose handlers run until `end` is set.
struct Fixture {
    receiver: Receiver,
    end: watch::Sender<bool>,
}

type Responding = Pin<Box<dyn Future<Output = Result<(), RejectionKind>>>>;

impl Fixture {
    async fn new() -> Self {
        let fixture = Self { receiver: builder().build().unwrap(), end: watch::Sender::new(true) };
        // From now on the token is cached, and requests wait for the handler only.
        assert_eq!(fixture.send("warm").await, Ok(()));
        fixture.end.send_replace(false);
        fixture
    }

    fn send(&self, uuid: &str) -> Responding {
        let (receiver, end) = (self.receiver.clone(), self.end.subscribe());
        let body = uploaded(uuid);
        Box::pin(async move {
            let handler = move |_: Delivery| {
                let mut end = end.clone();
                async move {
                    end.wait_for(|end| *end).await?;
                    Ok::<_, HandlerError>(())
                }
            };
            let response = serve(&receiver, body, handler).await;
            response.rejection().map_or(Ok(()), |rejection| Err(rejection.kind()))
        })
    }

    /// Sends and polls once: a pending request waits.
    async fn send_and_wait(&self, uuid: &str) -> Result<Responding, RejectionKind> {
        let mut responding = self.send(uuid);
        match poll_once(&mut responding).await {
            Poll::Pending => Ok(responding),
            Poll::Ready(outcome) => Err(outcome.unwrap_err()),
        }
    }

    async fn assert_rejected(&self, uuid: &str) {
        assert_eq!(self.send_and_wait(uuid).await.err(), Some(RejectionKind::DuplicateUnfinished), "{uuid}");
    }
}

#[tokio::test]
async fn waiting_duplicates_are_limited_per_delivery() {
    let fixture = Fixture::new().await;
    let in_flight = fixture.send_and_wait("a").await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..8 {
        waiters.push(fixture.send_and_wait("a").await.unwrap());
    }
    fixture.assert_rejected("a").await;
    drop(waiters.pop());
    waiters.push(fixture.send_and_wait("a").await.unwrap());
    fixture.assert_rejected("a").await;
    fixture.end.send_replace(true);
    for response in std::iter::once(in_flight).chain(waiters) {
        assert_eq!(response.await, Ok(()));
    }
    assert_eq!(fixture.receiver.stats().duplicates, 9, "only those that waited");
}

#[tokio::test]
async fn waiting_duplicates_are_limited_in_all() {
    let fixture = Fixture::new().await;
    for round in 0..2 {
        fixture.end.send_replace(false);
        let mut responses = Vec::new();
        for delivery in 0..129 {
            responses.push(fixture.send_and_wait(&format!("{delivery} of {round}")).await.unwrap());
        }
        for delivery in 0..128 {
            for _ in 0..8 {
                responses.push(fixture.send_and_wait(&format!("{delivery} of {round}")).await.unwrap());
            }
        }
        let last = format!("128 of {round}");
        fixture.assert_rejected(&last).await;
        drop(responses.pop());
        responses.push(fixture.send_and_wait(&last).await.unwrap());
        fixture.assert_rejected(&last).await;
        fixture.end.send_replace(true);
        for response in responses {
            assert_eq!(response.await, Ok(()), "round {round}");
        }
    }
}
