//! What runs beside the worker's loop, since it may take long: sweeps, and the gauges of stored events.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{WorkerContext, within};
use crate::activity::ActivityCounts;
use crate::error::InboxError;
use crate::metrics;
use crate::stats::InboxStats;
use crate::storage::{Retention, Storage, milliseconds};

/// Interval of sweeps when nothing is left to delete.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a sweep has failed.
const SWEEP_PAUSE: Duration = Duration::from_secs(5);
const GAUGES_INTERVAL: Duration = Duration::from_secs(15);
/// Pause after an exact count that took too long. PostgreSQL may go on with it for minutes.
const PAUSE_AFTER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Sweeps until it is dropped. The storage limits the time of each portion.
pub(super) async fn sweep(storage: &dyn Storage, retention: Retention) -> Infallible {
    loop {
        match storage.sweep(retention).await {
            Ok(0) => sleep(SWEEP_INTERVAL).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "rows whose retention is over could not be deleted; trying again");
                sleep(SWEEP_PAUSE).await;
            }
        }
    }
}

/// Updates the gauges until it is dropped. Exact counts of millions of events take long, and may hold the only
/// connection for claims: one that exceeds the store's timeout is given up, and bounded counts take its place for a
/// while. They never lower the number of events, since it is at least theirs.
pub(super) async fn update_gauges(context: &WorkerContext) -> Infallible {
    let (mut last, mut count_at) = (InboxStats::default(), Instant::now());
    loop {
        if let Err(error) = update(context, &mut last, &mut count_at).await {
            tracing::warn!(%error, "the inbox's gauges could not be updated; trying again");
        }
        sleep(GAUGES_INTERVAL).await;
    }
}

async fn update(
    context: &WorkerContext,
    last: &mut InboxStats,
    count_at: &mut Instant,
) -> Result<(), InboxError> {
    let storage = &*context.storage;
    let started_at = Instant::now();
    let mut exact = None;
    if started_at >= *count_at {
        match timeout(context.store_timeout, storage.stats()).await {
            Ok(stats) => {
                exact = Some(stats?);
                *count_at = Instant::now() + started_at.elapsed() * 10;
            }
            Err(_) => {
                *count_at = Instant::now() + PAUSE_AFTER_TIMEOUT;
                tracing::warn!(
                    "counting the stored events takes long; the gauges show older numbers meanwhile"
                );
            }
        }
    }
    let counts = within(context.store_timeout, storage.counts()).await?;
    *last = exact.unwrap_or_else(|| InboxStats {
        waiting: last.waiting.max(counts.waiting.get()),
        running: counts.running.get(),
        dead_letters: last.dead_letters.max(counts.dead_letters.get()),
        oldest_waiting: counts.overdue,
        disk_bytes: counts.disk_bytes,
    });
    metrics::stats(last);
    context.activity.record(ActivityCounts {
        max_waiting: i64::try_from(last.waiting).unwrap_or(i64::MAX),
        max_overdue_ms: milliseconds(counts.overdue.unwrap_or_default()),
        ..ActivityCounts::default()
    });
    Ok(())
}
