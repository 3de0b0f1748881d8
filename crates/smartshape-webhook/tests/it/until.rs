//! Polls a condition.

use std::time::{Duration, Instant};

/// Maximum time until a condition holds, by the system's clock, since the runtime's may be paused.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Yields until `it_is_so` returns true; panics after [`TIMEOUT`].
pub(crate) async fn until(what: &str, mut it_is_so: impl AsyncFnMut() -> bool) {
    let started_at = Instant::now();
    while !it_is_so().await {
        assert!(started_at.elapsed() < TIMEOUT, "timed out: {what}");
        tokio::task::yield_now().await;
    }
}
