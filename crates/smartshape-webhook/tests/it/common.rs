//! What the tests of the receive path share.

use std::future::poll_fn;
use std::panic::Location;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, stream};
use smartshape_webhook::{
    Claimed, Delivery, Handler, HandlerError, Received, Receiver, ReceiverBuilder, RequestHead, Secret,
    TOKEN_HEADER, WebhookResponse,
};

pub(crate) const SECRET: &str = "the secret of these tests";

/// A token of [`SECRET`].
pub(crate) static TOKEN: LazyLock<String> = LazyLock::new(|| token_of(SECRET, 7));

pub(crate) fn token_of(secret: &str, salt: u8) -> String {
    bcrypt::hash_with_salt(secret, 4, [salt; 16]).unwrap().to_string()
}

/// A receiver that waits for its workers on a busy machine too. It has no secret yet.
pub(crate) fn long_timeouts() -> ReceiverBuilder {
    Receiver::builder().verify_timeout(Duration::from_secs(60))
}

/// A receiver like that of [`long_timeouts`], with [`SECRET`].
pub(crate) fn builder() -> ReceiverBuilder {
    long_timeouts().secret(Secret::new(SECRET).unwrap())
}

/// The body of an event of this name, with this data and uuid.
pub(crate) fn event(name: &str, data: &str, uuid: &str) -> String {
    format!(
        r#"{{"file":"5c6f","event":"{name}","data":{data},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
    )
}

pub(crate) fn uploaded(uuid: &str) -> String {
    event("file_uploaded", "{}", uuid)
}

pub(crate) fn head(token: &str) -> RequestHead {
    RequestHead::from_parts("POST", [(TOKEN_HEADER, token.as_bytes())])
}

/// A body that arrives in one chunk.
pub(crate) fn body_stream(
    body: impl Into<Bytes>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::iter([Ok(body.into())])
}

/// A handler that succeeds.
pub(crate) async fn succeed(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

/// Delivers the body with [`TOKEN`].
pub(crate) async fn serve(
    receiver: &Receiver,
    body: impl Into<Bytes>,
    handler: impl Handler,
) -> WebhookResponse {
    receiver.serve(&head(&TOKEN), body_stream(body), Arc::new(handler)).await
}

/// Receives the body of a delivery that is not a duplicate, with [`TOKEN`].
pub(crate) async fn claim(receiver: &Receiver, body: impl Into<Bytes>) -> Claimed {
    match receiver.receive(&head(&TOKEN), body_stream(body)).await {
        Ok(Received::New(claimed)) => claimed,
        other => panic!("it is new: {other:?}"),
    }
}

/// Maximum time until a condition holds, by the system's clock, since the runtime's may be paused.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Yields until `condition` returns true; panics after [`TIMEOUT`].
#[track_caller]
pub(crate) fn poll_until(mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let (caller, started_at) = (Location::caller(), Instant::now());
    async move {
        while !condition().await {
            assert!(started_at.elapsed() < TIMEOUT, "timed out: {caller}");
            tokio::task::yield_now().await;
        }
    }
}

/// Polls a future once.
pub(crate) async fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))).await
}

/// Polls a future until it is ready, but at most so many times while it is pending; `None` means that it was still
/// pending.
pub(crate) async fn poll_at_most<T>(
    times: u64,
    mut future: std::pin::Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut polls = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Pending if polls >= times => Poll::Ready(None),
        outcome => {
            polls += 1;
            outcome.map(Some)
        }
    })
    .await
}
