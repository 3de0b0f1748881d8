//! What becomes of a body that nobody wants: a little of it is read, so that the answer arrives.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use futures_core::Stream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// What is read of a rest, in bytes: what a client's kernel has taken from it (Linux lets a send buffer grow to 4 MiB), so
/// that also one that reads only after sending all of such a body gets the answer.
const MOST: usize = 4 * 1024 * 1024;
/// How long a longer one is kept. Whoever reads while sending has the answer by then.
const LONGEST: Duration = Duration::from_secs(1);
/// Rests that are kept at once; beyond it, they are dropped at once. With what a framework buffers for each, it
/// bounds the memory that refused strangers can take.
static PLACES: Semaphore = Semaphore::const_new(256);

/// A request's body that does not end abruptly when it is dropped before its end.
///
/// A server that closes a connection while the client still sends resets it, and the client may lose the answer
/// that was on its way. So the rest of a dropped body is read on by a task of its own: up to 4 MiB of it, for up to a
/// second, and of 256 bodies at once. A longer rest is kept unread until the second is over: the client has to stop
/// sending, and sees the answer. For adapters whose framework does not do this by itself.
///
/// Not for HTTP/2, see [`unless_http2`](Self::unless_http2).
///
/// ```
/// use bytes::Bytes;
/// use smartshape_webhook::{Head, Lingering, Receiver, RefusalKind, Secret};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let receiver = Receiver::new(Secret::generate()?)?;
/// let parts = (0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"part")));
/// let body = Lingering::new(futures_util::stream::iter(parts));
///
/// // No token, so nothing of the body is awaited; its rest goes its own way.
/// let refusal = receiver.receive(&Head::read("POST", []), body).await.unwrap_err();
/// assert_eq!(refusal.kind(), RefusalKind::TokenMissing);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Lingering<S: Rest> {
    body: Option<S>,
    lingers: bool,
}

/// A body whose rest a task of its own can read. Every stream of fitting type is one.
pub trait Rest: Unpin + Send + 'static {
    /// Bytes of the next part; `None` at the end, be it regular or not.
    #[doc(hidden)]
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>>;
}

impl<S, B, E> Rest for S
where
    S: Stream<Item = Result<B, E>> + Unpin + Send + 'static,
    B: Buf,
{
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        Pin::new(self).poll_next(context).map(|part| part?.ok().map(|part| part.remaining()))
    }
}

impl<S: Rest> Lingering<S> {
    /// Wraps the body.
    pub fn new(body: S) -> Self {
        Self { body: Some(body), lingers: true }
    }

    /// With `true`, the rest of the body is dropped at once: a stream of HTTP/2 ends without its connection, and what is
    /// unread of it takes room in the window that all streams of the connection share.
    #[must_use]
    pub fn unless_http2(mut self, http2: bool) -> Self {
        self.lingers = !http2;
        self
    }
}

impl<S, B, E> Stream for Lingering<S>
where
    S: Rest + Stream<Item = Result<B, E>>,
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

impl<S: Rest> Drop for Lingering<S> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|_| self.lingers) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let mut rest = Box::pin(linger(body));
        // An empty body needs no task.
        if rest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime.spawn(rest);
        }
    }
}

async fn linger(mut body: impl Rest) {
    let Ok(_place) = PLACES.try_acquire() else { return };
    let reading = async {
        let mut read = 0;
        while read < MOST {
            match std::future::poll_fn(|context| body.poll_part(context)).await {
                Some(part) => read += part,
                None => return,
            }
        }
        std::future::pending::<()>().await;
    };
    // The body itself is dropped, and the connection closed, only after this.
    let _ = tokio::time::timeout(LONGEST, reading).await;
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

    fn body(left: Option<usize>) -> (Lingering<Parts>, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        (Lingering::new(Parts { left, read: Arc::clone(&read) }), read)
    }

    /// Waits until the body is gone, which its count outlives.
    async fn gone(read: &Arc<AtomicUsize>) {
        while Arc::strong_count(read) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_is_read_a_long_one_kept_for_a_while_and_few_at_once() {
        let begun = Instant::now();
        let (short, read) = body(Some(50));
        drop(short);
        gone(&read).await;
        assert_eq!((read.load(Ordering::SeqCst), begun.elapsed().as_millis()), (50, 0));

        let (endless, read) = body(None);
        drop(endless);
        gone(&read).await;
        assert_eq!((read.load(Ordering::SeqCst), begun.elapsed().as_secs()), (MOST / PART, 1));

        // In one test, since the places are those of the whole process.
        let many: Vec<_> = (0..300).map(|_| body(None)).collect();
        let counts: Vec<_> = many.iter().map(|(_, read)| Arc::clone(read)).collect();
        drop(many);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let kept = counts.iter().filter(|read| Arc::strong_count(read) > 1).count();
        assert_eq!(kept, 256);
    }

    #[tokio::test]
    async fn on_http2_nothing_lingers() {
        let (body, read) = body(None);
        drop(body.unless_http2(true));
        assert_eq!((read.load(Ordering::SeqCst), Arc::strong_count(&read)), (0, 1));
    }

    #[test]
    fn without_a_runtime_nothing_lingers() {
        let (body, read) = body(None);
        drop(body);
        assert_eq!((read.load(Ordering::SeqCst), Arc::strong_count(&read)), (0, 1));
    }
}
