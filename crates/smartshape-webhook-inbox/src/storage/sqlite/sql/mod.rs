//! The SQL statements, by subject. Each runs in the caller's transaction, at the storage's time `now`.

mod claim;
mod clock;
mod edit;
mod maintenance;
mod operations;
mod read;
mod settle;

use crate::storage::Lease;
pub(super) use claim::{claim, end_leases, peek, renew};
pub(super) use clock::{extend_leases, time_at};
pub(super) use edit::{AdminAction, change, find};
pub(super) use maintenance::{completed, sweep, uncompleted_bytes};
pub(super) use operations::{
    activity, pause, paused, record_activity, remove_worker, report_worker, resume, workers,
};
pub(super) use read::{count_by_event, counts, failed_attempts, get, list, nth, reasons, stats};
pub(super) use settle::settle;

/// `[[seq,fence],…]`, so that one statement takes any number of leases.
pub(super) fn pairs(leases: &[Lease]) -> String {
    let pairs: Vec<_> = leases.iter().map(|lease| format!("[{},{}]", lease.seq, lease.fence)).collect();
    format!("[{}]", pairs.join(","))
}

fn json_array(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}
