//! Tables for people, and the same as JSON for programs.

use serde_json::{Map, Value, json};

use crate::figures::Figure;

/// One place in a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// In words.
    Text(String),
    /// With this many decimals.
    Figure(Figure, usize),
    /// Not measured.
    Nothing,
}

/// Figures in rows.
#[derive(Clone, Debug)]
pub struct Table {
    /// The heading above it; none where the part has but one table.
    pub title: &'static str,
    /// What the figures mean.
    pub meaning: String,
    /// What each column holds.
    pub columns: Vec<&'static str>,
    /// As many cells in each as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn json(&self) -> Value {
        let row = |cells: &Vec<Cell>| -> Map<String, Value> {
            self.columns.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.json())).collect()
        };
        self.rows.iter().map(row).map(Value::Object).collect()
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = line(self.columns.iter().map(|&name| name.to_owned()).collect());
        let rule = format!("|{}\n", "---|".repeat(self.columns.len()));
        let rows = self.rows.iter().map(|cells| line(cells.iter().map(Cell::text).collect()));
        rows.fold(head + &rule, |text, row| text + &row)
    }

    pub(crate) fn aligned(&self) -> String {
        let mut lines = vec![self.columns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()];
        lines.extend(self.rows.iter().map(|cells| cells.iter().map(Cell::text).collect()));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Cell {
    /// What was measured once, with this many decimals.
    #[must_use]
    pub fn once(value: f64, decimals: usize) -> Self {
        Self::Figure(Figure::once(value), decimals)
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Nothing => "–".to_owned(),
            Self::Figure(Figure { median, low, high }, decimals) if low == high => number(*median, *decimals),
            Self::Figure(Figure { median, low, high }, decimals) => {
                let [median, low, high] = [median, low, high].map(|value| number(*value, *decimals));
                format!("{median} ({low}–{high})")
            }
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Nothing => Value::Null,
            Self::Figure(Figure { median, low, high }, _) => {
                json!({"median": median, "low": low, "high": high})
            }
        }
    }
}

/// In lines that are not too long.
pub(crate) fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 110 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// With a space between thousands.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(1_234_567.0, 0), "1 234 567");
        assert_eq!(number(999.96, 1), "1 000.0");
        assert_eq!(number(0.5, 2), "0.50");
    }

    #[test]
    fn prose_is_wrapped_between_words() {
        assert_eq!(wrapped("two  words"), "two words");
        let long = vec!["word"; 40].join(" ");
        assert_eq!(wrapped(&long).replace('\n', " "), long);
        assert!(wrapped(&long).lines().all(|line| line.len() <= 110));
    }

    #[test]
    fn a_table_is_the_same_in_all_three_forms() {
        let table = Table {
            title: "t",
            meaning: String::new(),
            columns: vec!["what", "ms"],
            rows: vec![
                vec![Cell::Text("claim".into()), Cell::Figure(Figure::of(vec![1.0, 2.0, 4.0]), 1)],
                vec![Cell::Text("open".into()), Cell::Nothing],
            ],
        };
        assert_eq!(table.markdown(), "| what | ms |\n|---|---|\n| claim | 2.0 (1.0–4.0) |\n| open | – |\n");
        assert_eq!(table.aligned(), "what    ms\nclaim   2.0 (1.0–4.0)\nopen    –");
        let expected = json!([{"what": "claim", "ms": {"median": 2.0, "low": 1.0, "high": 4.0}}, {"what": "open", "ms": null}]);
        assert_eq!(table.json(), expected);
    }
}
