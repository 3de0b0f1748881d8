//! Decodes documents member by member: a member of an unexpected type reads as missing, and never fails the event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

use super::RawJson;

/// A JSON string, with U+FFFD for each lone surrogate. JavaScript writes one for a string that was cut inside an emoji;
/// JSON allows it, and Rust's strings cannot hold it.
pub(crate) struct LenientString(pub(crate) String);

impl<'de> Deserialize<'de> for LenientString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringVisitor;

        impl Visitor<'_> for StringVisitor {
            type Value = LenientString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<LenientString, E> {
                Ok(LenientString(text.to_owned()))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<LenientString, E> {
                Ok(LenientString(replace_surrogates(bytes)))
            }
        }

        // serde_json returns a string with a lone surrogate only as bytes, in which it is encoded like any other code
        // point.
        deserializer.deserialize_bytes(StringVisitor)
    }
}

fn replace_surrogates(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        // A surrogate's three bytes are three invalid chunks; the first byte is always this one.
        if chunk.invalid().first() == Some(&0xed) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// The value of a JSON string; `None` for a value of another type.
pub(crate) fn decode_string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok().map(|LenientString(text)| text)
}

/// Maximum length of a name that is decoded, in its quotes: `runTimestamp`, the longest that is read, with each
/// character escaped.
const MAX_NAME_BYTES: usize = 12 * 6 + 2;

/// A member's name; `None` for a longer one than any that is read, which is not decoded: it may be as long as the body.
pub(crate) fn name(raw: &RawValue) -> Option<Cow<'_, str>> {
    let sent = Some(raw.get()).filter(|sent| sent.len() <= MAX_NAME_BYTES)?;
    if sent.contains('\\') {
        return decode_string(sent).map(Cow::Owned);
    }
    sent.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed)
}

/// The type of a document's member. Its default stands for a member that is missing or of another type.
pub(crate) trait Member: Default {
    /// Reads a JSON value; `None` when it is of another type.
    fn read(json: &str) -> Option<Self>;
}

/// `#[serde(deserialize_with = …)]`: a member of another type reads as though it were missing.
pub(crate) fn member<'de, D: Deserializer<'de>, T: Member>(deserializer: D) -> Result<T, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(T::read(raw.get()).unwrap_or_default())
}

/// A value in a document.
pub(crate) trait LenientValue: Sized {
    /// Reads a JSON value; `None` when it is of another type.
    fn read(json: &str) -> Option<Self>;
}

impl<T: LenientValue> Member for Option<T> {
    fn read(json: &str) -> Option<Self> {
        T::read(json).map(Some)
    }
}

/// A list with an element of another type reads as missing: skipping the element would shift the indexes of those
/// after it.
impl<T: LenientValue> Member for Vec<T> {
    fn read(json: &str) -> Option<Self> {
        let elements: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        elements.into_iter().map(|element| T::read(element.get())).collect()
    }
}

impl LenientValue for String {
    fn read(json: &str) -> Option<Self> {
        decode_string(json)
    }
}

macro_rules! plain_values {
    ($($type:ty)*) => {$(
        impl LenientValue for $type {
            fn read(json: &str) -> Option<Self> {
                serde_json::from_str(json).ok()
            }
        }
    )*};
}

plain_values! { RawJson bool f64 }

/// A count, which may be written as a float.
impl LenientValue for u64 {
    fn read(json: &str) -> Option<Self> {
        let whole = |float: &f64| float.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(float);
        let float = || serde_json::from_str(json).ok().filter(whole).map(|float| float as Self);
        serde_json::from_str(json).ok().or_else(float)
    }
}

/// A document: a struct of an id and members, each of which may be missing, read from an [`Object`]. An id of type
/// `str` is stored as a `String`.
///
/// `remote = "Self"` derives an inherent `deserialize`, so that the trait's implementation below can put [`Object`]
/// around the deserializer first.
macro_rules! document {
    ($(#[$doc:meta])* pub struct $document:ident(id: $id:ty) {
        $($(#[$member_doc:meta])* $visibility:vis $member:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase", remote = "Self")]
        #[non_exhaustive]
        pub struct $document {
            #[serde(rename = "_id", deserialize_with = "crate::events::lenient::member")]
            mongo_id: Option<<$id as ToOwned>::Owned>,
            #[serde(deserialize_with = "crate::events::lenient::member")]
            id: Option<<$id as ToOwned>::Owned>,
            $($(#[$member_doc])*
            #[serde(deserialize_with = "crate::events::lenient::member")]
            $visibility $member: $type,)*
        }

        impl $document {
            /// The id, from `_id` or `id`.
            #[must_use]
            pub fn id(&self) -> Option<&$id> {
                self.mongo_id.as_ref().or(self.id.as_ref()).map(std::borrow::Borrow::borrow)
            }
        }

        impl<'de> serde::Deserialize<'de> for $document {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(crate::events::lenient::Object(deserializer))
            }
        }

        impl crate::events::lenient::LenientValue for $document {
            fn read(json: &str) -> Option<Self> {
                serde_json::from_str(json).ok()
            }
        }
    };
}
pub(crate) use document;

/// Reads a struct from a JSON object only: serde's derive also takes its fields from an array, in their order, and so
/// would mistake any list for a document. Members' names are read as [`LenientString`]s are.
pub(crate) struct Object<D>(pub(crate) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(ObjectVisitor(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Reads a struct from the text of a JSON object, and of nothing else.
pub(crate) fn object<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let object = T::deserialize(Object(&mut deserializer))?;
    deserializer.end()?;
    Ok(object)
}

struct ObjectVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for ObjectVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(ByteKeys(map))
    }
}

/// The members of an object whose names are read as bytes.
struct ByteKeys<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ByteKeys<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(ByteKey(seed))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A member's name, in two roles: as a seed it wraps the caller's seed; as the deserializer given to that seed it reads
/// the name with `deserialize_bytes`, so that a lone surrogate in it is no error.
struct ByteKey<T>(T);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for ByteKey<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        self.0.deserialize(ByteKey(deserializer))
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ByteKey<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_bytes(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory limit counts the body alone, and not what is decoded beside it.
    #[test]
    fn name_as_long_as_a_body_is_not_decoded() {
        let raw = |json: String| RawValue::from_string(json).unwrap();
        let escaped: String =
            "runTimestamp".chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
        assert_eq!(name(&raw(format!("\"{escaped}\""))).as_deref(), Some("runTimestamp"));
        assert_eq!(name(&raw(format!("{:?}", "x".repeat(1_000_000)))), None);
    }
}
