//! JSON as a tree that folds without a script, with its exact texts. Bounded in values, depth and length.

use std::fmt;

use maud::{Markup, html};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::text::visible;

const MAX_VALUES: usize = 2000;
const MAX_DEPTH: usize = 32;
const MAX_TEXT_CHARS: usize = 2000;
/// A longer body is not parsed for each page.
const MAX_BYTES: usize = 1024 * 1024;

/// A body, if it is not too long and JSON that can be shown.
pub(super) fn tree(body: &[u8]) -> Markup {
    let short = Some(body).filter(|body| body.len() <= MAX_BYTES);
    let Some(value) = short.and_then(|body| serde_json::from_slice::<&RawValue>(body).ok()) else {
        return html! { p.empty { "Too long to be shown, or not JSON. The download has it." } };
    };
    let mut left = MAX_VALUES;
    let tree = node(None, value, true, 0, &mut left);
    html! {
        div.json {
            (tree)
            @if left == 0 { p.cut { "Only the first 2,000 values are shown. The download has the whole body." } }
        }
    }
}

/// The members of an object or the items of an array, in their order; repeated names stay.
struct Children<'a>(Vec<(Option<String>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Children<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Children<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    members.push((Some(name), value));
                }
                Ok(Children(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(value) = seq.next_element()? {
                    items.push((None, value));
                }
                Ok(Children(items))
            }
        }
        deserializer.deserialize_any(Collect)
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
    let kind = match raw.bytes().next() {
        Some(b'{') => Some(["{", "}", "member"]),
        Some(b'[') => Some(["[", "]", "item"]),
        _ => None,
    };
    if depth < MAX_DEPTH
        && let Some([open, close, unit]) = kind
        && let Ok(Children(children)) = serde_json::from_str(raw)
        && let Some(last) = children.len().checked_sub(1)
    {
        return html! {
            details.n open[depth < 5] {
                summary { (key) (open) span.fold { " " (last + 1) " " (unit) @if last > 0 { "s" } " " (close) (comma) } }
                div.in { @for (index, (name, value)) in children.iter().enumerate() { (node(name.as_deref(), value, index == last, depth + 1, left)) } }
                div.end { (close) (comma) }
            }
        };
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

fn quoted(name: &str) -> String {
    serde_json::to_string(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_has_exact_texts_and_no_markup_of_a_body() {
        let body = br#"{"n": 12345678901234567890.10, "twice": 1, "twice": 2, "</script><img src=x>": "<b>\u202e", "e": [], "o": {}}"#;
        let shown = tree(body).into_string();
        assert!(shown.contains("12345678901234567890.10"), "{shown}");
        assert_eq!(shown.matches("twice").count(), 2);
        assert!(
            !shown.contains("<img") && !shown.contains("<b>") && shown.contains("&lt;b&gt;\\u202e"),
            "{shown}"
        );
        assert!(tree(b"not JSON").into_string().contains("not JSON"));
    }

    #[test]
    fn tree_is_bounded() {
        let many = format!("[{}]", vec!["1"; 5000].join(","));
        let shown = tree(many.as_bytes()).into_string();
        assert!(shown.contains("first 2,000 values") && shown.matches("class=\"num\"").count() < 2000);
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(tree(deep.as_bytes()).into_string().matches("<details").count() <= MAX_DEPTH);
        let long = format!("\"{}\"", "x".repeat(10_000));
        assert!(tree(long.as_bytes()).into_string().len() < 3000);
        let longer = format!("{}1", " ".repeat(MAX_BYTES));
        assert!(tree(longer.as_bytes()).into_string().contains("Too long"));
    }
}
