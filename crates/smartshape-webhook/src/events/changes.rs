//! A structural comparison of two versions of a document.
//!
//! Values are slices of the two documents, so that a number keeps all its digits. SmartShape writes one document in
//! several ways, so a difference of representation is not a change.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::attributes::Entries;
use super::{RawJson, number, time};

/// Maximum depth at which objects and arrays are compared member by member; deeper ones are compared as text.
const MAX_DEPTH: usize = 64;
/// Maximum length in bytes of the path to an object or array that is compared member by member.
const MAX_PATH: usize = 1024;
/// Maximum number of changes within an object or array; with more, it counts as one change. Each change contains its
/// path, so the three limits together bound the memory that the changes of one event take.
const MAX_CHANGES: usize = 10_000;

/// One difference between two versions of a document.
///
/// ```
/// use smartshape_webhook::{AnnotationUpdated, RawJson};
///
/// let data = r#"{"old": {"_id": "5c", "name": "a", "permissions": {}}, "new": {"id": "5c", "name": "b", "permissions": []}}"#;
/// let event: AnnotationUpdated = smartshape_webhook::TypedEvent::from_data(RawJson::parse(data)?)?;
/// let changes = event.changes();
/// assert_eq!(changes.len(), 1);
/// assert_eq!(changes[0].path, "/name");
/// assert_eq!(changes[0].after.as_ref().unwrap().as_str(), r#""b""#);
/// # Ok::<(), smartshape_webhook::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    /// Where it is, as a JSON Pointer (RFC 6901): `/transparencyEffectParameters/alphaCoefficient`.
    pub path: String,
    /// The value before; `None` where there was none.
    pub before: Option<RawJson>,
    /// The value after; `None` where there is none.
    pub after: Option<RawJson>,
}

/// The differences, in the order of the older document. Ignores differences of representation: the order of keys, null
/// or missing, `{}` or `[]`, `1` or `1.0`, a time as text or as milliseconds, `_id` or `id`. Ignores the store's
/// version counter `__v` as well.
pub(crate) fn between(before: &RawJson, after: &RawJson) -> Vec<Change> {
    let mut comparison =
        Comparison { before: before.as_bytes(), after: after.as_bytes(), changes: Vec::new() };
    let (Some(old), Some(new)) = (raw(before.as_str()), raw(after.as_str())) else { return Vec::new() };
    comparison.compare(&mut String::new(), Some(old), Some(new), 0);
    comparison.changes
}

struct Comparison<'a> {
    before: &'a Bytes,
    after: &'a Bytes,
    changes: Vec<Change>,
}

