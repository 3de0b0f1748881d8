//! Medians with their spread, tables in Markdown, and where and when they were measured.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;

use crate::Result;

/// From this many measurements on, the spread leaves out the lowest and the highest quarter, which show only when the
/// machine was busy with something else.
const MANY: usize = 50;

/// A quantity that was measured several times, displayed with as many decimals as the format's precision says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    /// The lowest measurement, or the lower quartile of `MANY` and more.
    low: f64,
    /// The highest measurement, or the upper quartile of `MANY` and more.
    high: f64,
}

impl Figure {
    /// NaN if nothing was measured.
    pub(crate) fn from_samples(samples: &[f64]) -> Self {
        let mut measured = samples.to_vec();
        measured.sort_by(f64::total_cmp);
        let at = |index: usize| measured.get(index).copied().unwrap_or(f64::NAN);
        let middle = measured.len() / 2;
        let is_even = measured.len().is_multiple_of(2) && middle > 0;
        let median = if is_even { (at(middle - 1) + at(middle)) / 2.0 } else { at(middle) };
        let cut = if measured.len() < MANY { 0 } else { measured.len() / 4 };
        Self { median, low: at(cut), high: at(measured.len().saturating_sub(1 + cut)) }
    }

    /// The ratios of measurements that were taken in the same round.
    pub(crate) fn ratio(numerators: &[f64], denominators: &[f64]) -> Self {
        let ratios = numerators.iter().zip(denominators).map(|(one, other)| one / other);
        Self::from_samples(&ratios.collect::<Vec<_>>())
    }

    /// The differences of measurements that were taken in the same round.
    pub(crate) fn difference(minuends: &[f64], subtrahends: &[f64]) -> Self {
        let differences = minuends.iter().zip(subtrahends).map(|(one, other)| one - other);
        Self::from_samples(&differences.collect::<Vec<_>>())
    }
}

impl Display for Figure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(0);
        let [median, low, high] =
            [self.median, self.low, self.high].map(|value| format!("{value:.decimals$}"));
        if low == high { f.write_str(&median) } else { write!(f, "{median} ({low}–{high})") }
    }
}

/// The value that we want a figure to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    pub(crate) fn status(self, measured: f64) -> String {
        let (sign, bound, met) = match self {
            Self::None => return "–".to_owned(),
            Self::AtLeast(bound) => ('≥', bound, measured >= bound),
            Self::AtMost(bound) => ('≤', bound, measured <= bound),
        };
        format!("{sign} {bound}: {}", if met { "met" } else { "missed" })
    }
}

/// The columns, and the cells of each row, are separated by ` | `.
pub(crate) fn table(heading: &str, columns: &str, rows: &[String]) {
    println!("\n{heading}\n\n| {columns} |\n|{}", "---|".repeat(columns.split(" | ").count()));
    for row in rows {
        println!("| {row} |");
    }
}

/// The latency that 99 of 100 stay below.
pub(crate) fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    let rank = (latencies.len() * 99).div_ceil(100);
    latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// When and on what a part was measured.
pub(crate) fn environment(quick: bool) -> Result<String> {
    let scale = if quick { "--quick" } else { "full" };
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (_, model) = model.unwrap_or(("", "unknown"));
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("unknown");
    let rust = Command::new("rustc").arg("--version").output()?;
    let rust = String::from_utf8_lossy(&rust.stdout);
    let rust = rust.split(' ').nth(1).unwrap_or("unknown");
    let now = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    Ok(format!(
        "Measured – date: {now}; scale: {scale}; machine: {cores} cores, {model}; Rust: {rust}; load: {load}."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_has_the_median_and_the_spread() {
        let odd = Figure::from_samples(&[3.0, 1.0, 10.0]);
        assert_eq!((odd.median, odd.low, odd.high), (3.0, 1.0, 10.0));
        assert_eq!(Figure::from_samples(&[4.0, 1.0, 2.0, 100.0]).median, 3.0);
        assert!(Figure::from_samples(&[]).median.is_nan());
        let many: Vec<_> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(format!("{:.1}", Figure::from_samples(&many)), "50.0 (25.0–75.0)");
    }

    #[test]
    fn ratio_and_difference_are_taken_within_a_round() {
        // The machine is half as fast in each second round.
        let [bare, receiver] = [100.0, 80.0].map(|rate| [1.0, 0.5, 1.0, 0.5].map(|speed| rate * speed));
        assert_eq!(format!("{:.3}", Figure::ratio(&receiver, &bare)), "0.800");
        assert_eq!(format!("{:.0}", Figure::difference(&bare, &receiver)), "15 (10–20)");
    }

    #[test]
    fn p99_leaves_one_in_a_hundred_above() {
        let mut latencies: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(p99(&mut latencies), Duration::from_millis(198));
        assert_eq!(p99(&mut []), Duration::ZERO);
    }
}
