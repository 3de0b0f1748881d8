//! Metrics, through the `metrics` facade: without an installed recorder they cost nothing. METRICS.md lists the same
//! names for users; a test compares.
//!
//! A label is always one of our own static texts, never anything that came from outside.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::error::{InboxError, InboxErrorKind};
use crate::stats::InboxStats;

const DELIVERIES: &str = "smartshape_inbox_deliveries_total";
const STORE_SECONDS: &str = "smartshape_inbox_store_seconds";
const ATTEMPTS: &str = "smartshape_inbox_attempts_total";
const ATTEMPT_SECONDS: &str = "smartshape_inbox_attempt_seconds";
const EVENTS: &str = "smartshape_inbox_events";
const OLDEST_WAITING: &str = "smartshape_inbox_oldest_waiting_seconds";
const DISK_BYTES: &str = "smartshape_inbox_disk_bytes";

/// Gives the recorder units, descriptions and all counters at 0: `increase` of Prometheus compares samples, so it would
/// not see the first count of a series that is born with it. A recorder that is installed later does without.
pub(crate) fn describe() {
    describe_counter!(DELIVERIES, Unit::Count, "Deliveries passed to the inbox, by outcome");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "Time to store a delivery durably");
    describe_counter!(ATTEMPTS, Unit::Count, "Ended attempts, by outcome");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "Run time of the handler");
    describe_gauge!(EVENTS, Unit::Count, "Stored events, by state");
    describe_gauge!(OLDEST_WAITING, Unit::Seconds, "Age of the oldest waiting event");
    describe_gauge!(DISK_BYTES, Unit::Bytes, "Bytes that the inbox takes on the disk");

    for outcome in ["stored", "duplicate", "full", "failed"] {
        counter!(DELIVERIES, "outcome" => outcome).increment(0);
    }
    for outcome in ["completed", "retry", "dead_letter", "released", "lease_lost", "lost_leases_exceeded"] {
        counter!(ATTEMPTS, "outcome" => outcome).increment(0);
    }
}

pub(crate) fn delivery_stored(stored: Result<bool, &InboxError>, took: Duration) {
    let outcome = match stored.map_err(InboxError::kind) {
        Ok(true) => "stored",
        Ok(false) => "duplicate",
        Err(InboxErrorKind::Full) => "full",
        Err(_) => "failed",
    };
    counter!(DELIVERIES, "outcome" => outcome).increment(1);
    if stored.is_ok() {
        histogram!(STORE_SECONDS).record(took);
    }
}

/// A handler has returned.
pub(crate) fn attempt_took(took: Duration) {
    histogram!(ATTEMPT_SECONDS).record(took);
}

pub(crate) fn attempts_ended(outcome: &'static str, count: u64) {
    counter!(ATTEMPTS, "outcome" => outcome).increment(count);
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating")]
pub(crate) fn stats(stats: &InboxStats) {
    for (state, events) in
        [("waiting", stats.waiting), ("running", stats.running), ("dead_letter", stats.dead_letters)]
    {
        gauge!(EVENTS, "state" => state).set(events as f64);
    }
    gauge!(OLDEST_WAITING).set(stats.oldest_waiting.unwrap_or_default().as_secs_f64());
    gauge!(DISK_BYTES).set(stats.disk_bytes as f64);
}
