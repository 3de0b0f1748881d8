//! Escaping of untrusted text for logs.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

/// Maximum length of a field in characters.
const FIELD_CHARS: usize = 100;
/// Maximum length of an error in characters.
const ERROR_CHARS: usize = 1000;

/// Escapes a field chosen by a sender: unprintable characters are escaped, and the text is cut after 100 characters.
///
/// ```
/// assert_eq!(smartshape_webhook::escape_for_log("two\nlines").to_string(), "two\\nlines");
/// ```
#[must_use]
pub fn escape_for_log(text: &str) -> EscapedForLog<'_> {
    EscapedForLog { text: text.into(), chars: FIELD_CHARS }
}

/// Escapes an error that may quote a sender, like [`escape_for_log`], and cuts it after 1000 characters.
#[must_use]
pub fn escape_error_for_log(error: impl Display) -> EscapedForLog<'static> {
    EscapedForLog { text: error.to_string().into(), chars: ERROR_CHARS }
}

/// Escaped text, returned by [`escape_for_log`] and [`escape_error_for_log`].
#[derive(Clone, Debug)]
pub struct EscapedForLog<'a> {
    text: Cow<'a, str>,
    chars: usize,
}

impl EscapedForLog<'_> {
    /// Cuts the text after so many characters instead.
    ///
    /// ```
    /// assert_eq!(smartshape_webhook::escape_for_log("a line").max_chars(2).to_string(), "a …");
    /// ```
    #[must_use]
    pub fn max_chars(self, chars: usize) -> Self {
        Self { chars, ..self }
    }
}

impl Display for EscapedForLog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.text.chars().take(self.chars) {
            match character {
                '"' | '\'' => f.write_char(character)?,
                _ => write!(f, "{}", character.escape_debug())?,
            }
        }
        if self.text.chars().nth(self.chars).is_some() { f.write_char('…') } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_logs_are_escaped_and_cut() {
        assert_eq!(escape_for_log("a\n\u{1b}[31mé\u{202e}\"").to_string(), "a\\n\\u{1b}[31mé\\u{202e}\"");
        assert_eq!(escape_for_log(&"x".repeat(101)).to_string(), format!("{}…", "x".repeat(100)));
    }
}