impl Comparison<'_> {
    fn compare(&mut self, path: &mut String, old: Option<&RawValue>, new: Option<&RawValue>, depth: usize) {
        if matches!((old, new), (Some(old), Some(new)) if old.get() == new.get()) {
            return;
        }
        let (a, b) = (old.map_or(Node::Null, Node::parse), new.map_or(Node::Null, Node::parse));
        let start = self.changes.len();
        let inside = depth < MAX_DEPTH && path.len() < MAX_PATH;
        match (a, b) {
            (Node::Object(a), Node::Object(b)) if inside => self.objects(path, &a, &b, depth + 1),
            (Node::Array(a), Node::Array(b)) if inside => self.arrays(path, &a, &b, depth + 1),
            (a, b) if a.equal(&b) => {}
            _ => self.push(path, old, new),
        }
        if self.too_many_since(start) {
            self.changes.truncate(start);
            self.push(path, old, new);
        }
    }

    fn push(&mut self, path: &str, old: Option<&RawValue>, new: Option<&RawValue>) {
        self.changes.push(Change {
            path: path.to_owned(),
            before: old.map(|value| RawJson::from_part(self.before, value.get())),
            after: new.map(|value| RawJson::from_part(self.after, value.get())),
        });
    }

    fn too_many_since(&self, start: usize) -> bool {
        self.changes.len() - start > MAX_CHANGES
    }

    fn arrays(&mut self, path: &mut String, old: &[&RawValue], new: &[&RawValue], depth: usize) {
        let start = self.changes.len();
        for index in 0..old.len().max(new.len()) {
            let length = path.len();
            path.push_str(&format!("/{index}"));
            self.compare(path, old.get(index).copied(), new.get(index).copied(), depth);
            path.truncate(length);
            if self.too_many_since(start) {
                return;
            }
        }
    }

    fn objects(&mut self, path: &mut String, old: &[Member<'_>], new: &[Member<'_>], depth: usize) {
        let start = self.changes.len();
        let (before, after) = (by_key(old), by_key(new));
        let mut visited = HashSet::new();
        for key in old.iter().chain(new).map(|(key, _)| key.as_str()) {
            if key == "__v" || !visited.insert(key) {
                continue;
            }
            let (a, mut b) = (before.get(key).copied(), after.get(key).copied());
            // `_id` and `id` name one field, which is compared once: written under the other name, it would otherwise
            // be one change for its removal and one for its addition.
            if let Some(other) = other_name(key) {
                match (a, b, before.get(other).copied(), after.get(other).copied()) {
                    // One name before and the other after: compared once, at the older name.
                    (Some(_), None, None, renamed) => b = renamed,
                    (None, Some(_), Some(_), None) => continue,
                    // Both names on one side, with one value.
                    (Some(one), None, _, Some(two)) | (None, Some(two), Some(one), _) if equal(one, two) => {
                        continue;
                    }
                    _ => {}
                }
            }
            let length = path.len();
            path.push('/');
            path.push_str(&key.replace('~', "~0").replace('/', "~1"));
            self.compare(path, a, b, depth);
            path.truncate(length);
            if self.too_many_since(start) {
                return;
            }
        }
    }
}

/// A name and a value.
type Member<'a> = (String, &'a RawValue);

/// The last value of a doubled key counts, as in JavaScript.
fn by_key<'a>(members: &'a [Member<'_>]) -> HashMap<&'a str, &'a RawValue> {
    members.iter().map(|(key, value)| (key.as_str(), *value)).collect()
}

/// SmartShape's other name for the field, if it has two.
fn other_name(key: &str) -> Option<&'static str> {
    match key {
        "_id" => Some("id"),
        "id" => Some("_id"),
        _ => None,
    }
}

fn equal(a: &RawValue, b: &RawValue) -> bool {
    a.get() == b.get() || Node::parse(a).equal(&Node::parse(b))
}

enum Node<'a> {
    Null,
    Object(Vec<Member<'a>>),
    Array(Vec<&'a RawValue>),
    Text(String),
    /// A number, `true` or `false`.
    Plain(&'a str),
}

impl<'a> Node<'a> {
    fn parse(value: &'a RawValue) -> Self {
        let text = value.get();
        let parsed = match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str(text).ok().map(|Entries(members)| Self::Object(members)),
            Some(b'[') => serde_json::from_str(text).ok().map(Self::Array),
            Some(b'"') => serde_json::from_str(text).ok().map(Self::Text),
            Some(b'n') => Some(Self::Null),
            _ => None,
        };
        parsed.unwrap_or(Self::Plain(text))
    }

    fn equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Object(a), Self::Array(b)) | (Self::Array(b), Self::Object(a)) => {
                a.is_empty() && b.is_empty()
            }
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Plain(a), Self::Plain(b)) => a == b || number::equal(a, b),
            (Self::Text(text), Self::Plain(number)) | (Self::Plain(number), Self::Text(text)) => {
                same_instant(text, number)
            }
            // Only reached beyond the limits: members are compared in their order, and their values as text.
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|((key, a), (other, b))| key == other && a.get() == b.get())
            }
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.get() == b.get())
            }
            _ => false,
        }
    }
}

/// A time that is written once as ISO 8601 and once in milliseconds.
fn same_instant(text: &str, number: &str) -> bool {
    text.parse().is_ok_and(|time: jiff::Timestamp| time::from_number(number) == Some(time))
}

fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: &str, after: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let text = |raw: Option<RawJson>| raw.map(|raw| raw.compact());
        between(&RawJson::parse(before.to_owned()).unwrap(), &RawJson::parse(after.to_owned()).unwrap())
            .into_iter()
            .map(|change| (change.path, text(change.before), text(change.after)))
            .collect()
    }

    #[test]
    fn other_representation_is_no_change() {
        for (before, after) in [
            (r#"{"a": 1, "b": 2}"#, r#"{"b": 2.0, "a": 1e0}"#),
            (r#"{"permissions": {}}"#, r#"{"permissions": []}"#),
            (r#"{"a": null}"#, "{}"),
            (r#"{"_id": "x", "__v": 0}"#, r#"{"id": "x", "__v": 7}"#),
            (r#"{"date": "2019-01-20T08:39:08.529Z"}"#, r#"{"date": 1547973548529}"#),
            ("{\"a\": \"\\u00e9\"}", r#"{"a": "é"}"#),
        ] {
            assert_eq!(changes(before, after), [], "{before} {after}");
            assert_eq!(changes(after, before), [], "{after} {before}");
        }
    }

    #[test]
    fn real_changes_are_found_where_they_are() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            changes(
                r#"{"big": 18446744073709551616, "deep": {"a/b": [1, {"~": "x"}]}, "gone": [1]}"#,
                r#"{"new": 0, "deep": {"a/b": [1, {"~": "y"}, 3]}, "big": 18446744073709551617}"#,
            ),
            [
                ("/big".to_owned(), some("18446744073709551616"), some("18446744073709551617")),
                ("/deep/a~1b/1/~0".to_owned(), some("\"x\""), some("\"y\"")),
                ("/deep/a~1b/2".to_owned(), None, some("3")),
                ("/gone".to_owned(), some("[1]"), None),
                ("/new".to_owned(), None, some("0")),
            ]
        );
        for (before, after) in [
            (r#"{"a": "1"}"#, r#"{"a": 1}"#),
            (r#"{"a": {}}"#, r#"{"a": [1]}"#),
            (r#"{"a": []}"#, r#"{"a": {"b": 1}}"#),
        ] {
            assert_eq!(changes(before, after).len(), 1, "{before} {after}");
        }
        assert_eq!(changes(r#"{"a": true}"#, r#"{"a": false}"#).len(), 1);
    }

    #[test]
    fn id_may_have_both_names_at_once() {
        let paths =
            |before, after| changes(before, after).into_iter().map(|(path, ..)| path).collect::<Vec<_>>();
        for (before, after, expected) in [
            (r#"{"_id": "a", "id": "b"}"#, r#"{"id": "b", "_id": "a"}"#, &[] as &[&str]),
            (r#"{"_id": "a", "id": "a"}"#, r#"{"_id": "a"}"#, &[]),
            (r#"{"_id": "a", "id": "a"}"#, r#"{"id": "a"}"#, &[]),
            (r#"{"_id": "a", "id": "\u0061"}"#, r#"{"_id": "a"}"#, &[]),
            (r#"{"id": "a"}"#, r#"{"id": "a", "_id": "a"}"#, &[]),
            (r#"{"_id": "a"}"#, r#"{"id": "b"}"#, &["/_id"]),
            (r#"{"_id": "a", "id": "b"}"#, r#"{"_id": "a", "id": "c"}"#, &["/id"]),
            (r#"{"_id": "a", "id": "b"}"#, r#"{"_id": "x", "id": "b"}"#, &["/_id"]),
            (r#"{"_id": "a"}"#, r#"{"_id": "a", "id": "b"}"#, &["/id"]),
            (r#"{"_id": "a"}"#, "{}", &["/_id"]),
            ("{}", r#"{"id": "a"}"#, &["/id"]),
        ] {
            assert_eq!(paths(before, after), expected, "{before} {after}");
        }
        let renamed = changes(r#"{"_id": "a"}"#, r#"{"id": "b"}"#);
        assert_eq!(renamed[0].2.as_deref(), Some("\"b\""));
        assert_eq!(paths(r#"{"z": 1, "z": 2}"#, r#"{"z": 3}"#), ["/z"]);
        assert_eq!(paths(r#"{"z": 1, "z": 2}"#, r#"{"z": 2}"#), [""; 0]);
    }

    #[test]
    fn beyond_the_limits_texts_are_compared() {
        let deep =
            |levels: usize, inner: &str| format!("{}{inner}{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let named = |length: usize, inner: &str| format!(r#"{{"{}":{inner}}}"#, "n".repeat(length));
        let (one, other) = (r#"{"x":1,"y":2}"#, r#"{"y":2,"x":1}"#);
        assert_eq!(changes(&deep(MAX_DEPTH - 1, one), &deep(MAX_DEPTH - 1, other)), []);
        assert_eq!(changes(&deep(MAX_DEPTH, one), &deep(MAX_DEPTH, other)).len(), 1);
        let list =
            |levels: usize, inner: &str| format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(changes(&list(MAX_DEPTH - 1, one), &list(MAX_DEPTH - 1, other)), []);
        assert_eq!(changes(&list(MAX_DEPTH, one), &list(MAX_DEPTH, other)).len(), 1);
        assert_eq!(changes(&named(MAX_PATH - 2, one), &named(MAX_PATH - 2, other)), []);
        assert_eq!(changes(&named(MAX_PATH - 1, one), &named(MAX_PATH - 1, other)).len(), 1);
        for (one, other, count) in [
            (r#"{"x":1,"y":2}"#, r#"{ "x": 1, "y": 2 }"#, 0),
            (r#"{"x":1,"y":2}"#, r#"{"x":1,"y":3}"#, 1),
            (r#"{"x":1,"y":2}"#, r#"{"x":1,"z":2}"#, 1),
            (r#"{"x":1,"y":2}"#, r#"{"x":1}"#, 1),
            ("[1,2]", "[ 1, 2 ]", 0),
            ("[1,2]", "[1,3]", 1),
            ("[1,2]", "[1]", 1),
            ("[]", "{}", 0),
        ] {
            assert_eq!(changes(&deep(64, one), &deep(64, other)).len(), count, "{one} {other}");
        }
    }

    #[test]
    fn changes_beyond_the_maximum_are_one_change() {
        let zeros = |count: usize| format!("[0{}]", ",0".repeat(count - 1));
        let ones = |count: usize| zeros(count).replace('0', "1");
        let inside = |list: String| format!(r#"{{"more": 1, "list": {list}}}"#);
        let most = changes(&inside(zeros(MAX_CHANGES)), &inside(ones(MAX_CHANGES)));
        assert_eq!((most.len(), most[0].0.as_str()), (MAX_CHANGES, "/list/0"));
        let all = changes(&inside(zeros(MAX_CHANGES + 1)), &inside(ones(MAX_CHANGES + 1)));
        assert_eq!(all, [("/list".to_owned(), Some(zeros(MAX_CHANGES + 1)), Some(ones(MAX_CHANGES + 1)))]);
        let two = |one: String, other: String| format!(r#"{{"a": {one}, "b": {other}}}"#);
        assert_eq!(changes(&two(zeros(4000), zeros(4000)), &two(ones(4000), ones(4000))).len(), 8000);
        // Else the long name would be repeated for each number.
        let name = "n".repeat(100_000);
        let named = |list: String| format!(r#"{{"{name}": {list}}}"#);
        let found = changes(&named(zeros(5000)), &named(ones(5000)));
        assert_eq!(found, [(format!("/{name}"), Some(zeros(5000)), Some(ones(5000)))]);
        assert_eq!(changes(&named(zeros(5000)), &named(zeros(5000))), []);
    }
}
