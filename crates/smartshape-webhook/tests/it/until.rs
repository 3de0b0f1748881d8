//! Waiting for what others do.

use std::time::{Duration, Instant};

/// A condition that takes longer never holds. Measured by the system's clock, since the runtime's may be paused.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Lets others go on until `it_is_so`.
pub(crate) async fn until(what: &str, mut it_is_so: impl AsyncFnMut() -> bool) {
    let started_at = Instant::now();
    while !it_is_so().await {
        assert!(started_at.elapsed() < TIMEOUT, "it never came to this: {what}");
        tokio::task::yield_now().await;
    }
}
