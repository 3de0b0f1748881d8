//! Times, which are ISO 8601 strings or milliseconds since 1970.

use jiff::Timestamp;

use super::lenient::{self, LenientValue};

impl LenientValue for Timestamp {
    fn read(json: &str) -> Option<Self> {
        from_json(json)
    }
}

/// A time as it stands in a JSON document, if it is one.
pub(crate) fn from_json(raw: &str) -> Option<Timestamp> {
    match raw.as_bytes().first() {
        Some(b'"') => from_text(&lenient::decode_string(raw)?),
        Some(b'-' | b'0'..=b'9') => from_number(raw),
        _ => None,
    }
}

/// A time written as text: ISO 8601, or milliseconds in digits.
fn from_text(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| from_number(text))
}

/// A time from the digits of a JSON number in milliseconds.
pub(crate) fn from_number(digits: &str) -> Option<Timestamp> {
    match digits.parse::<i64>() {
        Ok(millis) => Timestamp::from_millisecond(millis).ok(),
        Err(_) => from_float(digits.parse().ok()?),
    }
}

fn from_float(millis: f64) -> Option<Timestamp> {
    // A cast saturates, and what is out of range is rejected next.
    Timestamp::from_microsecond((millis * 1000.0).round() as i64).ok().filter(|_| millis.is_finite())
}
