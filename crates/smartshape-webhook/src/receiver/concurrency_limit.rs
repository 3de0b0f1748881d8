//! The limit on deliveries in flight, and the wait until there are none.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::response::rejection::RejectionKind;
use crate::webhook_usage::WebhookUsage;

/// Counts permits.
///
/// All operations are sequentially consistent: `acquire` takes a permit and then reads `draining`, while `drain` sets
/// `draining` and then reads the count. So either `drain` sees the permit, or `acquire` sees that none are granted.
pub(super) struct ConcurrencyLimit {
    max: usize,
    in_use: AtomicUsize,
    draining: AtomicBool,
    /// Notified when the last permit is released while draining.
    idle: Notify,
}

impl ConcurrencyLimit {
    pub(super) fn new(max: usize) -> Self {
        Self { max, in_use: AtomicUsize::new(0), draining: AtomicBool::new(false), idle: Notify::new() }
    }

    /// Acquires a permit, to be released later. If there are several webhooks, each may hold three quarters of `max`.
    pub(super) fn acquire(&self, webhook: Option<&WebhookUsage>) -> Result<(), RejectionKind> {
        if let Some(webhook) = webhook {
            let share = (self.max * 3 / 4).max(1);
            let increment = |permits: usize| (permits < share).then_some(permits + 1);
            webhook
                .permits
                .fetch_update(Relaxed, Relaxed, increment)
                .map_err(|_| RejectionKind::TooManyInFlight)?;
        }
        let acquired = self.acquire_shared();
        if let (Err(_), Some(webhook)) = (acquired, webhook) {
            webhook.permits.fetch_sub(1, Relaxed);
        }
        acquired
    }

    fn acquire_shared(&self) -> Result<(), RejectionKind> {
        let increment = |permits: usize| (permits < self.max).then_some(permits + 1);
        let acquired = self.in_use.fetch_update(SeqCst, SeqCst, increment);
        if !self.is_draining() {
            return acquired.map(drop).map_err(|_| RejectionKind::TooManyInFlight);
        }
        if acquired.is_ok() {
            self.release(None);
        }
        Err(RejectionKind::Draining)
    }

    /// Releases a permit acquired for the same webhook.
    pub(super) fn release(&self, webhook: Option<&WebhookUsage>) {
        if let Some(webhook) = webhook {
            webhook.permits.fetch_sub(1, Relaxed);
        }
        if self.in_use.fetch_sub(1, SeqCst) == 1 && self.is_draining() {
            self.idle.notify_waiters();
        }
    }

    pub(super) fn in_use(&self) -> usize {
        self.in_use.load(SeqCst)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Grants no more permits, and returns when all are released.
    pub(super) async fn drain(&self) {
        self.draining.store(true, SeqCst);
        loop {
            let mut idle = pin!(self.idle.notified());
            // Registers before the count is read, so that a release in between is not missed.
            idle.as_mut().enable();
            if self.in_use() == 0 {
                return;
            }
            idle.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    fn is_ready(drain: Pin<&mut impl Future<Output = ()>>) -> bool {
        drain.now_or_never().is_some()
    }

    #[tokio::test]
    async fn concurrency_limit_drains_and_grants_no_released_permit() {
        let concurrency = ConcurrencyLimit::new(2);
        concurrency.acquire(None).unwrap();
        concurrency.acquire(None).unwrap();
        assert_eq!(concurrency.acquire(None), Err(RejectionKind::TooManyInFlight));
        let (mut one, mut other) = (pin!(concurrency.drain()), pin!(concurrency.drain()));
        assert!(!is_ready(one.as_mut()) && !is_ready(other.as_mut()));
        assert_eq!((concurrency.in_use(), concurrency.acquire(None)), (2, Err(RejectionKind::Draining)));
        concurrency.release(None);
        assert_eq!((concurrency.in_use(), concurrency.acquire(None)), (1, Err(RejectionKind::Draining)));
        assert!(!is_ready(one.as_mut()) && !is_ready(other.as_mut()));
        concurrency.release(None);
        assert!(is_ready(one.as_mut()) && is_ready(other.as_mut()));
        assert_eq!(concurrency.in_use(), 0);
        concurrency.drain().await;
    }

    #[test]
    fn concurrency_limit_leaves_a_quarter_to_the_other_webhooks() {
        for (most, share) in [(1, 1), (2, 1), (3, 2), (4, 3), (256, 192), (1_000_000, 750_000)] {
            let (concurrency, one, other) =
                (ConcurrencyLimit::new(most), WebhookUsage::default(), WebhookUsage::default());
            let acquired = (0..=most).take_while(|_| concurrency.acquire(Some(&one)).is_ok()).count();
            assert_eq!(acquired, share, "of {most}");
            let left = (0..=most).take_while(|_| concurrency.acquire(Some(&other)).is_ok()).count();
            assert_eq!(left, most - share, "of {most}");
            concurrency.release(Some(&one));
            assert_eq!(concurrency.acquire(Some(&one)), Ok(()), "a rejected request holds nothing");
            (0..share).for_each(|_| concurrency.release(Some(&one)));
            (0..left).for_each(|_| concurrency.release(Some(&other)));
            assert_eq!(concurrency.in_use(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrency_limit_never_misses_the_last_release() {
        for _ in 0..2000 {
            let concurrency = std::sync::Arc::new(ConcurrencyLimit::new(1));
            concurrency.acquire(None).unwrap();
            let last = tokio::spawn({
                let concurrency = std::sync::Arc::clone(&concurrency);
                async move { concurrency.release(None) }
            });
            let drained = tokio::time::timeout(std::time::Duration::from_secs(60), concurrency.drain());
            drained.await.expect("the last release was missed");
            last.await.unwrap();
        }
    }
}
