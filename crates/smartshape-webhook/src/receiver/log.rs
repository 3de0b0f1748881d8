//! The operator's log: one line per delivery, and rate-limited warnings about rejections.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::display;

use super::Outcome;
use crate::dedup::in_flight::SameBody;
use crate::delivery::Delivery;
use crate::escape::{escape_error_for_log, escape_for_log};
use crate::events::Event;
use crate::lock::locked;
use crate::metrics::{self, DeliveryOutcome, EventLabel, Timer, Unrecognized};
use crate::response::rejection::{Rejection, RejectionKind};

/// Interval of the warnings that summarise rejections. Each rejection is also logged at debug level.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
/// Number of rejections that get a warning each before intervals begin: the first ones show what is wrong with a new
/// setup.
const FIRST_WARNINGS: u64 = 5;

/// Counters since the receiver was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverStats {
    /// Deliveries in flight now.
    pub in_flight: usize,
    /// Bytes of memory taken or reserved by bodies now.
    pub reserved_bytes: u64,
    /// Deliveries acknowledged.
    pub acknowledged: u64,
    /// Deliveries whose handler failed, panicked or was dropped.
    pub failed: u64,
    /// Duplicates, of deliveries in flight or completed.
    pub duplicates: u64,
    /// Duplicates whose body differs from that of the delivery that they repeat: one of the two may be forged.
    pub differing_duplicates: u64,
    /// Rejected requests.
    pub rejected: u64,
    /// Acknowledged events that the handler saw as [`Event::Unknown`] or [`Event::Undecoded`].
    pub unrecognized: u64,
    /// Tokens hashed.
    pub hashes: u64,
}

#[derive(Default)]
pub(super) struct DeliveryLog {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    duplicates: AtomicU64,
    differing_duplicates: AtomicU64,
    rejected: AtomicU64,
    unrecognized: AtomicU64,
    interval: Arc<Mutex<WarnInterval>>,
}

/// The interval after a warning, in which rejections are counted and not warned of one by one.
#[derive(Default)]
struct WarnInterval {
    /// Number of rejections that had a warning of their own.
    warned: u64,
    /// `None` until the first interval begins.
    until: Option<Instant>,
    /// What was rejected in this interval, and is still to be warned of.
    rejected: Vec<RejectionCount>,
}

/// Number of rejections of a kind.
struct RejectionCount {
    kind: RejectionKind,
    count: u64,
    first_reason: String,
}

