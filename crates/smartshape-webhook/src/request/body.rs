//! Reads a body: counts it, reserves memory as it arrives, and applies three time limits.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::memory_limit::Reservation;
use crate::response::rejection::{Rejection, RejectionKind};

/// First reservation of a body in bytes, unless a shorter length is declared. Later ones double.
const INITIAL_RESERVATION: u64 = 64 * 1024;
/// Allocated bytes as a multiple of the reserved ones: high enough that a long body is moved only a few times while it
/// grows, and low enough that clients that declare much and send little cannot exceed the memory limit by far.
const MAX_OVERALLOCATION: u64 = 4;
/// Minimum rate in bytes per second, enforced once `idle_timeout` has passed. Otherwise a client that sends a byte now
/// and then would hold a permit until `timeout`. (Apache's `RequestReadTimeout` defaults to 500, IIS to 240.)
const MIN_RATE: u64 = 1024;

/// A timer that fires later than this says that the process was stopped: a container was paused, or its machine.
const MAX_LATENESS: Duration = Duration::from_secs(1);

/// Maximum number of bytes of a rejected body that are discarded to keep its connection. Most events are shorter.
const MAX_DISCARD: usize = 64 * 1024;
/// Maximum number of `Pending` polls of a rejected body; after that, its client counts as still sending.
const MAX_DISCARD_POLLS: u32 = 4;

#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: u64,
    pub(crate) idle_timeout: Duration,
    pub(crate) timeout: Duration,
}

/// Reads `body` to its end. The reservation, empty at first, covers the bytes.
pub(crate) async fn read(
    body: impl Stream<Item = Result<impl Buf, impl Into<Box<dyn Error + Send + Sync>>>>,
    declared: Option<u64>,
    limits: &BodyLimits,
    reservation: &mut Reservation,
) -> Result<Bytes, Rejection> {
    let mut body = pin!(body);
    // The declared length is only checked, not reserved: a client could otherwise reserve memory without sending
    // anything.
    if !reservation.could_grow(declared.unwrap_or(0)) {
        return Err(RejectionKind::MemoryExhausted.into());
    }
    let mut buffer = BodyBuffer { bytes: Vec::new(), declared, reservation };
    let (mut waited, mut timer) = (false, None);
    loop {
        let next = poll_fn(|context| match body.as_mut().poll_next(context) {
            Poll::Ready(next) => Poll::Ready(Ok(next)),
            // A framework passes on the body only once it is polled. Polling again then needs no timer.
            Poll::Pending if !waited => {
                waited = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => {
                let received = buffer.bytes.len() as u64;
                // Boxed, since only few bodies need it: glibc takes longer to allocate a future of more than 1,032
                // bytes.
                let timer = timer.get_or_insert_with(|| Box::new(BodyTimer::start(limits)));
                timer.poll(context, received).map(Err)
            }
        });
        match next.await? {
            Some(Ok(chunk)) => {
                if let Some(timer) = timer.as_mut().filter(|_| chunk.has_remaining()) {
                    timer.progressed = true;
                }
                buffer.append(chunk, limits.max_bytes)?;
            }
            Some(Err(error)) => return Err(classify_body_error(&*error.into())),
            None => break,
        }
    }
    // The length may differ from the declared one, which is that of the compressed body if middleware decodes it.
    // A body that ends early is an error of the framework, and in any case not JSON.
    Ok(Bytes::from(buffer.bytes))
}

/// Discards a short body that has arrived with its head, so that the connection of a rejected request can be kept.
/// Returns whether the body has ended.
///
/// Closing instead would be correct too, but every rejection would then cost a connection: the server spends more time
/// on accepting the next one than on the rejection, and a proxy loses an upstream connection that it meant to reuse.
/// nginx (`ngx_http_discard_request_body`) does the same. Never waits for the client, so an unauthenticated one gains
/// no time.
pub(crate) async fn discard_arrived<E>(mut body: Pin<&mut impl Stream<Item = Result<impl Buf, E>>>) -> bool {
    let (mut bytes, mut polls) = (0, 0);
    poll_fn(|context| {
        loop {
            match body.as_mut().poll_next(context) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Ok(chunk))) => bytes += chunk.remaining(),
                // A framework passes on the body, and then its end, only once it is polled.
                Poll::Pending if polls < MAX_DISCARD_POLLS => {
                    polls += 1;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(_))) | Poll::Pending => return Poll::Ready(false),
            }
            if bytes > MAX_DISCARD {
                return Poll::Ready(false);
            }
        }
    })
    .await
}

