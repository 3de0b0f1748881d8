//! Reading documents whose fields come and go.

use serde::de::{Deserialize, Deserializer, Error as _};

/// `#[serde(deserialize_with = …)]`: null reads as the default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `#[serde(deserialize_with = …)]`: a count that may be written as a float, missing or null.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = |float: &f64| float.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(float);
    let count = number.as_u64().or_else(|| number.as_f64().filter(whole).map(|float| float as u64));
    count.map(Some).ok_or_else(|| D::Error::custom(format_args!("{number} is not a count")))
}
