//! The SQL statements, by subject. Times are the server's.
//!
//! They run on a [`Session`](super::connections::Session), whose search path has only PostgreSQL's own schemas. The one
//! exception is [`complete_within`]: it runs in a transactional handler's transaction, so it qualifies all names.
//!
//! Statements that choose the rows they change skip those that another transaction has locked; only a replay waits for them.
//! So a client that is gone while it holds a row stops nobody. A later statement finds what this one has skipped.

mod claim;
mod dedup;
mod edit;
mod insert;
mod maintenance;
mod operations;
mod queues;
mod read;
mod settle;

use std::time::Duration;

use crate::storage::Lease;
pub(super) use claim::{ClaimedRows, check_claim, claim, renew};
pub(super) use dedup::{claim_key, complete_key, release_key};
pub(super) use edit::{purge, replay};
pub(super) use insert::insert;
pub(super) use maintenance::{
    CompletedEvent, NEWEST, Uncompleted, delete_completed, group_errors, nth_completed, ping, sweep,
    uncompleted_bytes,
};
pub(super) use operations::{
    activity, pause, paused, record_activity, remove_worker, report_worker, resume, workers,
};
pub(super) use queues::{mark_all_runnable, mark_runnable};
pub(super) use read::{bodies, count_by_event, counts, failed_attempts, get, list, nth, reasons, stats};
pub(super) use settle::{complete_within, settle};

/// The hash of a file and webhook, by which events are ordered.
pub(super) type Queue = i64;

/// Switches synchronous commit on for the statement, should a reload of the server's settings have switched it off, and
/// makes it wait for the standby also when it finds that all was stored before. What it found may not have reached the
/// standby: a commit whose wait is cancelled, or cut short by a restart, is visible at once. A transaction that writes
/// nothing to the log would not wait; the message is an empty record, which nobody reads.
const DURABLE: &str = "durable AS MATERIALIZED (SELECT set_config('synchronous_commit', \
     CASE WHEN s.level <> 'off' THEN s.level ELSE 'on' END, true), pg_logical_emit_message(true, 'smartshape_inbox', '') \
     FROM (SELECT current_setting('synchronous_commit') AS level) s)";
const AS_DURABLE_AS_SET: &str = "durable AS (SELECT true)";

/// A difference of two times, in seconds, as a duration; negative ones are zero.
fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn seqs(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.seq).collect()
}

fn fences(leases: &[Lease]) -> Vec<i64> {
    leases.iter().map(|lease| lease.fence).collect()
}