/// Classifies an error of the body. Middleware around the receiver may have limits of its own, and wraps its errors.
/// They are recognised by their texts, since their types belong to crates that the core does not depend on.
fn classify_body_error(error: &(dyn Error + 'static)) -> Rejection {
    // The chain of causes is followed for 16 at most, since `source` is foreign code.
    let causes = std::iter::successors(Some(error), |&error| error.source()).take(16);
    let limit = causes.into_iter().find_map(|cause| match cause.to_string().as_str() {
        // http-body-util's `LengthLimitError` (tower-http, axum) and actix-web's payload limit.
        "length limit exceeded" | "payload reached size limit" => Some(RejectionKind::BodyTooLarge),
        // tower-http's `TimeoutBody`.
        "data was not received within the designated timeout" => Some(RejectionKind::BodyTimeout),
        _ if cause.is::<tokio::time::error::Elapsed>() => Some(RejectionKind::BodyTimeout),
        _ => None,
    });
    let kind = limit.unwrap_or(RejectionKind::BodyBroken);
    let detail = if limit.is_some() {
        format!("a limit of the middleware around the receiver: {error}")
    } else {
        error.to_string()
    };
    Rejection::with_detail(kind, detail)
}

/// Starts when the body is first awaited: most bodies have arrived with their head.
struct BodyTimer<'a> {
    limits: &'a BodyLimits,
    started_at: Instant,
    deadline: Instant,
    last_progress: Instant,
    /// Whether bytes have arrived since `last_progress`.
    progressed: bool,
    /// Whether the limits were postponed: once for a body, or it would never end on a runtime that is always late.
    was_postponed: bool,
    /// Reset when it fires, and not for each chunk of the body.
    sleep: Pin<Box<Sleep>>,
}

impl<'a> BodyTimer<'a> {
    fn start(limits: &'a BodyLimits) -> Self {
        let now = Instant::now();
        let deadline = now + limits.timeout;
        let sleep = Box::pin(sleep_until(deadline.min(now + limits.idle_timeout)));
        Self {
            limits,
            started_at: now,
            deadline,
            last_progress: now,
            progressed: false,
            was_postponed: false,
            sleep,
        }
    }

    /// Ready once the body has taken too long.
    fn poll(&mut self, context: &mut Context<'_>, received: u64) -> Poll<Rejection> {
        if std::mem::take(&mut self.progressed) {
            self.last_progress = Instant::now();
        }
        loop {
            ready!(self.sleep.as_mut().poll(context));
            let late = self.sleep.deadline().elapsed();
            if late > MAX_LATENESS && !std::mem::replace(&mut self.was_postponed, true) {
                // What has arrived meanwhile is still to be read by the framework.
                self.postpone(late + MAX_LATENESS);
            }
            let stalled = self.last_progress + self.limits.idle_timeout;
            let slow = self.started_at
                + self.limits.idle_timeout
                + Duration::from_millis(received * 1000 / MIN_RATE);
            let next = self.deadline.min(stalled).min(slow);
            if self.sleep.deadline() >= next {
                let what = match next {
                    next if next == self.deadline => "not complete in time",
                    next if next == stalled => "stalled",
                    _ => "slower than 1 KiB a second",
                };
                return Poll::Ready(Rejection::with_detail(RejectionKind::BodyTimeout, what));
            }
            self.sleep.as_mut().reset(next);
        }
    }

    fn postpone(&mut self, by: Duration) {
        self.started_at += by;
        self.deadline += by;
        // Bytes that arrived after the stop are not older than now.
        self.last_progress = (self.last_progress + by).min(Instant::now() + MAX_LATENESS);
    }
}

