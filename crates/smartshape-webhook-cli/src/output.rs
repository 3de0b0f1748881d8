//! What is written, and where: results to standard output, words for people to standard error.

use std::fmt::{Display, Write as _};
use std::io::Write;

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// A line of the result.
pub(crate) fn line(text: impl Display) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| Failure::of_stdout(&error))
}

/// A result for programs: one line of JSON.
pub(crate) fn json(value: &Value) -> Outcome {
    line(value)
}

/// A line for a person who looks on.
pub(crate) fn say(text: impl Display) {
    // Nobody reads: nothing to be done about it.
    let _ = writeln!(std::io::stderr(), "smartshape: {text}");
}

/// A table for people. Nothing but its head is shown when there are no rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Outcome {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(&rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    line(text.trim_end())
}

/// A text of somebody else's, which must not move a terminal's cursor.
pub(crate) fn shown(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, character| {
        if character.is_control() || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}
