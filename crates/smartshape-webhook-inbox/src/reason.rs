//! Why events are dead letters: errors that differ only in ids and long numbers have one reason.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::event::stable_hash;

/// Stands for an id or a number in [`DeadLetterReason::text`].
const PLACEHOLDER: char = '…';
/// A longer error is grouped by its beginning.
const MAX_CHARS: usize = 500;

/// Identifies the reason of a dead letter. Errors that differ only in ids and long numbers have the same one.
///
/// ```
/// use smartshape_webhook_inbox::ReasonId;
///
/// let reason = ReasonId::from_error("no part 5c6aeed079bf3f432d3c929e: 404");
/// assert_eq!(reason, ReasonId::from_error("no part 5d10c2aa4fb090280ecc0042: 404"));
/// assert_ne!(reason, ReasonId::from_error("no part 5d10c2aa4fb090280ecc0042: 503"), "short numbers count");
/// assert_eq!(reason.to_string().parse(), Ok(reason));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReasonId(pub(crate) i64);

impl ReasonId {
    /// The reason of an error's text.
    #[must_use]
    pub fn from_error(error: &str) -> Self {
        let hash = stable_hash(&without_ids(error), "reason");
        // 0 stands for dead letters without a reason.
        Self(if hash == 0 { 1 } else { hash })
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for ReasonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ReasonId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(|number| Self(number.cast_signed()))
    }
}

/// Dead letters with the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterReason {
    /// Selects them: [`EventFilter::reason`](crate::EventFilter::reason).
    pub id: ReasonId,
    /// The error of the latest one, with `…` for ids and long numbers.
    pub text: String,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Sequence number of the latest one.
    pub last_seq: i64,
    /// The name of the latest one's event.
    pub last_event_name: String,
    /// When the latest one was received.
    pub last_received_at: Timestamp,
}

/// Replaces ids (8 or more hexadecimal digits, 16 or more letters and digits) and numbers of 4 or more digits.
pub(crate) fn without_ids(error: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for c in error.chars().take(MAX_CHARS).chain(['\n']) {
        if c.is_ascii_alphanumeric() || c == '-' {
            word.push(c);
            continue;
        }
        push_word(&word, &mut text);
        word.clear();
        text.push(c);
    }
    text.pop();
    text
}

fn push_word(word: &str, text: &mut String) {
    if is_id(word) {
        text.push(PLACEHOLDER);
        return;
    }
    for (index, part) in word.split('-').enumerate() {
        if index > 0 {
            text.push('-');
        }
        let is_number = part.len() >= 4 && part.bytes().all(|b| b.is_ascii_digit());
        if is_number || is_id(part) {
            text.push(PLACEHOLDER);
        } else {
            text.push_str(part);
        }
    }
}

fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let length = word.bytes().filter(|b| *b != b'-').count();
    let is_hexadecimal = word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    digits > 0 && (length >= 8 && is_hexadecimal || length >= 16 && digits >= 4 && !word.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_text_has_no_ids_and_no_long_numbers() {
        for (error, text) in [
            ("timed out after 30 s", "timed out after 30 s"),
            ("503 Service Unavailable", "503 Service Unavailable"),
            ("part of file 5c6aeed079bf3f432d3c929e is new", "part of file … is new"),
            ("e9ce7c73-3c9d-4679-9f50-7f27c41cd59e: no row", "…: no row"),
            ("at line 1 column 41200", "at line 1 column …"),
            ("order-123456 of 2026-11-29", "order-… of …"),
            ("request Zx81kQ09aa77LLm2 failed", "request … failed"),
            ("upstream-connect-error deadbeef", "upstream-connect-error deadbeef"),
            ("", ""),
        ] {
            assert_eq!(without_ids(error), text);
        }
    }
}
