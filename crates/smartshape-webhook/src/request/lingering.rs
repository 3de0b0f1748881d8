//! Lingering close. Closing a socket while the peer is still sending triggers a TCP reset, which can discard our
//! response, so a bounded part of the body is read and discarded first. (nginx has `lingering_close` for this.)

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Discarded bytes per body: what a client's kernel may have accepted from it (Linux lets a send buffer grow to 4 MiB).
/// A client that reads only after sending such a body still gets the response.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;
/// How long a longer body is kept open. A client that reads while sending has the response by then.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Bodies that linger at once; any further one is dropped at once. Together with the framework's buffer for each, this
/// bounds the memory that rejected clients can take.
static PERMITS: Semaphore = Semaphore::const_new(256);

/// A request's body that is read and discarded in the background when it is dropped before its end.
///
/// Up to 4 MiB of the remaining body are read, for up to a second, of at most 256 bodies at once. A longer body is kept
/// open, unread, until the second is over: the client must stop sending, and sees the response. Adapters use it if
/// their framework does not do this itself.
///
/// HTTP/2 bodies must not linger, see [`unless_http2`](Self::unless_http2).
///
/// ```
/// use bytes::Bytes;
/// use smartshape_webhook::{RequestHead, LingeringBody, Receiver, RejectionKind, Secret};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let parts = (0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"part")));
/// let body = LingeringBody::new(futures_util::stream::iter(parts));
///
/// // There is no token, so the receiver does not want the body. What is left of it is discarded when it is dropped.
/// let rejection = receiver.receive(&RequestHead::from_parts("POST", []), body).await.unwrap_err();
/// assert_eq!(rejection.kind(), RejectionKind::TokenMissing);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct LingeringBody<S: PollChunk> {
    body: Option<S>,
    lingers: bool,
}

/// A body that a task of its own can discard. Implemented for every suitable stream.
pub trait PollChunk: Unpin + Send + 'static {
    /// Length of the next chunk in bytes; `None` at the end or after an error.
    #[doc(hidden)]
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>>;
}

impl<S, B, E> PollChunk for S
where
    S: Stream<Item = Result<B, E>> + Unpin + Send + 'static,
    B: Buf,
{
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        Pin::new(self).poll_next(context).map(|part| part?.ok().map(|part| part.remaining()))
    }
}

impl<S: PollChunk> LingeringBody<S> {
    /// Wraps the body.
    pub fn new(body: S) -> Self {
        Self { body: Some(body), lingers: true }
    }

    /// With `true`, the body is dropped without reading: an HTTP/2 stream ends without its connection, and its unread
    /// bytes take room in the flow-control window that all streams of the connection share.
    #[must_use]
    pub fn unless_http2(mut self, http2: bool) -> Self {
        self.lingers = !http2;
        self
    }
}

impl<S, B, E> Stream for LingeringBody<S>
where
    S: PollChunk + Stream<Item = Result<B, E>>,
{
    type Item = Result<B, E>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let part = Pin::new(body).poll_next(context);
        if matches!(part, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        part
    }
}

impl<S: PollChunk> Drop for LingeringBody<S> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|_| self.lingers) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let mut lingering = Box::pin(linger(body));
        // An empty body needs no task.
        if lingering.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime.spawn(lingering);
        }
    }
}

async fn linger(mut body: impl PollChunk) {
    let Ok(_permit) = PERMITS.try_acquire() else { return };
    let reading = async {
        let mut read = 0;
        while read < MAX_DISCARDED_BYTES {
            match std::future::poll_fn(|context| body.poll_chunk(context)).await {
                Some(part) => read += part,
                None => return,
            }
        }
        std::future::pending::<()>().await;
    };
    // The body is dropped, and the connection closed, only after this.
    let _ = tokio::time::timeout(TIMEOUT, reading).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;

    const PART: usize = 64 * 1024;

    /// A body of so many parts, or one without end; counts what was read of it.
    struct Parts {
        left: Option<usize>,
        read: Arc<AtomicUsize>,
    }

    impl Stream for Parts {
        type Item = Result<Bytes, std::io::Error>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            match &mut self.left {
                Some(0) => return Poll::Ready(None),
                Some(left) => *left -= 1,
                None => {}
            }
            self.read.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(Some(Ok(Bytes::from_static(&[0; PART]))))
        }
    }

    fn body(left: Option<usize>) -> (LingeringBody<Parts>, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        (LingeringBody::new(Parts { left, read: Arc::clone(&read) }), read)
    }

    /// Waits until the body is dropped, which its count outlives.
    async fn wait_until_dropped(read: &Arc<AtomicUsize>) {
        while Arc::strong_count(read) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lingering_discards_short_body_and_bounds_long_ones() {
        let started_at = Instant::now();
        let (short, read) = body(Some(50));
        drop(short);
        wait_until_dropped(&read).await;
        assert_eq!((read.load(Ordering::SeqCst), started_at.elapsed().as_millis()), (50, 0));

        let (endless, read) = body(None);
        drop(endless);
        wait_until_dropped(&read).await;
        assert_eq!(
            (read.load(Ordering::SeqCst), started_at.elapsed().as_secs()),
            (MAX_DISCARDED_BYTES / PART, 1)
        );

        // In one test, since the permits are those of the whole process.
        let many: Vec<_> = (0..300).map(|_| body(None)).collect();
        let counts: Vec<_> = many.iter().map(|(_, read)| Arc::clone(read)).collect();
        drop(many);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let kept = counts.iter().filter(|read| Arc::strong_count(read) > 1).count();
        assert_eq!(kept, 256);
    }

    #[tokio::test]
    async fn lingering_body_is_dropped_at_once_on_http2() {
        let (body, read) = body(None);
        drop(body.unless_http2(true));
        assert_eq!((read.load(Ordering::SeqCst), Arc::strong_count(&read)), (0, 1));
    }

    #[test]
    fn lingering_body_is_dropped_at_once_without_a_runtime() {
        let (body, read) = body(None);
        drop(body);
        assert_eq!((read.load(Ordering::SeqCst), Arc::strong_count(&read)), (0, 1));
    }
}
