//! Times, which come as ISO 8601 texts or as milliseconds since 1970.

use std::fmt;

use jiff::Timestamp;
use serde::de::{self, Deserializer, Visitor};

/// `#[serde(deserialize_with = …)]` for a time that may be missing or null.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    deserializer.deserialize_any(TimeVisitor)
}

/// A time written as text: ISO 8601, or milliseconds in digits.
pub(crate) fn from_text(text: &str) -> Option<Timestamp> {
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
    // A cast saturates, and what is out of range is refused next.
    Timestamp::from_microsecond((millis * 1000.0).round() as i64).ok().filter(|_| millis.is_finite())
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Option<Timestamp>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time: an ISO 8601 text, or milliseconds since 1970")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Self::Value, E> {
        Timestamp::from_millisecond(millis).map(Some).map_err(|_| out_of_range(&millis))
    }

    fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Self::Value, E> {
        self.visit_i64(millis.try_into().map_err(|_| out_of_range(&millis))?)
    }

    fn visit_f64<E: de::Error>(self, millis: f64) -> Result<Self::Value, E> {
        from_float(millis).map(Some).ok_or_else(|| out_of_range(&millis))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        from_text(text).map(Some).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn out_of_range<E: de::Error>(millis: &dyn fmt::Display) -> E {
    E::custom(format_args!("{millis} ms since 1970 is no time that can be represented"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<Timestamp>, serde_json::Error> {
        optional(&mut serde_json::Deserializer::from_str(json))
    }

    #[test]
    fn every_form_gives_the_same_instant() {
        let expected: Timestamp = "2019-01-20T08:39:08.529Z".parse().unwrap();
        for form in [
            r#""2019-01-20T08:39:08.529Z""#,
            "1547973548529",
            "1547973548529.0",
            "1.547973548529e12",
            r#""1547973548529""#,
        ] {
            assert_eq!(read(form).unwrap(), Some(expected), "{form}");
        }
        assert_eq!(read("null").unwrap(), None);
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        for form in
            ["18446744073709551615", "-9223372036854775808", "1e300", "-1e300", r#""soon""#, "true", "{}"]
        {
            assert!(read(form).is_err(), "{form}");
        }
    }
}
