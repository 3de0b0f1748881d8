//! The limit on the memory that all bodies together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{self, GaugeGuard};
use crate::webhook_usage::WebhookUsage;

/// A number of bytes shared by all bodies, which reserve from it as they arrive.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    total: u64,
    /// The most that one webhook may take, if there are several.
    share: u64,
    free: AtomicU64,
}

/// Reserved bytes, released on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    limit: Arc<MemoryLimit>,
    webhook: Option<Arc<WebhookUsage>>,
    bytes: u64,
    gauge: GaugeGuard,
}

/// The limit, or the webhook's share of it, is exhausted.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl MemoryLimit {
    /// A webhook's share is three quarters, and at least the longest body.
    pub(crate) fn new(bytes: u64, max_body_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            total: bytes,
            share: (bytes - bytes / 4).max(max_body_bytes),
            free: AtomicU64::new(bytes),
        })
    }

    /// Returns an empty reservation, counted towards the usage of `webhook` if there are several.
    pub(crate) fn reservation(self: &Arc<Self>, webhook: Option<Arc<WebhookUsage>>) -> Reservation {
        Reservation { limit: Arc::clone(self), webhook, bytes: 0, gauge: metrics::body_bytes() }
    }

    pub(crate) fn reserved(&self) -> u64 {
        self.total - self.free()
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Whether this many bytes are available now.
    pub(crate) fn could_grow(&self, more: u64) -> bool {
        let left = self.webhook.as_ref().map_or(u64::MAX, |webhook| {
            self.limit.share.saturating_sub(webhook.bytes.load(Ordering::Relaxed))
        });
        more <= self.limit.free().min(left)
    }

    /// Reserves at once or fails: waiting while holding half a body could deadlock.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        if let Some(webhook) = &self.webhook {
            let share = self.limit.share;
            let within = |taken: u64| taken.checked_add(more).filter(|taken| *taken <= share);
            webhook
                .bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
                .map_err(|_| Exhausted)?;
        }
        let taken =
            self.limit.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more));
        if taken.is_err() {
            if let Some(webhook) = &self.webhook {
                webhook.bytes.fetch_sub(more, Ordering::Relaxed);
            }
            return Err(Exhausted);
        }
        self.bytes += more;
        self.gauge.add(more);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.limit.free.fetch_add(self.bytes, Ordering::Relaxed);
        if let Some(webhook) = &self.webhook {
            webhook.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limit_releases_exactly_what_was_reserved() {
        let limit = MemoryLimit::new(100, 1);
        let mut one = limit.reservation(None);
        one.grow(60).unwrap();
        assert!(limit.reservation(None).grow(41).is_err());
        one.grow(40).unwrap();
        assert!(one.grow(1).is_err());
        assert_eq!(limit.free(), 0);
        drop(one);
        assert_eq!(limit.free(), 100);
    }

    #[test]
    fn memory_limit_leaves_a_quarter_to_the_other_webhooks() {
        for (longest, share) in [(10, 75), (80, 80)] {
            let limit = MemoryLimit::new(100, longest);
            let [one, other] = [Arc::new(WebhookUsage::default()), Arc::new(WebhookUsage::default())];
            let mut first = limit.reservation(Some(Arc::clone(&one)));
            let mut second = limit.reservation(Some(Arc::clone(&one)));
            first.grow(share - 20).unwrap();
            assert!(second.could_grow(20) && !second.could_grow(21));
            assert!(second.grow(21).is_err());
            second.grow(20).unwrap();
            assert!(first.grow(1).is_err());
            let mut others = limit.reservation(Some(Arc::clone(&other)));
            assert!(!others.could_grow(101 - share));
            assert!(others.grow(101 - share).is_err());
            others.grow(100 - share).unwrap();
            drop((first, second, others));
            let mut again = limit.reservation(Some(one));
            again.grow(share).unwrap();
            assert_eq!(limit.free(), 100 - share);
            limit.reservation(Some(other)).grow(100 - share).unwrap();
        }
    }
}
