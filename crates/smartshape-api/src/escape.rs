//! Escapes and truncates untrusted text for display.

use std::fmt::Write as _;

/// Longer texts are truncated.
const MAX_CHARS: usize = 200;

/// Escapes unprintable characters and truncates to 200 characters.
pub(crate) fn escape_and_truncate(text: &str) -> String {
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
    fn untrusted_text_is_escaped_and_truncated() {
        assert_eq!(escape_and_truncate("a\n\u{1b}[31mé\""), "a\\n\\u{1b}[31mé\"");
        assert_eq!(escape_and_truncate(&"x".repeat(201)), format!("{}…", "x".repeat(200)));
    }
}
