//! Attributes, in the three shapes in which SmartShape writes them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::RawJson;
use super::ids::NodeId;
use super::lenient::Object;

/// One attribute: a name and a value of any JSON type.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attribute {
    /// The name.
    pub name: String,
    /// The value, exactly as it was sent: `value.decode::<f64>()` and so on.
    pub value: RawJson,
    /// Where the attribute comes from, where SmartShape says so.
    pub origin: Option<String>,
}

impl Attribute {
    /// The value, if it is a text.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        self.value.decode().ok()
    }

    /// The value, if it is a number; the nearest float, so decode an integer beyond 2^53 yourself.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.value.decode().ok()
    }

    /// The value as people read it: a text without its quotes, anything else as JSON.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.decode::<String>().unwrap_or_else(|_| self.value.compact())
    }
}

/// A set of attributes, in the order in which they were sent.
///
/// Reads all shapes: plain values under their names (as in the manual's sample),
/// `{key, value, origin}` objects under their names, and an array of such objects.
///
/// ```
/// use smartshape_webhook::Attributes;
///
/// for json in [
///     r#"{"weight": 1e2}"#,
///     r#"{"weight": {"key": "weight", "value": 1e2, "origin": "import"}}"#,
///     r#"[{"key": "weight", "value": 1e2}]"#,
/// ] {
///     let attributes: Attributes = serde_json::from_str(json)?;
///     let weight = attributes.iter().next().unwrap();
///     assert_eq!((weight.name.as_str(), weight.value.as_str()), ("weight", "1e2"));
/// }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<Attribute>);

impl Attributes {
    /// The attributes.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Attribute> {
        self.0.iter()
    }

    /// The first attribute of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.iter().find(|attribute| attribute.name == name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A `{key, value, origin}` object. `value` must be there, or it is somebody's plain value.
#[derive(serde::Deserialize)]
struct Keyed {
    key: String,
    value: RawJson,
    origin: Option<String>,
}

impl Keyed {
    fn named(self, name: Option<String>) -> Attribute {
        Attribute { name: name.unwrap_or(self.key), value: self.value, origin: self.origin }
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        let text = raw.as_str();
        if text.starts_with('[') {
            let keyed: Vec<Object<Keyed>> = raw.decode().map_err(D::Error::custom)?;
            return Ok(Self(keyed.into_iter().map(|Object(one)| one.named(None)).collect()));
        }
        if text == "null" {
            return Ok(Self::default());
        }
        let entries: Entries<RawJson> = raw.decode().map_err(D::Error::custom)?;
        let mut attributes = Vec::with_capacity(entries.0.len());
        for (name, value) in entries.0 {
            add(&mut attributes, name, value);
        }
        Ok(Self(attributes))
    }
}

fn add(attributes: &mut Vec<Attribute>, name: String, value: RawJson) {
    let text = value.as_str();
    if text.starts_with('{')
        && let Ok(keyed) = value.decode::<Keyed>()
    {
        attributes.push(keyed.named(Some(name)));
    } else if text.starts_with('[')
        && let Ok(many) = value.decode::<Vec<Object<Keyed>>>()
        && !many.is_empty()
    {
        attributes.extend(many.into_iter().map(|Object(one)| one.named(None)));
    } else {
        attributes.push(Attribute { name, value, origin: None });
    }
}

/// The attributes of several nodes.
pub(crate) type NodeAttributes = Entries<Attributes, NodeId>;

/// A JSON object as a list, in the order in which it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Entries<V, K = String>(pub(crate) Vec<(K, V)>);

impl<'de, V: Deserialize<'de>, K: From<String>> Deserialize<'de> for Entries<V, K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V, K>(std::marker::PhantomData<(V, K)>);

        impl<'de, V: Deserialize<'de>, K: From<String>> Visitor<'de> for EntriesVisitor<V, K> {
            type Value = Entries<V, K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    entries.push((K::from(key), value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<(String, String, Option<String>)> {
        let attributes: Attributes = serde_json::from_str(json).unwrap();
        attributes.iter().map(|one| (one.name.clone(), one.text(), one.origin.clone())).collect()
    }

    #[test]
    fn shapes_that_only_look_alike_stay_plain_values() {
        let one = |value: &str| vec![("a".to_owned(), value.to_owned(), None)];
        assert_eq!(read(r#"{"a": {"key": "no value"}}"#), one(r#"{"key":"no value"}"#));
        assert_eq!(read(r#"{"a": []}"#), one("[]"));
        assert_eq!(read(r#"{"a": [1, 2]}"#), one("[1,2]"));
        assert_eq!(read(r#"{"a": [["k", "v", "o"]]}"#), one(r#"[["k","v","o"]]"#));
        assert_eq!(read(r#"{"a": null}"#), one("null"));
        assert_eq!(read("null"), []);
    }

    #[test]
    fn order_and_digits_are_kept() {
        let read =
            read(r#"{"z": 18446744073709551616, "a": {"key": "a", "value": "x", "origin": "o"}, "m": "é"}"#);
        let names: Vec<&str> = read.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "m"]);
        assert_eq!(read[0].1, "18446744073709551616");
        assert_eq!(read[1].2.as_deref(), Some("o"));
        assert_eq!(read[2].1, "é");
    }
}
