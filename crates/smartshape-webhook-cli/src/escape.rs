//! Escapes untrusted text for a terminal: no cursor movement, no hidden or reordered characters.

/// Escapes characters that a terminal would not show as they are.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, character| {
        if is_printable(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
        shown
    })
}

/// Escapes the unprintable characters in a JSON document's strings.
pub(crate) fn escape_unprintable_json(json: String) -> String {
    let stays = |character| is_printable(character) || matches!(character, '\n' | '\r' | '\t');
    if json.chars().all(stays) { json } else { escape_json(&json, stays) }
}

/// Writes all characters of a JSON document as `\\u` escapes but those that `stays` accepts, which has to include
/// printable ASCII.
pub(crate) fn escape_json(json: &str, stays: impl Fn(char) -> bool) -> String {
    let mut units = [0; 2];
    json.chars().fold(String::new(), |mut escaped, character| {
        if stays(character) {
            escaped.push(character);
        } else {
            let units = character.encode_utf16(&mut units);
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
        escaped
    })
}

/// Whether a terminal shows the character as it is. Quotation marks and the backslash count, unlike in Rust's source.
fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~') || character.escape_debug().eq([character])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Control, bidirectional, separator and invisible characters.
    const UNPRINTABLE: &str =
        "\n\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200e}\u{2028}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0001}";

    #[test]
    fn only_unprintable_characters_are_escaped() {
        let text = r#"C:\"é'“”日本😀"#;
        assert_eq!(escape(text), text);
        for character in UNPRINTABLE.chars() {
            assert_eq!(escape(&character.to_string()), character.escape_default().to_string());
        }
    }

    #[test]
    fn escaped_json_is_the_same_document() {
        let document = json!({UNPRINTABLE: ["é😀", UNPRINTABLE, 1.5, null], "a\\": "\""});
        let text = escape_unprintable_json(document.to_string());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
        assert!(
            text.contains("é😀") && !text.contains(|character| UNPRINTABLE.contains(character)),
            "{text}"
        );
        assert!(text.contains(r"\u009b") && text.contains(r"\udb40\udc01"), "{text}");
    }
}
