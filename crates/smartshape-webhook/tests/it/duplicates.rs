//! How many duplicates may wait, looked at one by one.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{Delivery, HandlerError, Head, Receiver, ReceiverBuilder, RefusalKind, Secret};
use tokio::sync::watch;

const SECRET: &str = "the secret of these tests";

/// A receiver whose handler is at work until it is told to end.
struct World {
    receiver: Receiver,
    end: watch::Sender<bool>,
}

type Answering = Pin<Box<dyn Future<Output = Result<(), RefusalKind>>>>;

impl World {
    async fn new(settings: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder) -> Self {
        let builder =
            Receiver::builder().secret(Secret::new(SECRET).unwrap()).hash_wait(Duration::from_secs(60));
        let world = Self { receiver: settings(builder).build().unwrap(), end: watch::Sender::new(true) };
        // From now on the token is known, and nothing but the handler is waited for.
        assert_eq!(world.send("warm").await, Ok(()));
        world.end.send_replace(false);
        world
    }

    fn send(&self, uuid: &str) -> Answering {
        let (receiver, end) = (self.receiver.clone(), self.end.subscribe());
        let body = format!(
            r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
        );
        Box::pin(async move {
            let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
            let head = Head::read("POST", [("x-smartshape-token", token.as_bytes())]);
            let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
            let handler = move |_: Delivery| {
                let mut end = end.clone();
                async move {
                    end.wait_for(|end| *end).await?;
                    Ok::<_, HandlerError>(())
                }
            };
            let answer = receiver.serve(&head, body, Arc::new(handler)).await;
            answer.refusal().map_or(Ok(()), |refusal| Err(refusal.kind()))
        })
    }

    /// Sends, and looks once: pending is who waits.
    async fn waits(&self, uuid: &str) -> Result<Answering, RefusalKind> {
        let mut answering = self.send(uuid);
        match poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await {
            Poll::Pending => Ok(answering),
            Poll::Ready(outcome) => Err(outcome.unwrap_err()),
        }
    }

    async fn is_refused(&self, uuid: &str) {
        assert_eq!(self.waits(uuid).await.err(), Some(RefusalKind::DuplicateUnfinished), "{uuid}");
    }
}

#[tokio::test]
async fn so_many_wait_for_one_delivery() {
    let world = World::new(|builder| builder.duplicates_per_delivery(2).duplicates_in_all(3)).await;
    let at_work = world.waits("a").await.unwrap();
    let one = world.waits("a").await.unwrap();
    let two = world.waits("a").await.unwrap();
    world.is_refused("a").await;
    drop(one);
    let three = world.waits("a").await.unwrap();
    world.is_refused("a").await;
    world.end.send_replace(true);
    for answer in [at_work, two, three] {
        assert_eq!(answer.await, Ok(()));
    }
    assert_eq!(world.receiver.stats().duplicates, 3, "those who were let wait");
}

#[tokio::test]
async fn so_many_wait_in_all() {
    let world = World::new(|builder| builder.duplicates_per_delivery(3).duplicates_in_all(2)).await;
    for round in 0..3 {
        world.end.send_replace(false);
        let [a, b] = ["a", "b"].map(|uuid| format!("{uuid}{round}"));
        let at_work = [world.waits(&a).await.unwrap(), world.waits(&b).await.unwrap()];
        let (one, two) = (world.waits(&a).await.unwrap(), world.waits(&b).await.unwrap());
        world.is_refused(&a).await;
        world.is_refused(&b).await;
        drop(two);
        let again = world.waits(&a).await.unwrap();
        world.is_refused(&b).await;
        world.end.send_replace(true);
        for answer in at_work.into_iter().chain([one, again]) {
            assert_eq!(answer.await, Ok(()), "round {round}");
        }
    }
}
