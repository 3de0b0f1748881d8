//! The places at work, and who waits until all of them are free.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::budget::Taken;
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

    /// Takes one, to be given back. Where there are several webhooks, one may take three quarters of all.
    pub(super) fn take(&self, webhook: Option<&Taken>) -> Result<(), RefusalKind> {
        if let Some(webhook) = webhook {
            let share = (self.most / 4 * 3 + self.most % 4 * 3 / 4).max(1);
            let free = |taken: usize| (taken < share).then_some(taken + 1);
            webhook.permits.fetch_update(Relaxed, Relaxed, free).map_err(|_| RefusalKind::PlacesExhausted)?;
        }
        let taken = self.take_of_all();
        if let (Err(_), Some(webhook)) = (taken, webhook) {
            webhook.permits.fetch_sub(1, Relaxed);
        }
        taken
    }

    fn take_of_all(&self) -> Result<(), RefusalKind> {
        let free = |taken: usize| (taken < self.most).then_some(taken + 1);
        let taken = self.taken.fetch_update(SeqCst, SeqCst, free);
        if !self.is_draining() {
            return taken.map(drop).map_err(|_| RefusalKind::PlacesExhausted);
        }
        if taken.is_ok() {
            self.give_back(None);
        }
        Err(RefusalKind::Draining)
    }

    /// Gives one back that was taken for the same webhook.
    pub(super) fn give_back(&self, webhook: Option<&Taken>) {
        if let Some(webhook) = webhook {
            webhook.permits.fetch_sub(1, Relaxed);
        }
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
        places.take(None).unwrap();
        places.take(None).unwrap();
        assert_eq!(places.take(None), Err(RefusalKind::PlacesExhausted));
        let (mut one, mut other) = (pin!(places.drain()), pin!(places.drain()));
        assert!(!looked(one.as_mut()).await && !looked(other.as_mut()).await);
        assert_eq!((places.taken(), places.take(None)), (2, Err(RefusalKind::Draining)));
        places.give_back(None);
        assert_eq!((places.taken(), places.take(None)), (1, Err(RefusalKind::Draining)));
        assert!(!looked(one.as_mut()).await && !looked(other.as_mut()).await);
        places.give_back(None);
        assert!(looked(one.as_mut()).await && looked(other.as_mut()).await);
        assert_eq!(places.taken(), 0);
        places.drain().await;
    }

    #[test]
    fn one_of_several_webhooks_never_takes_all() {
        for (most, share) in [(1, 1), (2, 1), (3, 2), (4, 3), (256, 192), (1_000_000, 750_000)] {
            let (places, one, other) = (Places::new(most), Taken::default(), Taken::default());
            let taken = (0..=most).take_while(|_| places.take(Some(&one)).is_ok()).count();
            assert_eq!(taken, share, "of {most}");
            let left = (0..=most).take_while(|_| places.take(Some(&other)).is_ok()).count();
            assert_eq!(left, most - share, "of {most}");
            places.give_back(Some(&one));
            assert_eq!(places.take(Some(&one)), Ok(()), "what was refused holds nothing");
            (0..share).for_each(|_| places.give_back(Some(&one)));
            (0..left).for_each(|_| places.give_back(Some(&other)));
            assert_eq!(places.taken(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_one_is_never_missed() {
        for _ in 0..2000 {
            let places = std::sync::Arc::new(Places::new(1));
            places.take(None).unwrap();
            let last = tokio::spawn({
                let places = std::sync::Arc::clone(&places);
                async move { places.give_back(None) }
            });
            let drained = tokio::time::timeout(std::time::Duration::from_secs(60), places.drain());
            drained.await.expect("nobody called");
            last.await.unwrap();
        }
    }
}
