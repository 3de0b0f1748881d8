//! Metrics, through the `metrics` facade: without an installed recorder they cost nothing. METRICS.md lists the same names for
//! users; a test compares.
//!
//! A label is always one of our own static texts, never anything that came from outside.

use std::time::Duration;

use crate::engine::Verdict;
use crate::error::{InboxError, InboxErrorKind};
use crate::record::Stats;

/// How often a worker looks how full the store is.
pub(crate) const DEPTH_EVERY: Duration = Duration::from_secs(15);

mod names {
    pub(super) const STORED: &str = "smartshape_inbox_stored_total";
    pub(super) const STORE: &str = "smartshape_inbox_store_seconds";
    pub(super) const ATTEMPTS: &str = "smartshape_inbox_attempts_total";
    pub(super) const ATTEMPT: &str = "smartshape_inbox_attempt_seconds";
    pub(super) const EVENTS: &str = "smartshape_inbox_events";
    pub(super) const OLDEST: &str = "smartshape_inbox_oldest_waiting_seconds";
    pub(super) const BYTES: &str = "smartshape_inbox_stored_bytes";
}

/// Tells the recorder units and meanings. One that is installed later does without.
pub(crate) fn describe() {
    {
        use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
        describe_counter!(
            names::STORED,
            Unit::Count,
            "Deliveries given to the inbox, by what became of them"
        );
        describe_histogram!(
            names::STORE,
            Unit::Seconds,
            "From a delivery's arrival at the inbox until it is durable"
        );
        describe_counter!(names::ATTEMPTS, Unit::Count, "Attempts that ended, by what becomes of the event");
        describe_histogram!(names::ATTEMPT, Unit::Seconds, "How long a handler ran");
        describe_gauge!(names::EVENTS, Unit::Count, "Events in the store, by where they stand");
        describe_gauge!(
            names::OLDEST,
            Unit::Seconds,
            "How long the longest waiting event has been in the store"
        );
        describe_gauge!(names::BYTES, Unit::Bytes, "The space that the store takes");
    }
}

pub(crate) fn stored(outcome: Result<bool, &InboxError>, took: Duration) {
    let result = match outcome.map_err(InboxError::kind) {
        Ok(true) => "new",
        Ok(false) => "duplicate",
        Err(InboxErrorKind::Full) => "full",
        Err(_) => "failed",
    };
    {
        metrics::counter!(names::STORED, "result" => result).increment(1);
        if outcome.is_ok() {
            metrics::histogram!(names::STORE).record(took);
        }
    }
}

pub(crate) fn attempted(verdict: &Verdict, took: Duration) {
    ended(
        match verdict {
            Verdict::Completed { .. } => "completed",
            Verdict::Retry { .. } => "retry",
            Verdict::Dead { .. } => "dead",
            Verdict::GivenBack => return given_back(),
        },
        Some(took),
    );
}

/// Attempts whose workers ended too often, so that their events are dead letters now.
pub(crate) fn buried(events: u64) {
    for _ in 0..events {
        ended("buried", None);
    }
}

pub(crate) fn given_back() {
    ended("given_back", None);
}

/// An attempt that ended without a verdict that counts.
pub(crate) fn lost() {
    ended("lost", None);
}

pub(crate) fn recorded(took: Duration) {
    ended("completed", Some(took));
}

fn ended(outcome: &'static str, took: Option<Duration>) {
    {
        metrics::counter!(names::ATTEMPTS, "outcome" => outcome).increment(1);
        if let Some(took) = took {
            metrics::histogram!(names::ATTEMPT).record(took);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floating")]
pub(crate) fn depth(stats: &Stats) {
    {
        for (state, events) in [("waiting", stats.waiting), ("at_work", stats.at_work), ("dead", stats.dead)]
        {
            metrics::gauge!(names::EVENTS, "state" => state).set(events as f64);
        }
        metrics::gauge!(names::OLDEST).set(stats.oldest_waiting.unwrap_or_default().as_secs_f64());
        metrics::gauge!(names::BYTES).set(stats.stored_bytes as f64);
    }
}
