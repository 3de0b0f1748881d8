//! How many duplicates may wait, looked at one by one.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    Delivery, HandlerError, Receiver, ReceiverBuilder, RejectionKind, RequestHead, Secret,
};
use tokio::sync::watch;

const SECRET: &str = "the secret of these tests";

/// A receiver whose handler is at work until it is told to end.
struct World {
    receiver: Receiver,
    end: watch::Sender<bool>,
}

type Responding = Pin<Box<dyn Future<Output = Result<(), RejectionKind>>>>;

impl World {
    async fn new(settings: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder) -> Self {
        let builder =
            Receiver::builder().secret(Secret::new(SECRET).unwrap()).verify_timeout(Duration::from_secs(60));
        let world = Self { receiver: settings(builder).build().unwrap(), end: watch::Sender::new(true) };
        // From now on the token is known, and nothing but the handler is waited for.
        assert_eq!(world.send("warm").await, Ok(()));
        world.end.send_replace(false);
        world
    }

    fn send(&self, uuid: &str) -> Responding {
        let (receiver, end) = (self.receiver.clone(), self.end.subscribe());
        let body = format!(
            r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
        );
        Box::pin(async move {
            let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
            let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
            let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
            let handler = move |_: Delivery| {
                let mut end = end.clone();
                async move {
                    end.wait_for(|end| *end).await?;
                    Ok::<_, HandlerError>(())
                }
            };
            let response = receiver.serve(&head, body, Arc::new(handler)).await;
            response.rejection().map_or(Ok(()), |rejection| Err(rejection.kind()))
        })
    }

    /// Sends, and looks once: pending is who waits.
    async fn waits(&self, uuid: &str) -> Result<Responding, RejectionKind> {
        let mut responding = self.send(uuid);
        match poll_fn(|context| Poll::Ready(responding.as_mut().poll(context))).await {
            Poll::Pending => Ok(responding),
            Poll::Ready(outcome) => Err(outcome.unwrap_err()),
        }
    }

    async fn is_rejected(&self, uuid: &str) {
        assert_eq!(self.waits(uuid).await.err(), Some(RejectionKind::DuplicateUnfinished), "{uuid}");
    }
}

#[tokio::test]
async fn duplicates_that_wait_are_limited_per_delivery() {
    let world = World::new(|builder| builder).await;
    let in_flight = world.waits("a").await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..8 {
        waiters.push(world.waits("a").await.unwrap());
    }
    world.is_rejected("a").await;
    drop(waiters.pop());
    waiters.push(world.waits("a").await.unwrap());
    world.is_rejected("a").await;
    world.end.send_replace(true);
    for response in std::iter::once(in_flight).chain(waiters) {
        assert_eq!(response.await, Ok(()));
    }
    assert_eq!(world.receiver.stats().duplicates, 9, "those that were allowed to wait");
}

#[tokio::test]
async fn duplicates_that_wait_are_limited_in_all() {
    let world = World::new(|builder| builder).await;
    for round in 0..2 {
        world.end.send_replace(false);
        let mut responses = Vec::new();
        for delivery in 0..129 {
            responses.push(world.waits(&format!("{delivery} of {round}")).await.unwrap());
        }
        for delivery in 0..128 {
            for _ in 0..8 {
                responses.push(world.waits(&format!("{delivery} of {round}")).await.unwrap());
            }
        }
        let last = format!("128 of {round}");
        world.is_rejected(&last).await;
        drop(responses.pop());
        responses.push(world.waits(&last).await.unwrap());
        world.is_rejected(&last).await;
        world.end.send_replace(true);
        for response in responses {
            assert_eq!(response.await, Ok(()), "round {round}");
        }
    }
}
