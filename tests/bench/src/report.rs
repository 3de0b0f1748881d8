//! Samples with their median and spread, tables in Markdown, and where and when they were measured.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Command;

use jiff::Timestamp;

use crate::Result;

/// From this many samples on, the spread leaves out the lowest and the highest quarter, which show only when the
/// machine was busy with something else.
const MANY: usize = 50;

/// What was measured, round by round. Displayed as its median, with the spread in brackets, and with as many decimals
/// as the format's precision says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }

    /// The ratio within each round.
    pub(crate) fn ratio_to(&self, denominators: &Self) -> Self {
        Self(self.0.iter().zip(&denominators.0).map(|(one, other)| one / other).collect())
    }

    /// The difference within each round.
    pub(crate) fn minus(&self, subtrahends: &Self) -> Self {
        Self(self.0.iter().zip(&subtrahends.0).map(|(one, other)| one - other).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The lowest sample that this share of all does not exceed. NaN if nothing was measured.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

impl Display for Samples {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(0);
        let spread = if self.0.len() < MANY { [0.0, 1.0] } else { [0.25, 0.75] };
        let shown = |share: f64| format!("{:.decimals$}", self.quantile(share));
        let ([low, high], median) = (spread.map(shown), shown(0.5));
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

/// Begins a table. The columns are separated by ` | `.
pub(crate) fn table(heading: &str, columns: &str) {
    println!("\n{heading}\n\n| {columns} |\n|{}", "---|".repeat(columns.split(" | ").count()));
}

/// When and on what a part was measured.
pub(crate) fn environment(quick: bool) -> Result<String> {
    let scale = if quick { "--quick" } else { "full" };
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name\t: "));
    let (model, cores) = (models.next().unwrap_or("unknown"), models.count() + 1);
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
    fn samples_are_displayed_as_their_median_and_spread() {
        assert_eq!(Samples(vec![3.0, 1.0, 10.0]).to_string(), "3 (1–10)");
        assert!(Samples::default().median().is_nan());
        let many = Samples((1..=200).rev().map(f64::from).collect());
        assert_eq!((format!("{many:.1}"), many.quantile(0.99)), ("100.0 (50.0–150.0)".to_owned(), 198.0));
    }

    #[test]
    fn ratio_and_difference_are_taken_within_a_round() {
        // The machine is half as fast in each second round.
        let [bare, receiver] =
            [100.0, 80.0].map(|rate| Samples([1.0, 0.5, 1.0].map(|speed| rate * speed).to_vec()));
        assert_eq!(format!("{:.3}", receiver.ratio_to(&bare)), "0.800");
        assert_eq!(format!("{:.0}", bare.minus(&receiver)), "20 (10–20)");
    }
}