impl DeliveryLog {
    pub(super) fn stats(&self, in_flight: usize, reserved_bytes: u64, hashes: u64) -> ReceiverStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReceiverStats {
            in_flight,
            reserved_bytes,
            acknowledged: read(&self.acknowledged),
            failed: read(&self.failed),
            duplicates: read(&self.duplicates),
            differing_duplicates: read(&self.differing_duplicates),
            rejected: read(&self.rejected),
            unrecognized: read(&self.unrecognized),
            hashes,
        }
    }

    pub(super) fn record_rejection(&self, rejection: &Rejection) {
        metrics::record_rejection(rejection.kind().name());
        tracing::debug!(kind = ?rejection.kind(), reason = %escape_error_for_log(rejection), "delivery rejected");
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut interval = locked(&self.interval);
        // The timer that ends the interval may not have run yet, or there is no runtime for it.
        let ended = interval.end(now);
        let Some(until) = interval.until.filter(|until| now < *until) else {
            interval.warned += 1;
            if interval.warned > FIRST_WARNINGS {
                interval.until = Some(now + WARN_INTERVAL);
            }
            drop(interval);
            warn(&ended);
            return tracing::warn!(kind = rejection.kind().name(), reason = %escape_error_for_log(rejection), "delivery rejected");
        };
        let first = interval.rejected.is_empty();
        interval.count(rejection);
        drop(interval);
        warn(&ended);
        if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut summary = SummaryOnDrop(Some(Arc::clone(&self.interval)));
            runtime.spawn(async move {
                tokio::time::sleep_until(until).await;
                if let Some(interval) = summary.0.take() {
                    let ended = locked(&interval).end(Instant::now());
                    warn(&ended);
                }
            });
        }
    }

    pub(super) fn record_duplicate(&self, delivery: &Delivery, same_body: SameBody) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
        let event = || escape_for_log(delivery.event_name());
        let uuid = || escape_for_log(delivery.uuid());
        let secret = || escape_for_log(delivery.secret_name().unwrap_or_default());
        if same_body == Some(false) {
            self.differing_duplicates.fetch_add(1, Ordering::Relaxed);
            metrics::record_differing_duplicate();
            tracing::warn!(
                event = %event(),
                uuid = %uuid(),
                secret = %secret(),
                "a duplicate has another body than the delivery that it repeats, and is not handled: was one of them forged?"
            );
        } else {
            tracing::debug!(event = %event(), uuid = %uuid(), secret = %secret(), "duplicate delivery");
        }
    }

    pub(super) fn record_outcome(
        &self,
        delivery: &Delivery,
        outcome: &Outcome,
        took: Duration,
        timer: Timer,
    ) {
        let counted = match outcome {
            Outcome::Acknowledged => DeliveryOutcome::Acknowledged,
            Outcome::Discarded(_) => DeliveryOutcome::Discarded,
            Outcome::Failed(_) => DeliveryOutcome::Failed,
        };
        metrics::record_delivery(EventLabel::from(delivery.kind()), counted, timer);
        // Evaluated only if a subscriber is interested.
        let event = || escape_for_log(delivery.event_name());
        let uuid = || escape_for_log(delivery.uuid());
        let file = || escape_for_log(delivery.file_text());
        let secret = || delivery.secret_name().map(|name| display(escape_for_log(name)));
        let milliseconds = took.as_millis();
        match outcome {
            Outcome::Acknowledged => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                tracing::info!(event = %event(), uuid = %uuid(), file = %file(), secret = secret(), outcome = "acknowledged", milliseconds, "delivery");
            }
            Outcome::Discarded(why) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(event = %event(), uuid = %uuid(), file = %file(), secret = secret(), outcome = "discarded", milliseconds, why = %escape_error_for_log(why), "delivery");
            }
            Outcome::Failed(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(event = %event(), uuid = %uuid(), file = %file(), secret = secret(), outcome = "failed", milliseconds, why = %escape_error_for_log(why), "delivery");
                return;
            }
        }
        match delivery.decoded_event() {
            Some(Event::Undecoded(undecoded)) => {
                self.unrecognized.fetch_add(1, Ordering::Relaxed);
                metrics::record_unrecognized(Unrecognized::Undecoded);
                tracing::warn!(event = %event(), uuid = %uuid(), error = %escape_error_for_log(undecoded.error()), "acknowledged an event that could not be decoded");
            }
            Some(Event::Unknown(_)) => {
                self.unrecognized.fetch_add(1, Ordering::Relaxed);
                metrics::record_unrecognized(Unrecognized::Unknown);
                tracing::warn!(event = %event(), uuid = %uuid(), "acknowledged an event of unknown name");
            }
            _ => {}
        }
    }
}

impl WarnInterval {
    fn count(&mut self, rejection: &Rejection) {
        let kind = rejection.kind();
        match self.rejected.iter_mut().find(|counted| counted.kind == kind) {
            Some(counted) => counted.count += 1,
            None => {
                let first_reason = escape_error_for_log(rejection).to_string();
                self.rejected.push(RejectionCount { kind, count: 1, first_reason });
            }
        }
    }

    /// If the interval is over, returns what was rejected in it and begins the next one.
    fn end(&mut self, now: Instant) -> Vec<RejectionCount> {
        if self.until.is_some_and(|until| until <= now) && !self.rejected.is_empty() {
            self.until = Some(now + WARN_INTERVAL);
            return std::mem::take(&mut self.rejected);
        }
        Vec::new()
    }
}

/// Never called with the lock held: a subscriber may be slow, and every rejection takes that lock.
fn warn(rejected: &[RejectionCount]) {
    let mut kinds = String::new();
    for RejectionCount { kind, count, first_reason } in rejected {
        let separator = if kinds.is_empty() { "" } else { "; " };
        let _ = write!(kinds, "{separator}{count} {} (such as: {first_reason})", kind.name());
    }
    let count = rejected.iter().map(|counted| counted.count).sum::<u64>();
    if count > 0 {
        tracing::warn!(count, %kinds, "deliveries rejected");
    }
}

/// Logs the summary when it is dropped with its runtime before the interval ends.
struct SummaryOnDrop(Option<Arc<Mutex<WarnInterval>>>);

impl Drop for SummaryOnDrop {
    fn drop(&mut self) {
        let Some(interval) = &self.0 else { return };
        let mut interval = locked(interval);
        let rejected = std::mem::take(&mut interval.rejected);
        if !rejected.is_empty() {
            interval.until = Some(Instant::now() + WARN_INTERVAL);
        }
        drop(interval);
        warn(&rejected);
    }
}
