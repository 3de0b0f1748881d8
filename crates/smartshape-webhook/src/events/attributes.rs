//! Attributes, in the three shapes in which SmartShape writes them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::RawJson;
use super::ids::NodeId;
use super::lenient::{self, LenientString, Member as _};

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
    /// The value, if it is a string; a lone surrogate in it reads as U+FFFD.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        lenient::decode_string(self.value.as_str())
    }

    /// The value, if it is a number; the nearest float, so decode an integer beyond 2^53 yourself.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.value.decode().ok()
    }

    /// The value as people read it: a string without its quotes, anything else as JSON.
    #[must_use]
    pub fn text(&self) -> String {
        self.as_text().unwrap_or_else(|| self.value.compact())
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

/// A `{key, value, origin}` object. Without `value` the object is a plain value.
#[derive(serde::Deserialize)]
struct Keyed {
    key: LenientString,
    value: RawJson,
    #[serde(default, deserialize_with = "lenient::member")]
    origin: Option<String>,
}

impl Keyed {
    fn read(json: &RawValue) -> Option<Self> {
        lenient::object(json.get()).ok()
    }

    fn named(self, name: Option<String>) -> Attribute {
        Attribute { name: name.unwrap_or(self.key.0), value: self.value, origin: self.origin }
    }
}

/// Elements of the list that are no attributes are skipped.
impl lenient::Member for Attributes {
    fn read(json: &str) -> Option<Self> {
        if json == "null" {
            return Some(Self::default());
        }
        if json.starts_with('[') {
            let list: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let attributes = list.into_iter().filter_map(Keyed::read);
            return Some(Self(attributes.map(|keyed| keyed.named(None)).collect()));
        }
        let Entries(entries) = serde_json::from_str::<Entries<&RawValue>>(json).ok()?;
        let mut attributes = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            add(&mut attributes, name, value);
        }
        Some(Self(attributes))
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        Self::read(raw.as_str()).ok_or_else(|| D::Error::custom("attributes are an object or a list"))
    }
}

fn add(attributes: &mut Vec<Attribute>, name: String, value: &RawValue) {
    let json = value.get();
    if json.starts_with('{')
        && let Some(keyed) = Keyed::read(value)
    {
        attributes.push(keyed.named(Some(name)));
    } else if json.starts_with('[')
        && let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(json)
        && let Some(many) = list.into_iter().map(Keyed::read).collect::<Option<Vec<_>>>()
        && !many.is_empty()
    {
        attributes.extend(many.into_iter().map(|keyed| keyed.named(None)));
    } else {
        attributes.push(Attribute { name, value: RawJson::copied(value), origin: None });
    }
}

/// The attributes of several nodes. What a node has beside attributes is left out.
pub(crate) type NodeAttributes = Vec<(NodeId, Attributes)>;

/// `#[serde(deserialize_with = …)]` for [`NodeAttributes`].
pub(crate) fn by_node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeAttributes, D::Error> {
    let Entries(nodes) = Entries::<RawJson, NodeId>::deserialize(deserializer)?;
    let read = |(node, raw): (NodeId, RawJson)| (node, Attributes::read(raw.as_str()).unwrap_or_default());
    Ok(nodes.into_iter().map(read).collect())
}

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
                while let Some((LenientString(key), value)) = map.next_entry()? {
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

    fn read(json: &str) -> Vec<(String, String)> {
        let attributes: Attributes = serde_json::from_str(json).unwrap();
        attributes.iter().map(|attribute| (attribute.name.clone(), attribute.text())).collect()
    }

    #[test]
    fn shapes_that_only_look_alike_stay_plain_values() {
        let one = |value: &str| vec![("a".to_owned(), value.to_owned())];
        assert_eq!(read(r#"{"a": {"key": "no value"}}"#), one(r#"{"key":"no value"}"#));
        assert_eq!(read(r#"{"a": []}"#), one("[]"));
        assert_eq!(read(r#"{"a": [1, 2]}"#), one("[1,2]"));
        assert_eq!(read(r#"{"a": [["k", "v", "o"]]}"#), one(r#"[["k","v","o"]]"#));
        assert_eq!(read(r#"{"a": null}"#), one("null"));
        assert_eq!(read("null"), []);
    }
}
