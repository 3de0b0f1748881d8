//! Medians with their spread.

use std::time::Duration;

/// What was measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Figure {
    pub(crate) fn of(mut measured: Vec<f64>) -> Self {
        measured.sort_by(f64::total_cmp);
        let at = |place: usize| measured.get(place).copied().unwrap_or(f64::NAN);
        let middle = measured.len() / 2;
        let median = if measured.len().is_multiple_of(2) && middle > 0 {
            (at(middle - 1) + at(middle)) / 2.0
        } else {
            at(middle)
        };
        Self { median, low: at(0), high: at(measured.len().saturating_sub(1)) }
    }

    pub(crate) fn once(value: f64) -> Self {
        Self::of(vec![value])
    }
}

/// The latency that all but one in a hundred stay below.
pub(crate) fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    let place = (latencies.len() * 99).div_ceil(100).saturating_sub(1);
    latencies.get(place).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How many a second.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_at_the_ends() {
        let odd = Figure::of(vec![3.0, 1.0, 10.0]);
        assert_eq!((odd.median, odd.low, odd.high), (3.0, 1.0, 10.0));
        assert_eq!(Figure::of(vec![4.0, 1.0, 2.0, 100.0]).median, 3.0);
        assert_eq!(Figure::once(7.0).median, 7.0);
        assert!(Figure::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn one_in_a_hundred_may_be_slower_than_the_p99() {
        let mut latencies: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(p99(&mut latencies), Duration::from_millis(198));
        assert_eq!(p99(&mut []), Duration::ZERO);
    }
}
