//! How many rows a sweep deletes in one portion. Deliveries to a file, and statements that share few connections, wait
//! for a portion; those of long bodies take long.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const INITIAL: u32 = 1000;
const MIN: u32 = 10;
pub(crate) const MAX: u32 = 10_000;
/// A portion that took longer is followed by one of half the rows.
const LONG: Duration = Duration::from_millis(500);
/// A portion that took less is followed by one of twice the rows.
const SHORT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct SweepSize(AtomicU32);

impl SweepSize {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(INITIAL))
    }

    pub(crate) fn rows(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn took(&self, time: Duration) {
        let rows = self.rows();
        let next = if time > LONG {
            rows / 2
        } else if time < SHORT {
            rows * 2
        } else {
            rows
        };
        self.0.store(next.clamp(MIN, MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_size_follows_time() {
        let size = SweepSize::new();
        let after = |milliseconds| {
            size.took(Duration::from_millis(milliseconds));
            size.rows()
        };
        assert_eq!([600, 6000, 200, 50].map(after), [500, 250, 250, 500]);
        assert_eq!([(); 20].map(|()| after(1000))[19], MIN);
        assert_eq!([(); 20].map(|()| after(1))[19], MAX);
    }
}
