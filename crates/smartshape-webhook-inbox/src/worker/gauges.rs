//! Updates the gauges of stored events.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::activity::ActivityCounts;
use crate::error::InboxError;
use crate::metrics;
use crate::recorder::ActivityRecorder;
use crate::storage::{Storage, milliseconds};

const INTERVAL: Duration = Duration::from_secs(15);
const MAX_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Updates them until it is dropped. Counting takes seconds when millions of events wait, so it never takes more than a
/// tenth of the time, up to [`MAX_INTERVAL`].
pub(super) async fn run(storage: &dyn Storage, activity: &ActivityRecorder) -> Infallible {
    loop {
        let started_at = Instant::now();
        if let Err(error) = update(storage, activity).await {
            tracing::warn!(%error, "the inbox's gauges could not be updated; trying again");
        }
        sleep((started_at.elapsed() * 10).clamp(INTERVAL, MAX_INTERVAL)).await;
    }
}

async fn update(storage: &dyn Storage, activity: &ActivityRecorder) -> Result<(), InboxError> {
    let stats = storage.stats().await?;
    metrics::stats(&stats);
    let counts = storage.counts().await?;
    activity.record(ActivityCounts {
        max_waiting: i64::try_from(stats.waiting).unwrap_or(i64::MAX),
        max_overdue_ms: milliseconds(counts.overdue.unwrap_or_default()),
        ..ActivityCounts::default()
    });
    Ok(())
}
