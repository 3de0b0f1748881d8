//! Documents as meanings, and the many ways to write one.

use std::collections::BTreeMap;

use crate::random::Random;

pub(super) const NEVER: i64 = 0;

/// What a field means, whatever its spelling.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Time,
    Number,
    Count,
    Flag,
    Person,
    /// Any JSON, which a view shows as it came.
    Any,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Time(i64),
    Number(f64),
    Count(u64),
    Flag(bool),
    Person([Option<String>; 3]),
    /// Empty, as `{}` or `[]`.
    Nothing,
}

pub(super) type Document = BTreeMap<&'static str, Value>;

/// Some of the fields, each with a value.
pub(super) fn document(random: &Random, fields: &[(&'static str, Kind)]) -> Document {
    let some = fields.iter().filter(|_| !random.one_in(4));
    some.map(|(name, kind)| (*name, value(random, *kind))).collect()
}

pub(super) fn value(random: &Random, kind: Kind) -> Value {
    match kind {
        Kind::Text => Value::Text(text(random)),
        Kind::Time => {
            Value::Time(if random.one_in(8) { NEVER } else { random.below(4_000_000_000_000) as i64 })
        }
        Kind::Number => Value::Number(random.below(1_000_000) as f64 / 64.0 - 1000.0),
        Kind::Count => Value::Count(random.below(1 << 50)),
        Kind::Flag => Value::Flag(random.one_in(2)),
        Kind::Any => Value::Nothing,
        Kind::Person => {
            let some = |text: &str| Some(text.to_owned());
            Value::Person(match random.below(5) {
                0 => [None, some("test@smartshape.io"), None],
                1 => [some("5c6aeed079bf3f432d3c929e"), None, None],
                2 => [some("5c6aeed079bf3f432d3c929f"), None, some("Zoé")],
                3 => [None, None, some("Ada")],
                _ => [some("7"), some("ada@smartshape.io"), some("Ada")],
            })
        }
    }
}

pub(super) fn text(random: &Random) -> String {
    random
        .pick(&[
            "",
            "test_model.scene",
            "Übergröße — 部品",
            "a \"quoted\"\\ line\nand a tab\t",
            "😀\u{0}\u{7f}",
        ])
        .to_owned()
}

/// A value that means nothing to the views.
pub(super) fn plain(random: &Random) -> String {
    random
        .pick(&[
            "null",
            "1e2",
            "18446744073709551616",
            "\"x\"",
            "[]",
            "[1, [2]]",
            "{\"key\": \"no value\"}",
            "false",
        ])
        .to_owned()
}

pub(super) fn space(random: &Random) -> &'static str {
    random.pick(&[",", " , ", ",\n\t", "\r\n, "])
}

/// The fields in any order, the id under either name, with a version counter and what nobody knows yet.
pub(super) fn write(random: &Random, document: &Document) -> String {
    let id = random.pick(&["_id", "id"]);
    let mut fields: Vec<(&str, String)> = document
        .iter()
        .map(|(name, value)| (if *name == "_id" { id } else { name }, spell(random, value)))
        .collect();
    if random.one_in(2) {
        fields.push(("__v", random.below(9).to_string()));
    }
    if random.one_in(2) {
        fields.push(("lastNobodyKnows", "null".to_owned()));
    }
    object(random, fields)
}

pub(super) fn object(random: &Random, mut fields: Vec<(&str, String)>) -> String {
    let mut written = Vec::new();
    while !fields.is_empty() {
        let (name, value) = fields.swap_remove(random.below(fields.len() as u64) as usize);
        written.push(format!("{}{}{value}", quote(random, name), random.pick(&[":", " : "])));
    }
    format!("{{{}}}", written.join(space(random)))
}

/// One of the ways to write the value.
pub(super) fn spell(random: &Random, value: &Value) -> String {
    match value {
        Value::Text(text) => quote(random, text),
        Value::Flag(flag) => flag.to_string(),
        Value::Nothing => random.pick(&["{}", "[]"]).to_owned(),
        Value::Count(count) => match random.below(2) {
            0 => count.to_string(),
            _ => format!("{count}.0"),
        },
        Value::Number(number) => match random.below(3) {
            0 => format!("{number}"),
            1 => format!("{number:e}"),
            _ => format!("{number:.8}"),
        },
        Value::Time(milliseconds) => match random.below(4) {
            0 => milliseconds.to_string(),
            1 => format!("{milliseconds}.0"),
            2 => format!("{milliseconds:e}"),
            _ => format!("\"{:.3}\"", jiff::Timestamp::from_millisecond(*milliseconds).unwrap()),
        },
        Value::Person([None, Some(email), None]) => quote(random, email),
        Value::Person([Some(id), None, None]) => quote(random, id),
        Value::Person([id, email, username]) => {
            let parts = [("_id", id), ("email", email), ("username", username)];
            let parts = parts
                .into_iter()
                .filter_map(|(name, part)| Some(format!("\"{name}\":\"{}\"", part.as_ref()?)));
            format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
        }
    }
}

/// Quotes the text as it is, or with every character but ASCII escaped.
pub(super) fn quote(random: &Random, text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    if random.one_in(2) {
        return quoted;
    }
    let escape = |character: char| match character {
        ' '..='~' => character.to_string(),
        _ => character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    quoted.chars().map(escape).collect()
}
