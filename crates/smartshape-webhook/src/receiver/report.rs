//! What operators see: one event for each outcome, and refusals without a flood of lines.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Ending;
use crate::claims::SameBody;
use crate::delivery::Delivery;
use crate::events::Event;
use crate::lock::locked;
use crate::measure::{self, Arrived, Drift, Outcome};
use crate::printable::{printable, printable_error};
use crate::refusal::{Refusal, RefusalKind};

/// Refusals are warned of at most once in this time, but for the first few; each is logged at debug level.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// So many are warned of one by one: they show what is wrong with a receiver that was just set up.
const FIRST_FEW: u64 = 5;

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
    /// Those of them whose body was not that of the delivery that they repeat: somebody else sent one of the two.
    pub differing_duplicates: u64,
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
    differing_duplicates: AtomicU64,
    refused: AtomicU64,
    drifted: AtomicU64,
    quiet: Arc<Mutex<Quiet>>,
}

/// The time after a warning, and what was refused in it.
#[derive(Default)]
struct Quiet {
    warned: u64,
    until: Option<Instant>,
    refused: Refused,
}

/// How many were refused, by kind, each with the reason of its first.
type Refused = Vec<(RefusalKind, u64, String)>;

impl Report {
    pub(super) fn stats(&self, at_work: usize, reserved_bytes: u64, hashes: u64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            at_work,
            reserved_bytes,
            acknowledged: read(&self.acknowledged),
            failed: read(&self.failed),
            duplicates: read(&self.duplicates),
            differing_duplicates: read(&self.differing_duplicates),
            refused: read(&self.refused),
            drifted: read(&self.drifted),
            hashes,
        }
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        measure::refused(refusal.kind());
        tracing::debug!(kind = ?refusal.kind(), reason = %printable_error(refusal), "delivery refused");
        self.refused.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut quiet = locked(&self.quiet);
        // Where no timer told.
        let ended = quiet.end(now);
        let Some(until) = quiet.until.filter(|until| now < *until) else {
            quiet.warned += 1;
            if quiet.warned > FIRST_FEW {
                quiet.until = Some(now + WARN_EVERY);
            }
            drop(quiet);
            warn(ended);
            return tracing::warn!(kind = refusal.kind().name(), reason = %printable_error(refusal), "delivery refused");
        };
        let first = quiet.refused.is_empty();
        quiet.count(refusal);
        drop(quiet);
        warn(ended);
        if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut told = Told(Some(Arc::clone(&self.quiet)));
            runtime.spawn(async move {
                tokio::time::sleep_until(until).await;
                if let Some(quiet) = told.0.take() {
                    let ended = locked(&quiet).end(Instant::now());
                    warn(ended);
                }
            });
        }
    }

    pub(super) fn duplicate(&self, delivery: &Delivery, same_body: SameBody) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
        let event = || printable(delivery.event_name());
        let uuid = || printable(delivery.uuid());
        if same_body == Some(false) {
            self.differing_duplicates.fetch_add(1, Ordering::Relaxed);
            measure::differing_duplicate();
            let secret = printable(delivery.secret_name().unwrap_or_default());
            tracing::warn!(
                event = %event(),
                uuid = %uuid(),
                %secret,
                "a duplicate has another body than the delivery that it repeats, and is not handled: was one of them forged?"
            );
        } else {
            tracing::debug!(event = %event(), uuid = %uuid(), "duplicate delivery");
        }
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

impl Quiet {
    fn count(&mut self, refusal: &Refusal) {
        match self.refused.iter_mut().find(|(kind, ..)| *kind == refusal.kind()) {
            Some((_, count, _)) => *count += 1,
            None => self.refused.push((refusal.kind(), 1, printable_error(refusal).to_string())),
        }
    }

    /// Takes what was refused in a quiet time that is over, and begins the next one.
    fn end(&mut self, now: Instant) -> Refused {
        if self.until.is_some_and(|until| until <= now) && !self.refused.is_empty() {
            self.until = Some(now + WARN_EVERY);
            return std::mem::take(&mut self.refused);
        }
        Refused::new()
    }
}

/// Never called with the lock held: whoever reads the log may be slow, and every refusal takes that lock.
fn warn(refused: Refused) {
    let mut kinds = String::new();
    let mut count = 0;
    for (kind, of_kind, reason) in refused {
        let separator = if kinds.is_empty() { "" } else { "; " };
        let _ = write!(kinds, "{separator}{of_kind} {} (such as: {reason})", kind.name());
        count += of_kind;
    }
    if count > 0 {
        tracing::warn!(count, %kinds, "deliveries refused");
    }
}

/// Dropped with its runtime before the end of the quiet time, it says what was refused in it.
struct Told(Option<Arc<Mutex<Quiet>>>);

impl Drop for Told {
    fn drop(&mut self) {
        let Some(quiet) = &self.0 else { return };
        let mut quiet = locked(quiet);
        let refused = std::mem::take(&mut quiet.refused);
        if !refused.is_empty() {
            quiet.until = Some(Instant::now() + WARN_EVERY);
        }
        drop(quiet);
        warn(refused);
    }
}
