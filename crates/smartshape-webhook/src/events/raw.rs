//! JSON text, kept exactly as it was received.

use std::fmt;
#[cfg(feature = "receiver")]
use std::ops::Range;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as text, byte for byte as it was received. Cheap to clone.
///
/// Numbers keep their digits (`1e2`, 2^64) and strings their escapes, which a round trip through
/// typed values would lose.
///
/// ```
/// use smartshape_webhook::RawJson;
///
/// let raw = RawJson::parse("{ \"size\": 1e2 }")?;
/// assert_eq!(raw.as_str(), "{ \"size\": 1e2 }");
/// assert_eq!(raw.compact(), r#"{"size":1e2}"#);
/// assert_eq!(serde_json::to_string(&raw).unwrap(), raw.as_str());
/// # Ok::<(), smartshape_webhook::DecodeError>(())
/// ```
#[derive(Clone)]
pub struct RawJson(Bytes);

impl RawJson {
    /// Takes one JSON value with white space around it or not.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is not JSON.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let text = text.into();
        let _: &RawValue = serde_json::from_slice(&text).map_err(|error| DecodeError::new(&error))?;
        Ok(Self(text))
    }

    /// `part` must have been parsed out of `whole`.
    pub(crate) fn from_part(whole: &Bytes, part: &str) -> Self {
        Self(whole.slice_ref(part.as_bytes()))
    }

    pub(crate) fn copied(value: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(value.get().as_bytes()))
    }

    /// The value at `range`.
    #[cfg(feature = "receiver")]
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        Self(self.0.slice(range))
    }

    /// `text` must have been parsed.
    #[cfg(feature = "receiver")]
    pub(crate) fn from_parsed(text: Bytes) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only parsed text comes in here, and JSON parsers check UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Decodes the value into a type of your own.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the value does not fit the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        serde_json::from_slice(&self.0).map_err(|error| DecodeError::new(&error))
    }

    /// The text with the white space between its tokens removed, and nothing else changed.
    #[must_use]
    pub fn compact(&self) -> String {
        let mut compact = String::with_capacity(self.0.len());
        let (mut in_string, mut escaped) = (false, false);
        for character in self.as_str().chars() {
            if in_string {
                (in_string, escaped) = (escaped || character != '"', !escaped && character == '\\');
            } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
                continue;
            } else {
                in_string = character == '"';
            }
            compact.push(character);
        }
        compact
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Bytes::from(Box::<str>::from(raw).into_boxed_bytes())))
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A JSON value that does not fit the wanted type; says what and where.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<str>);

impl DecodeError {
    pub(crate) fn new(error: &serde_json::Error) -> Self {
        // serde_json quotes what it met; a long text from outside does not belong into an error.
        // Line and column stand at the end.
        let text = error.to_string();
        let start = text.char_indices().nth(200).map(|(at, _)| at);
        let end = text.char_indices().nth_back(79).map(|(at, _)| at);
        match (start, end) {
            (Some(start), Some(end)) if start < end => {
                Self(format!("{}…{}", &text[..start], &text[end..]).into())
            }
            _ => Self(text.into()),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({:?})", self.0)
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_touches_white_space_between_tokens_only() {
        let raw = RawJson::parse("{\n \"a b\\\" c\" :\t[ 1e2 , \"\\\\\" , \" é \" ]\r\n}").unwrap();
        assert_eq!(raw.compact(), r#"{"a b\" c":[1e2,"\\"," é "]}"#);
        assert_eq!((raw.to_string().as_str(), format!("{raw:?}").as_str()), (raw.as_str(), raw.as_str()));
    }

    #[test]
    fn errors_are_cut() {
        let raw = RawJson::parse(format!("\"{}\"", "x".repeat(10_000))).unwrap();
        let error = raw.decode::<u8>().unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
        assert!(error.to_string().ends_with("at line 1 column 10002"), "{error}");
    }
}
