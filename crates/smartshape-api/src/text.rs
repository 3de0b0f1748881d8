//! Texts that a server chose, made fit to be shown.

use std::fmt::Write as _;

/// Longer ones are cut.
const MAX_CHARS: usize = 200;

/// What cannot be printed is escaped, and what is longer than 200 characters is cut.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MAX_CHARS) {
        match character {
            '"' | '\'' => shown.push(character),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "{}", character.escape_debug());
            }
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_cut() {
        assert_eq!(shown("a\n\u{1b}[31mé\""), "a\\n\\u{1b}[31mé\"");
        assert_eq!(shown(&"x".repeat(201)), format!("{}…", "x".repeat(200)));
    }
}
