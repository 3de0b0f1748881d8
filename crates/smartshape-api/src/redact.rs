//! Takes out of a server's text what it repeats of what is hidden.

use std::ops::Range;

use crate::hidden::Hidden;

/// How often a text may have been written as JSON inside of JSON.
const MAX_ESCAPED: usize = 3;

/// A character, and where it begins in the whole text; it ends where the next one begins.
type Placed = (usize, char);

/// The text without the values, be they there as they are or as a JSON string has them.
///
/// The text is unescaped instead of the values escaped, since encoders escape differently: `é` or `\u00e9` or `\u00E9`,
/// `/` or `\/`, `"` as `\"` or `\u0022`.
pub(crate) fn redacted(text: &str, hidden: &[Hidden]) -> String {
    let mut shown = String::new();
    let mut rest = 0;
    for place in places(text, hidden) {
        shown += text.get(rest..place.start).unwrap_or_default();
        shown += "[redacted]";
        rest = place.end;
    }
    shown + text.get(rest..).unwrap_or_default()
}

/// Where values are, in order. All are looked for in the whole text, since one may be a part of another, and
/// occurrences that overlap are one place.
fn places(text: &str, hidden: &[Hidden]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut layer: Vec<Placed> = text.char_indices().collect();
    for _ in 0..=MAX_ESCAPED {
        let begins = |index: usize| layer.get(index).map_or(text.len(), |placed| placed.0);
        for value in hidden.iter().map(Hidden::expose).filter(|value| !value.is_empty()) {
            let length = value.chars().count();
            for (index, window) in layer.windows(length).enumerate() {
                if window.iter().map(|placed| placed.1).eq(value.chars()) {
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
    found.sort_unstable_by_key(|place| place.start);
    found.into_iter().fold(Vec::<Range<usize>>::new(), |mut places, place| {
        match places.last_mut() {
            Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
            _ => places.push(place),
        }
        places
    })
}

/// The escapes of a JSON string as what they mean; what is none stays.
fn unescaped(mut layer: &[Placed]) -> Vec<Placed> {
    let mut unescaped = Vec::new();
    while let [first, rest @ ..] = layer {
        let (character, left) = escape(layer).unwrap_or((first.1, rest));
        unescaped.push((first.0, character));
        layer = left;
    }
    unescaped
}

/// An escape at the beginning, and what follows it.
fn escape(layer: &[Placed]) -> Option<(char, &[Placed])> {
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

/// One of `\uXXXX`, or two for what UTF-16 has in two units.
fn unicode(layer: &[Placed]) -> Option<(char, &[Placed])> {
    let (first, rest) = unit(layer)?;
    if let Some(Ok(character)) = char::decode_utf16([first]).next() {
        return Some((character, rest));
    }
    let (second, rest) = unit(rest)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, rest))
}

fn unit(layer: &[Placed]) -> Option<(u16, &[Placed])> {
    let [(_, '\\'), (_, 'u'), rest @ ..] = layer else { return None };
    let (digits, rest) = rest.split_at_checked(4)?;
    let unit = digits.iter().try_fold(0, |unit, placed| Some(unit * 16 + placed.1.to_digit(16)?))?;
    Some((u16::try_from(unit).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn without(text: &str, values: &[&str]) -> String {
        redacted(text, &values.iter().map(|value| Hidden::new(*value)).collect::<Vec<_>>())
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
    fn a_value_is_found_however_often_it_was_escaped() {
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
    fn encoders_escape_differently() {
        for text in [r"a\/\u00E9\u0022", r"a/\u00e9\u0022", "a/é\\\"", r"\u0061\u002F\u00e9\u0022"] {
            assert_eq!(without(&format!("<{text}>"), &["a/é\""]), "<[redacted]>", "{text}");
        }
    }

    #[test]
    fn a_value_that_is_part_of_another_leaves_nothing_of_it() {
        for values in [["TOKEN", "eyTOKENxyz"], ["eyTOKENxyz", "TOKEN"]] {
            assert_eq!(without("eyTOKENxyz, TOKEN", &values), "[redacted], [redacted]");
        }
        assert_eq!(without("one abcdef", &["abcd", "cdef"]), "one [redacted]");
        assert_eq!(without("one ababa", &["aba"]), "one [redacted]");
        assert_eq!(without("one é", &["", "two"]), "one é");
    }

    #[test]
    fn what_only_looks_like_an_escape_stays() {
        for text in ["\\", r"C:\x\u12", r"\ud83d", r"\ud83d\u0041", r"\u+123", "\\uéééé", ""] {
            assert_eq!(without(text, &["secret"]), text);
        }
    }
}
