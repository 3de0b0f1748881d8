//! Redacts secrets that the server echoes in its error texts.

use std::ops::Range;

use crate::secret::SecretString;

/// Maximum depth of JSON nested in JSON strings.
const MAX_ESCAPED: usize = 3;

/// A character and its byte offset in the whole text.
type CharAt = (usize, char);

/// Replaces each secret in the text, whether it appears verbatim or JSON-escaped.
///
/// The text is unescaped rather than the secrets escaped, because encoders differ: `é` or `\u00e9` or `\u00E9`, `/` or
/// `\/`, `"` as `\"` or `\u0022`.
pub(crate) fn redacted(text: &str, secrets: &[SecretString]) -> String {
    let mut shown = String::new();
    let mut rest = 0;
    for range in ranges(text, secrets) {
        shown += text.get(rest..range.start).unwrap_or_default();
        shown += "[redacted]";
        rest = range.end;
    }
    shown + text.get(rest..).unwrap_or_default()
}

/// Byte ranges of the secrets, in order. Every secret is searched in the whole text, because one may be part of another;
/// overlapping ranges are merged.
fn ranges(text: &str, secrets: &[SecretString]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut layer: Vec<CharAt> = text.char_indices().collect();
    for _ in 0..=MAX_ESCAPED {
        let begins = |index: usize| layer.get(index).map_or(text.len(), |at| at.0);
        for value in secrets.iter().map(SecretString::expose).filter(|value| !value.is_empty()) {
            let length = value.chars().count();
            for (index, window) in layer.windows(length).enumerate() {
                if window.iter().map(|at| at.1).eq(value.chars()) {
                    found.push(begins(index)..begins(index + length));
                }
            }
        }
        let unescaped = unescaped(&layer);
        if unescaped.len() == layer.len() {
            break;
        }
        layer = unescaped;
    }
    found.sort_unstable_by_key(|range| range.start);
    found.into_iter().fold(Vec::<Range<usize>>::new(), |mut merged, range| {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
        merged
    })
}

/// Decodes the escapes of a JSON string; anything else stays as it is.
fn unescaped(mut layer: &[CharAt]) -> Vec<CharAt> {
    let mut unescaped = Vec::new();
    while let [first, rest @ ..] = layer {
        let (character, left) = escape(layer).unwrap_or((first.1, rest));
        unescaped.push((first.0, character));
        layer = left;
    }
    unescaped
}

/// The escape at the start, and the rest.
fn escape(layer: &[CharAt]) -> Option<(char, &[CharAt])> {
    let [(_, '\\'), (_, kind), rest @ ..] = layer else { return None };
    let character = match kind {
        '"' | '\\' | '/' => *kind,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unicode(layer),
        _ => return None,
    };
    Some((character, rest))
}

/// One `\uXXXX`, or two for a surrogate pair.
fn unicode(layer: &[CharAt]) -> Option<(char, &[CharAt])> {
    let (first, rest) = unit(layer)?;
    if let Some(Ok(character)) = char::decode_utf16([first]).next() {
        return Some((character, rest));
    }
    let (second, rest) = unit(rest)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, rest))
}

fn unit(layer: &[CharAt]) -> Option<(u16, &[CharAt])> {
    let [(_, '\\'), (_, 'u'), rest @ ..] = layer else { return None };
    let (digits, rest) = rest.split_at_checked(4)?;
    let unit = digits.iter().try_fold(0, |unit, at| Some(unit * 16 + at.1.to_digit(16)?))?;
    Some((u16::try_from(unit).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn without(text: &str, values: &[&str]) -> String {
        redacted(text, &values.iter().map(|value| SecretString::new(*value)).collect::<Vec<_>>())
    }

    /// A text as JSON has it.
    fn escaped(text: &str) -> String {
        json!(text).to_string()
    }

    /// As `escaped`, in ASCII alone.
    fn ascii(text: &str) -> String {
        escaped(text).chars().fold(String::new(), |mut ascii, character| {
            if character.is_ascii() {
                ascii.push(character);
            } else {
                let units = character.encode_utf16(&mut [0; 2]).to_vec();
                ascii.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
            ascii
        })
    }

    #[test]
    fn secrets_are_redacted_at_every_escape_depth() {
        for value in
            ["hunter2", "MY\"SECRET", "back\\slash", "both\\\"of", "not\\new", "line\nbreak/é\u{1f600}\u{1}"]
        {
            let body = format!("no {{\"secretToken\":{},\"x\":1}}", escaped(value));
            for text in [
                format!("no {value} here"),
                body.clone(),
                format!("no {} here", ascii(value)),
                format!("no {} here", escaped(&escaped(value))),
                format!("no {} here", escaped(&ascii(value))),
                format!("no {} here", ascii(&escaped(&body))),
            ] {
                let shown = without(&text, &[value]);
                let expected = shown.starts_with("no ") && shown.matches("[redacted]").count() == 1;
                assert!(expected, "{text}: {shown}");
                for part in ["hunter", "SECRET", "slash", "both", "ew", "break", "00e9", "1f600", "d83d"] {
                    assert!(!shown.contains(part), "{text}: {shown}");
                }
            }
        }
    }

    #[test]
    fn secrets_are_redacted_for_every_encoder() {
        for text in [r"a\/\u00E9\u0022", r"a/\u00e9\u0022", "a/é\\\"", r"\u0061\u002F\u00e9\u0022"] {
            assert_eq!(without(&format!("<{text}>"), &["a/é\""]), "<[redacted]>", "{text}");
        }
    }

    #[test]
    fn overlapping_secrets_are_redacted_together() {
        for values in [["TOKEN", "eyTOKENxyz"], ["eyTOKENxyz", "TOKEN"]] {
            assert_eq!(without("eyTOKENxyz, TOKEN", &values), "[redacted], [redacted]");
        }
        assert_eq!(without("one abcdef", &["abcd", "cdef"]), "one [redacted]");
        assert_eq!(without("one ababa", &["aba"]), "one [redacted]");
        assert_eq!(without("one é", &["", "two"]), "one é");
    }

    #[test]
    fn invalid_escapes_stay() {
        for text in ["\\", r"C:\x\u12", r"\ud83d", r"\ud83d\u0041", r"\u+123", "\\uéééé", ""] {
            assert_eq!(without(text, &["secret"]), text);
        }
    }
}