/// The bytes received so far, copied from the framework's buffers, which may be much larger than their content. The
/// reservation covers them, or one step more. If more was declared, [`MAX_OVERALLOCATION`] times as much is allocated
/// to save copies.
struct BodyBuffer<'r> {
    bytes: Vec<u8>,
    declared: Option<u64>,
    reservation: &'r mut Reservation,
}

impl BodyBuffer<'_> {
    fn append(&mut self, mut chunk: impl Buf, limit: u64) -> Result<(), Rejection> {
        let needed = self.bytes.len() as u64 + chunk.remaining() as u64;
        if needed > limit {
            return Err(RejectionKind::BodyTooLarge.into());
        }
        let reserved = self.reservation.bytes();
        if needed > reserved {
            // More than declared arrives if middleware decodes the body.
            let most = self.declared.filter(|declared| needed <= *declared).unwrap_or(limit);
            let step = needed.max(reserved.saturating_mul(2).max(INITIAL_RESERVATION).min(most));
            self.reservation.grow(step - reserved).map_err(|_| RejectionKind::MemoryExhausted)?;
        }
        if needed > self.bytes.capacity() as u64 {
            // Neither operand exceeds the limit, which is a usize by construction.
            let reserved = self.reservation.bytes();
            let most = reserved.saturating_mul(MAX_OVERALLOCATION);
            let capacity = self.declared.unwrap_or(0).min(most).max(reserved);
            let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
            self.bytes
                .try_reserve_exact(capacity - self.bytes.len())
                .map_err(|_| RejectionKind::MemoryExhausted)?;
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            self.bytes.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;
    use crate::memory_limit::MemoryLimit;

    const LIMITS: BodyLimits = BodyLimits {
        max_bytes: 1_000_000,
        idle_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(120),
    };

    fn chunks(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, std::io::Error>> + use<> {
        let chunks: Vec<_> = sizes.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect();
        stream::iter(chunks)
    }

    /// A body that does not come.
    fn nothing() -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        stream::pending()
    }

    async fn outcome(
        sizes: &[usize],
        declared: Option<u64>,
        memory: &Arc<MemoryLimit>,
    ) -> Result<usize, RejectionKind> {
        read(chunks(sizes), declared, &LIMITS, &mut memory.reservation(None))
            .await
            .map(|bytes| bytes.len())
            .map_err(|rejection| rejection.kind())
    }

    /// The limits are the user's, and the memory is the machine's.
    #[test]
    fn memory_that_the_machine_does_not_have_is_rejected() {
        struct Endless;

        impl Buf for Endless {
            fn remaining(&self) -> usize {
                1 << 60
            }

            fn chunk(&self) -> &[u8] {
                b"x"
            }

            fn advance(&mut self, _: usize) {}
        }

        let memory = MemoryLimit::new(u64::MAX, u64::MAX);
        let reservation = &mut memory.reservation(None);
        let mut buffer = BodyBuffer { bytes: Vec::new(), declared: None, reservation };
        let rejection = buffer.append(Endless, i64::MAX as u64).unwrap_err();
        assert_eq!(rejection.kind(), RejectionKind::MemoryExhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn body_is_discarded_only_if_it_is_short_and_has_arrived() {
        async fn discarded(body: impl Stream<Item = Result<Bytes, std::io::Error>>) -> bool {
            discard_arrived(pin!(body)).await
        }
        assert!(discarded(chunks(&[])).await);
        assert!(discarded(chunks(&[1, 0, MAX_DISCARD - 1])).await);
        assert!(!discarded(chunks(&[1, MAX_DISCARD])).await);
        let broken = stream::iter([Err(std::io::Error::other("broken"))]);
        assert!(!discarded(broken).await);
        let started_at = Instant::now();
        assert!(!discarded(chunks(&[1]).chain(stream::pending())).await);
        assert_eq!(started_at.elapsed(), Duration::ZERO, "the client is not waited for");
        // Frameworks do so: each chunk, and the end, comes one poll later.
        let mut late = 0;
        let mut chunks = [Some(Ok(Bytes::from_static(b"x"))), None].into_iter();
        let delayed = stream::poll_fn(|context| {
            late += 1;
            if late % 2 == 1 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(chunks.next().flatten())
        });
        assert!(discarded(delayed).await);
    }

    #[tokio::test]
    async fn memory_is_taken_for_what_comes_and_not_for_what_is_declared() {
        let limits = BodyLimits { max_bytes: i64::MAX as u64, ..LIMITS };
        let memory = MemoryLimit::new(u64::MAX, u64::MAX);
        for declared in [1 << 60, i64::MAX as u64] {
            let read = read(chunks(&[1]), Some(declared), &limits, &mut memory.reservation(None)).await;
            assert_eq!(read.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn body_length_is_counted_not_declared() {
        let memory = MemoryLimit::new(10_000_000, 1_000_000);
        assert_eq!(outcome(&[3, 0, 4], None, &memory).await, Ok(7));
        assert_eq!(outcome(&[3, 4], Some(7), &memory).await, Ok(7));
        // Middleware that decodes a body leaves the length of what was sent.
        assert_eq!(outcome(&[3, 4], Some(8), &memory).await, Ok(7));
        assert_eq!(outcome(&[3, 4], Some(6), &memory).await, Ok(7));
        assert_eq!(outcome(&[999_999, 1], None, &memory).await, Ok(1_000_000));
        assert_eq!(outcome(&[999_999, 2], None, &memory).await, Err(RejectionKind::BodyTooLarge));
        assert_eq!(memory.free(), 10_000_000);
    }

    /// Nobody wakes the reader of this body, so only its own second look finds it before the limit of time.
    #[tokio::test(start_paused = true)]
    async fn pending_body_is_polled_again() {
        let mut polls = 0;
        let body = stream::poll_fn(move |_| {
            polls += 1;
            match polls {
                1 => Poll::Pending,
                2 => Poll::Ready(Some(Ok::<_, std::io::Error>(Bytes::from_static(b"late")))),
                _ => Poll::Ready(None),
            }
        });
        let started_at = Instant::now();
        let read = read(body, Some(4), &LIMITS, &mut MemoryLimit::new(100, 100).reservation(None)).await;
        assert_eq!((&read.unwrap()[..], started_at.elapsed()), (&b"late"[..], Duration::ZERO));
    }

    #[tokio::test]
    async fn memory_is_reserved_as_bytes_arrive_and_checked_before_the_first() {
        let memory = MemoryLimit::new(100_000, 100_000);
        let declared =
            async |bytes| read(nothing(), Some(bytes), &LIMITS, &mut memory.reservation(None)).await;
        assert!(declared(100_000).now_or_never().is_none(), "it waits for the first byte");
        assert_eq!(declared(100_001).await.unwrap_err().kind(), RejectionKind::MemoryExhausted);
        assert_eq!(outcome(&[60_000, 60_000], None, &memory).await, Err(RejectionKind::MemoryExhausted));
        let mut reservation = memory.reservation(None);
        read(chunks(&[80_000]), Some(80_000), &LIMITS, &mut reservation).await.unwrap();
        assert_eq!(memory.free(), 20_000);
        drop(reservation);
        assert_eq!(memory.free(), 100_000);
    }

    #[tokio::test]
    async fn capacity_stays_within_the_reservation() {
        let memory = MemoryLimit::new(10_000_000, 1_000_000);
        // The declared length may be that of a body which middleware decodes.
        for declared in [None, Some(300), Some(200_000)] {
            let reservation = &mut memory.reservation(None);
            let mut buffer = BodyBuffer { bytes: Vec::new(), declared, reservation };
            let mut steps = HashSet::new();
            for _ in 0..3000 {
                buffer.append(Bytes::from_static(&[b'x'; 300]), LIMITS.max_bytes).unwrap();
                let reserved = buffer.reservation.bytes();
                steps.insert(reserved);
                assert!(buffer.bytes.capacity() as u64 <= reserved.max(declared.unwrap_or(0)));
                assert!(
                    reserved <= INITIAL_RESERVATION.max(2 * buffer.bytes.len() as u64),
                    "{reserved} bytes"
                );
            }
            assert!(steps.len() < 10, "{steps:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_and_trickling_bodies_are_ended() {
        let memory = MemoryLimit::new(10_000_000, 1_000_000);
        let started_at = Instant::now();
        let stalled = read(nothing(), None, &LIMITS, &mut memory.reservation(None)).await.unwrap_err();
        assert_eq!(stalled.kind(), RejectionKind::BodyTimeout);
        assert_eq!(stalled.to_string(), "the body took too long (stalled)");
        assert_eq!(started_at.elapsed().as_secs(), 10);

        for (bytes, seconds, why) in [
            (1, 10, "slower than 1 KiB a second"),
            (9000, 53, "slower than 1 KiB a second"),
            (9 * 1024, 120, "not complete in time"),
        ] {
            let started_at = Instant::now();
            let trickle = stream::unfold((), |()| async move {
                tokio::time::sleep(Duration::from_secs(9)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes])), ()))
            });
            let trickled = read(trickle, None, &LIMITS, &mut memory.reservation(None)).await.unwrap_err();
            assert_eq!(trickled.kind(), RejectionKind::BodyTimeout);
            assert_eq!(trickled.to_string(), format!("the body took too long ({why})"));
            assert_eq!(started_at.elapsed().as_secs(), seconds, "{bytes}");
        }
    }

    /// Stops the process while the body is awaited. Returns what reading comes to then, if it ends.
    async fn stop_process<T: std::fmt::Debug>(
        mut reading: Pin<&mut impl Future<Output = T>>,
        duration: Duration,
    ) -> Option<T> {
        for _ in 0..2 {
            let before = reading.as_mut().now_or_never();
            assert!(before.is_none(), "{before:?}");
        }
        tokio::time::advance(duration).await;
        reading.now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_process_was_stopped_does_not_count() {
        let memory = MemoryLimit::new(10_000_000, 1_000_000);
        for duration in [LIMITS.idle_timeout, LIMITS.timeout].map(|limit| limit + Duration::from_secs(4)) {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let body = stream::unfold(receiver, async |mut receiver| {
                let chunk = receiver.recv().await?;
                Some((Ok::<Bytes, std::io::Error>(chunk), receiver))
            });
            let reservation = &mut memory.reservation(None);
            let mut reading = pin!(read(body, None, &LIMITS, reservation));
            assert!(stop_process(reading.as_mut(), duration).await.is_none());
            // It had arrived, but the framework reads only now.
            sender.try_send(Bytes::from_static(b"late")).unwrap();
            drop(sender);
            assert_eq!(&reading.await.unwrap()[..], b"late");
        }

        let started_at = Instant::now();
        let reservation = &mut memory.reservation(None);
        let mut reading = pin!(read(nothing(), None, &LIMITS, reservation));
        assert!(stop_process(reading.as_mut(), Duration::from_secs(14)).await.is_none());
        assert_eq!(reading.await.unwrap_err().kind(), RejectionKind::BodyTimeout);
        assert_eq!(started_at.elapsed().as_secs(), 15);
    }

    /// A runtime that is late each time, since a handler blocks its threads, keeps the limits all the same.
    #[tokio::test(start_paused = true)]
    async fn limits_are_postponed_once_for_a_body() {
        let memory = MemoryLimit::new(10_000_000, 1_000_000);
        let reservation = &mut memory.reservation(None);
        let mut reading = pin!(read(nothing(), None, &LIMITS, reservation));
        assert!(stop_process(reading.as_mut(), Duration::from_secs(14)).await.is_none());
        let ended = stop_process(reading.as_mut(), Duration::from_secs(14)).await;
        assert_eq!(ended.unwrap().unwrap_err().kind(), RejectionKind::BodyTimeout);
    }
}
