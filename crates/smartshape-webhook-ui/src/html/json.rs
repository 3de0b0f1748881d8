//! JSON as a tree that folds without a script, with its exact texts. Bounded in values, depth and length.

use std::fmt;

use maud::{Markup, html};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text::visible;

const MAX_VALUES: usize = 2000;
const MAX_DEPTH: usize = 32;
const MAX_TEXT_CHARS: usize = 2000;
/// A longer body is not parsed for each page.
const MAX_BYTES: usize = 1024 * 1024;

/// `None` when the body is too long, or not JSON that can be shown.
pub(super) fn tree(body: &[u8]) -> Option<Markup> {
    if body.len() > MAX_BYTES {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(body).ok()?;
    let mut left = MAX_VALUES;
    let tree = node(None, value, true, 0, &mut left);
    Some(html! {
        div.json {
            (tree)
            @if left == 0 { p.cut { "Only the first 2,000 values are shown. The download has the whole body." } }
        }
    })
}

/// The members of an object, in their order; repeated names stay.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn node(name: Option<&str>, value: &RawValue, is_last: bool, depth: usize, left: &mut usize) -> Markup {
    if *left == 0 {
        return html! {};
    }
    *left -= 1;
    let comma = if is_last { "" } else { "," };
    let key = html! { @if let Some(name) = name { span.k { (visible(&quoted(name))) } ": " } };
    let raw = value.get();
    if depth < MAX_DEPTH {
        if let Ok(Members(members)) = serde_json::from_str(raw)
            && !members.is_empty()
        {
            let last = members.len() - 1;
            let children = members
                .iter()
                .enumerate()
                .map(|(index, (name, value))| node(Some(name), value, index == last, depth + 1, left));
            return folded(
                &key,
                ["{", "}"],
                "member",
                &children.collect::<Vec<_>>(),
                members.len(),
                depth,
                comma,
            );
        }
        if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw)
            && !items.is_empty()
        {
            let last = items.len() - 1;
            let children = items
                .iter()
                .enumerate()
                .map(|(index, value)| node(None, value, index == last, depth + 1, left));
            return folded(
                &key,
                ["[", "]"],
                "item",
                &children.collect::<Vec<_>>(),
                items.len(),
                depth,
                comma,
            );
        }
    }
    let class = match raw.bytes().next() {
        Some(b'"') => "s",
        Some(b'-' | b'0'..=b'9') => "num",
        _ => "lit",
    };
    let shown: String = raw.chars().take(MAX_TEXT_CHARS).collect();
    html! {
        div.v {
            (key) span class=(class) { (visible(&shown)) }
            @if shown.len() < raw.len() { span.cut { " … " (raw.len()) " bytes" } }
            (comma)
        }
    }
}

fn folded(
    key: &Markup,
    [open, close]: [&str; 2],
    unit: &str,
    children: &[Markup],
    count: usize,
    depth: usize,
    comma: &str,
) -> Markup {
    html! {
        details.n open[depth < 5] {
            summary { (key) (open) span.fold { " " (count) " " (unit) @if count != 1 { "s" } " " (close) (comma) } }
            div.in { @for child in children { (child) } }
            div.end { (close) (comma) }
        }
    }
}

fn quoted(name: &str) -> String {
    serde_json::to_string(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_has_exact_texts_and_no_markup_of_a_body() {
        let body = br#"{"n": 12345678901234567890.10, "twice": 1, "twice": 2, "</script><img src=x>": "<b>\u202e", "e": [], "o": {}}"#;
        let shown = tree(body).unwrap().into_string();
        assert!(shown.contains("12345678901234567890.10"), "{shown}");
        assert_eq!(shown.matches("twice").count(), 2);
        assert!(
            !shown.contains("<img") && !shown.contains("<b>") && shown.contains("&lt;b&gt;\\u202e"),
            "{shown}"
        );
        assert!(tree(b"not JSON").is_none());
    }

    #[test]
    fn tree_is_bounded() {
        let many = format!("[{}]", vec!["1"; 5000].join(","));
        let shown = tree(many.as_bytes()).unwrap().into_string();
        assert!(shown.contains("first 2,000 values") && shown.matches("class=\"num\"").count() < 2000);
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(tree(deep.as_bytes()).unwrap().into_string().matches("<details").count() <= MAX_DEPTH);
        let long = format!("\"{}\"", "x".repeat(10_000));
        assert!(tree(long.as_bytes()).unwrap().into_string().len() < 3000);
        assert!(tree(&vec![b' '; MAX_BYTES + 1]).is_none());
    }
}
