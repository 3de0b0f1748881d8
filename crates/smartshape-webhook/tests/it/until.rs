//! Polls a condition.

use std::time::{Duration, Instant};

/// Maximum time until a condition holds, by the system's clock, since the runtime's may be paused.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Yields until `condition` returns true; panics after [`TIMEOUT`].
pub(crate) async fn poll_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started_at = Instant::now();
    while !condition().await {
        assert!(started_at.elapsed() < TIMEOUT, "timed out: {what}");
        tokio::task::yield_now().await;
    }
}
