//! Medians with their spread, tables in Markdown, and where and when they were measured.

use std::fs;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;

use crate::Result;

/// From this many measurements on, the spread leaves out the lowest and the highest quarter, which show only when the
/// machine was busy with something else.
const MANY: usize = 50;

/// A quantity that was measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    /// The lowest measurement, or the lower quartile of `MANY` and more.
    pub(crate) low: f64,
    /// The highest measurement, or the upper quartile of `MANY` and more.
    pub(crate) high: f64,
}

impl Figure {
    /// NaN if nothing was measured.
    pub(crate) fn from_samples(mut measured: Vec<f64>) -> Self {
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
        Self::from_samples(numerators.iter().zip(denominators).map(|(one, other)| one / other).collect())
    }

    pub(crate) fn show(&self, decimals: usize) -> String {
        let [median, low, high] = [self.median, self.low, self.high].map(|value| number(value, decimals));
        if low == high { median } else { format!("{median} ({low}–{high})") }
    }
}

/// The value that we want a figure to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    pub(crate) fn status(self, measured: f64) -> String {
        let (sign, bound, met) = match self {
            Self::AtLeast(bound) => ('≥', bound, measured >= bound),
            Self::AtMost(bound) => ('≤', bound, measured <= bound),
        };
        format!("{sign} {bound}: {}", if met { "met" } else { "missed" })
    }
}

/// The value, with a space between thousands.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

pub(crate) fn heading(text: &str) {
    println!("\n{text}");
}

/// The columns are separated by ` | `.
pub(crate) fn table(columns: &str, rows: &[Vec<String>]) {
    println!("\n| {columns} |\n|{}", "---|".repeat(columns.split(" | ").count()));
    for row in rows {
        println!("| {} |", row.join(" | "));
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
        let odd = Figure::from_samples(vec![3.0, 1.0, 10.0]);
        assert_eq!((odd.median, odd.low, odd.high), (3.0, 1.0, 10.0));
        assert_eq!(Figure::from_samples(vec![4.0, 1.0, 2.0, 100.0]).median, 3.0);
        assert!(Figure::from_samples(Vec::new()).median.is_nan());
        let many = Figure::from_samples((0..=100).rev().map(f64::from).collect());
        assert_eq!((many.median, many.low, many.high), (50.0, 25.0, 75.0));
        assert_eq!(Figure::ratio(&[2.0, 9.0], &[4.0, 3.0]).show(1), "1.8 (0.5–3.0)");
    }

    #[test]
    fn p99_leaves_one_in_a_hundred_above() {
        let mut latencies: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(p99(&mut latencies), Duration::from_millis(198));
        assert_eq!(p99(&mut []), Duration::ZERO);
    }
}
