//! What operators see: one event for each outcome, and refusals without a flood of lines.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Ending;
use crate::delivery::Delivery;
use crate::events::Event;
use crate::lock::locked;
use crate::measure::{self, Arrived, Drift, Outcome};
use crate::printable::{printable, printable_error};
use crate::refusal::Refusal;

/// Refusals are warned of at most once in this time; each is logged at debug level.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Counters since the receiver was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Deliveries at work now.
    pub at_work: usize,
    /// Bytes that bodies take, or have reserved, of the byte budget now.
    pub reserved_bytes: u64,
    /// Deliveries handled and acknowledged.
    pub acknowledged: u64,
    /// Deliveries whose handler failed, panicked or was dropped.
    pub failed: u64,
    /// Deliveries that came again, while at work or afterwards.
    pub duplicates: u64,
    /// Refused requests.
    pub refused: u64,
    /// Acknowledged events whose handler saw them as [`Event::Unknown`] or [`Event::Undecoded`].
    pub drifted: u64,
    /// Tokens that were hashed.
    pub hashes: u64,
}

#[derive(Default)]
pub(super) struct Report {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    drifted: AtomicU64,
    warned: Mutex<Option<(Instant, u64)>>,
}

impl Report {
    pub(super) fn stats(&self, at_work: usize, reserved_bytes: u64, hashes: u64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            at_work,
            reserved_bytes,
            acknowledged: read(&self.acknowledged),
            failed: read(&self.failed),
            duplicates: read(&self.duplicates),
            refused: read(&self.refused),
            drifted: read(&self.drifted),
            hashes,
        }
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        measure::refused(refusal.kind());
        tracing::debug!(kind = ?refusal.kind(), reason = %printable_error(refusal), "delivery refused");
        if let Some(count) = self.count_refusal(Instant::now()) {
            tracing::warn!(count, latest = %printable_error(refusal), "deliveries refused");
        }
    }

    /// How many were refused since the last warning, if one is due.
    fn count_refusal(&self, now: Instant) -> Option<u64> {
        let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut warned = locked(&self.warned);
        let (last, before) = warned.unzip();
        if last.is_some_and(|last| now.saturating_duration_since(last) < WARN_EVERY) {
            return None;
        }
        *warned = Some((now, count));
        Some(count.saturating_sub(before.unwrap_or(0)))
    }

    pub(super) fn duplicate(&self, delivery: &Delivery) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            event = %printable(delivery.event_name()),
            uuid = %printable(delivery.uuid()),
            "duplicate delivery"
        );
    }

    pub(super) fn ended(&self, delivery: &Delivery, ending: &Ending, took: Duration, arrived: Arrived) {
        let outcome = match ending {
            Ending::Handled => Outcome::Acknowledged,
            Ending::Abandoned(_) => Outcome::Abandoned,
            Ending::Failed(_) => Outcome::Failed,
        };
        measure::ended(measure::Event::of(delivery), outcome, arrived);
        // Asked for only where somebody listens.
        let event = || printable(delivery.event_name());
        let uuid = || printable(delivery.uuid());
        let file = || printable(delivery.file_text());
        let milliseconds = took.as_millis();
        match ending {
            Ending::Handled => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                tracing::info!(event = %event(), uuid = %uuid(), file = %file(), outcome = "acknowledged", milliseconds, "delivery");
            }
            Ending::Abandoned(why) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(event = %event(), uuid = %uuid(), file = %file(), outcome = "abandoned", milliseconds, why = %printable_error(why), "delivery");
            }
            Ending::Failed(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(event = %event(), uuid = %uuid(), file = %file(), outcome = "failed", milliseconds, why = %printable_error(why), "delivery");
                return;
            }
        }
        match delivery.decoded_event() {
            Some(Event::Undecoded(undecoded)) => {
                self.drifted.fetch_add(1, Ordering::Relaxed);
                measure::drifted(Drift::Undecoded);
                tracing::warn!(event = %event(), uuid = %uuid(), error = %printable_error(undecoded.error()), "acknowledged an event that could not be decoded");
            }
            Some(Event::Unknown(_)) => {
                self.drifted.fetch_add(1, Ordering::Relaxed);
                measure::drifted(Drift::Unknown);
                tracing::warn!(event = %event(), uuid = %uuid(), "acknowledged an event of unknown name");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_warning() {
        let (report, begun) = (Report::default(), Instant::now());
        assert_eq!(report.count_refusal(begun), Some(1));
        for millis in 1..10_000 {
            assert_eq!(report.count_refusal(begun + Duration::from_millis(millis)), None);
        }
        assert_eq!(report.count_refusal(begun + WARN_EVERY), Some(10_000));
        assert_eq!(report.count_refusal(begun + WARN_EVERY), None);
        assert_eq!(report.stats(0, 0, 0).refused, 10_002);
    }
}
