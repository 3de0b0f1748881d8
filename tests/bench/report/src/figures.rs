//! Medians with their spread.

use std::time::Duration;

/// From so many on, the lowest and the highest only tell of moments in which the machine did something else.
/// Every part has either fewer rounds or many more, so that a row from which some were thrown away shows the
/// same spread as its neighbours.
const MANY: usize = 50;

/// What was measured several times.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The middle one, or the mean of the two in the middle; NaN when nothing was measured.
    pub median: f64,
    /// The lowest; of fifty and more the one above which three quarters lie.
    pub low: f64,
    /// The highest; of fifty and more the one below which three quarters lie.
    pub high: f64,
}

impl Figure {
    /// The figure of these measurements, in any order.
    #[must_use]
    pub fn of(mut measured: Vec<f64>) -> Self {
        measured.sort_by(f64::total_cmp);
        let at = |place: usize| measured.get(place).copied().unwrap_or(f64::NAN);
        let middle = measured.len() / 2;
        let median = if measured.len().is_multiple_of(2) && middle > 0 {
            (at(middle - 1) + at(middle)) / 2.0
        } else {
            at(middle)
        };
        let outside = if measured.len() < MANY { 0 } else { measured.len() / 4 };
        Self { median, low: at(outside), high: at(measured.len().saturating_sub(1 + outside)) }
    }

    /// What was measured once.
    #[must_use]
    pub fn once(value: f64) -> Self {
        Self::of(vec![value])
    }
}

/// The latency that all but one in a hundred stay below.
pub fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    let place = (latencies.len() * 99).div_ceil(100).saturating_sub(1);
    latencies.get(place).copied().unwrap_or_default()
}

/// In milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How many a second.
#[must_use]
pub fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// What we want a figure to be.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Aim {
    /// The bound.
    #[must_use]
    pub fn bound(self) -> f64 {
        let (Self::AtLeast(bound) | Self::AtMost(bound)) = self;
        bound
    }

    /// The aim, and whether this median reaches it, as text.
    #[must_use]
    pub fn verdict(self, measured: f64) -> String {
        let (sign, met) = match self {
            Self::AtLeast(bound) => ('≥', measured >= bound),
            Self::AtMost(bound) => ('≤', measured <= bound),
        };
        let verdict = match (measured.is_nan(), met) {
            (true, _) => "not measured",
            (false, true) => "met",
            (false, false) => "missed",
        };
        format!("{sign} {}: {verdict}", self.bound())
    }
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
        let many = Figure::of((0..=100).rev().map(f64::from).collect());
        assert_eq!((many.median, many.low, many.high), (50.0, 25.0, 75.0));
        let first = |count: u8| Figure::of((1..=count).map(f64::from).collect());
        assert_eq!((first(49).low, first(49).high), (1.0, 49.0));
        assert_eq!((first(50).low, first(50).high), (13.0, 38.0));
    }

    #[test]
    fn an_aim_is_met_at_its_bound() {
        assert_eq!(Aim::AtLeast(0.95).verdict(0.95), "≥ 0.95: met");
        assert_eq!(Aim::AtLeast(0.95).verdict(0.94), "≥ 0.95: missed");
        assert_eq!(Aim::AtMost(32.0).verdict(31.0), "≤ 32: met");
        assert_eq!(Aim::AtMost(1.0).verdict(1.1), "≤ 1: missed");
        assert_eq!(Aim::AtMost(1.0).verdict(f64::NAN), "≤ 1: not measured");
    }

    #[test]
    fn one_in_a_hundred_may_be_slower_than_the_p99() {
        let mut latencies: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(p99(&mut latencies), Duration::from_millis(198));
        assert_eq!(p99(&mut []), Duration::ZERO);
    }
}
