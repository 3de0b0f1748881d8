//! The places at work, and who waits until all of them are free.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::refusal::RefusalKind;

/// One order for all of it: who takes a place then looks at `draining`, and `drain` says so before it looks at the
/// places. So either `drain` sees the place taken, or who took it sees that none are given.
pub(super) struct Places {
    most: usize,
    taken: AtomicUsize,
    draining: AtomicBool,
    free: Notify,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0), draining: AtomicBool::new(false), free: Notify::new() }
    }

    /// Takes one, to be given back.
    pub(super) fn take(&self) -> Result<(), RefusalKind> {
        let free = |taken: usize| (taken < self.most).then_some(taken + 1);
        let taken = self.taken.fetch_update(SeqCst, SeqCst, free);
        if !self.is_draining() {
            return taken.map(drop).map_err(|_| RefusalKind::PlacesExhausted);
        }
        if taken.is_ok() {
            self.give_back();
        }
        Err(RefusalKind::Draining)
    }

    pub(super) fn give_back(&self) {
        if self.taken.fetch_sub(1, SeqCst) == 1 && self.is_draining() {
            self.free.notify_waiters();
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Gives no more, and returns when all are free.
    pub(super) async fn drain(&self) {
        self.draining.store(true, SeqCst);
        loop {
            let mut free = pin!(self.free.notified());
            // From here on it is called, before it looks.
            free.as_mut().enable();
            if self.taken() == 0 {
                return;
            }
            free.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    async fn looked(mut drain: Pin<&mut impl Future<Output = ()>>) -> bool {
        poll_fn(|context| Poll::Ready(drain.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn draining_waits_for_those_at_work_and_takes_none_of_their_places() {
        let places = Places::new(2);
        places.take().unwrap();
        places.take().unwrap();
        assert_eq!(places.take(), Err(RefusalKind::PlacesExhausted));
        let (mut one, mut other) = (pin!(places.drain()), pin!(places.drain()));
        assert!(!looked(one.as_mut()).await && !looked(other.as_mut()).await);
        assert_eq!((places.taken(), places.take()), (2, Err(RefusalKind::Draining)));
        places.give_back();
        assert_eq!((places.taken(), places.take()), (1, Err(RefusalKind::Draining)));
        assert!(!looked(one.as_mut()).await && !looked(other.as_mut()).await);
        places.give_back();
        assert!(looked(one.as_mut()).await && looked(other.as_mut()).await);
        assert_eq!(places.taken(), 0);
        places.drain().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_one_is_never_missed() {
        for _ in 0..2000 {
            let places = std::sync::Arc::new(Places::new(1));
            places.take().unwrap();
            let last = tokio::spawn({
                let places = std::sync::Arc::clone(&places);
                async move { places.give_back() }
            });
            let drained = tokio::time::timeout(std::time::Duration::from_secs(60), places.drain());
            drained.await.expect("nobody called");
            last.await.unwrap();
        }
    }
}
