//! Deletes rows whose retention is over.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;

use crate::storage::{Retention, Storage};

/// Interval of sweeps when nothing is left to delete.
const INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a sweep has failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Sweeps until it is dropped. The storage limits the time of each portion.
pub(super) async fn run(storage: &dyn Storage, retention: Retention) -> Infallible {
    loop {
        match storage.sweep(retention).await {
            Ok(0) => sleep(INTERVAL).await,
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "rows whose retention is over could not be deleted; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}
