//! A quick pass over JSON text that finds the members of an object.

/// A value, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    /// Whether it is a string without escapes: what it says is what stands between its quotes.
    pub(super) plain: bool,
}

/// Calls `member` with the name and the value of each member of the object that `text` is, until
/// `member` returns `None`.
///
/// Knows what is usual, and returns `None` for all else, be it wrong or only rare (an escape in a name,
/// deep nesting): `serde_json`, which takes longer, is then to decide, and to say what is wrong.
/// What is accepted here, `serde_json` accepts too, with the same values.
pub(super) fn members<'a>(
    text: &'a str,
    mut member: impl FnMut(&'a str, Value<'a>) -> Option<()>,
) -> Option<()> {
    let bytes = text.as_bytes();
    let mut at = token(bytes, 0, b'{')?;
    at = space(bytes, at);
    if *bytes.get(at)? != b'}' {
        loop {
            let start = token(bytes, at, b'"')?;
            let (end, plain) = string(bytes, start)?;
            let name = text.get(start..end - 1).filter(|_| plain)?;
            at = token(bytes, end, b':')?;
            let start = space(bytes, at);
            let (end, plain) = value(bytes, start)?;
            member(name, Value { text: text.get(start..end)?, plain })?;
            at = space(bytes, end);
            match *bytes.get(at)? {
                b',' => at += 1,
                b'}' => break,
                _ => return None,
            }
        }
    }
    (space(bytes, at + 1) == bytes.len()).then_some(())
}

// Each of these takes the place at which it begins and returns the one at which it ended; they are inlined, so
// that the place stays in a register.

/// Passes a value, and says whether it is a string without escapes.
#[inline]
fn value(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    // What is still open, the innermost in the lowest bit: 1 for an object.
    let (mut open, mut depth) = (0_u64, 0);
    loop {
        at = space(text, at);
        let mut plain = false;
        match *text.get(at)? {
            b'"' => (at, plain) = string(text, at + 1)?,
            bracket @ (b'{' | b'[') => {
                let object = bracket == b'{';
                at = space(text, at + 1);
                if *text.get(at)? == closing(object) {
                    at += 1;
                } else if depth == u64::BITS {
                    return None;
                } else {
                    (open, depth) = (open << 1 | u64::from(object), depth + 1);
                    if object {
                        at = name(text, at)?;
                    }
                    continue;
                }
            }
            b'-' | b'0'..=b'9' => at = number(text, at)?,
            b't' => at = literal(text, at, b"true")?,
            b'f' => at = literal(text, at, b"false")?,
            b'n' => at = literal(text, at, b"null")?,
            _ => return None,
        }
        loop {
            if depth == 0 {
                return Some((at, plain));
            }
            at = space(text, at);
            let object = open & 1 == 1;
            match *text.get(at)? {
                b',' if object => {
                    at = name(text, at + 1)?;
                    break;
                }
                b',' => {
                    at += 1;
                    break;
                }
                byte if byte == closing(object) => at += 1,
                _ => return None,
            }
            (open, depth, plain) = (open >> 1, depth - 1, false);
        }
    }
}

fn closing(object: bool) -> u8 {
    if object { b'}' } else { b']' }
}

/// Passes a member's name and its colon.
#[inline(always)]
fn name(text: &[u8], at: usize) -> Option<usize> {
    let at = token(text, at, b'"')?;
    let (at, _) = string(text, at)?;
    token(text, at, b':')
}

/// Passes white space and one certain byte.
#[inline(always)]
fn token(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = space(text, at);
    (*text.get(at)? == byte).then_some(at + 1)
}

#[inline(always)]
fn space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
        // Indentation is long.
        at = each_word(text, at, |word| word ^ every(b' '));
    }
    at
}

/// Passes the rest of a string, and says whether it has no escapes.
#[inline(always)]
fn string(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut plain = true;
    loop {
        at = each_word(text, at, special);
        match *text.get(at)? {
            b'"' => return Some((at + 1, plain)),
            b'\\' => (at, plain) = (escape(text, at + 1)?, false),
            0..b' ' => return None,
            _ => at += 1,
        }
    }
}

/// Whether a surrogate stands alone only matters to those who want the text.
fn escape(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at..)? {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(at + 1),
        [b'u', digits @ ..] if digits.first_chunk::<4>()?.iter().all(u8::is_ascii_hexdigit) => Some(at + 5),
        _ => None,
    }
}

fn literal(text: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(literal).then_some(at + literal.len())
}

#[inline(always)]
fn number(text: &[u8], at: usize) -> Option<usize> {
    let is = |at, bytes: &[u8]| text.get(at).is_some_and(|byte| bytes.contains(byte));
    let start = at + usize::from(is(at, b"-"));
    let mut at = digits(text, start)?;
    if at > start + 1 && is(start, b"0") {
        return None;
    }
    if is(at, b".") {
        at = digits(text, at + 1)?;
    }
    if is(at, b"eE") {
        at = digits(text, at + 1 + usize::from(is(at + 1, b"+-")))?;
    }
    Some(at)
}

/// Passes digits, one at least.
#[inline(always)]
fn digits(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    (at > start).then_some(at)
}

/// Goes on in steps of eight bytes to the first one that `marks` marks, or until fewer are left.
#[inline(always)]
fn each_word(text: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let marks = marks(u64::from_le_bytes(*bytes));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at
}

/// Marks quotes, backslashes and control characters. Marks above the lowest one may be wrong, since a byte
/// can borrow from the one above it.
fn special(word: u64) -> u64 {
    let borrows = |word: u64, byte| word.wrapping_sub(every(byte));
    let special = borrows(word ^ every(b'"'), 1) | borrows(word ^ every(b'\\'), 1) | borrows(word, b' ');
    // A byte above 0x7f has its highest bit without a borrow.
    special & !word & every(0x80)
}

const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        a: &'a RawValue,
    }

    /// The value of the one member, if it is accepted.
    fn scanned(text: &str) -> Option<Value<'_>> {
        let mut found = None;
        members(text, |name, value| (name == "a").then(|| found = Some(value)))?;
        found
    }

    const USUAL: [&str; 41] = [
        "{}",
        "[]",
        "{ }",
        "[ ]",
        r#""""#,
        r#""x""#,
        r#""12345678""#,
        r#""123456789012345é""#,
        "\"\u{7f}\u{2028}\"",
        r#""\"""#,
        r#""\\\/\b\f\n\r\t""#,
        r#""\u00e9""#,
        r#""\uD800""#,
        r#""1234567\"8""#,
        "0",
        "-0",
        "12",
        "1.5",
        "-1.25",
        "1e5",
        "1E+5",
        "1e-05",
        "0.5e1",
        "123456789012345678901234567890",
        "true",
        "false",
        "null",
        "[1]",
        "[1,2 , 3]",
        "[[],{},[{}]]",
        r#"{"b":1}"#,
        r#"{"b":1,"b":2}"#,
        r#"{ "b" : [ 1 ] , "c" : { } }"#,
        "[\n        1,\r\n\t\t2]",
        r#"{"":""}"#,
        r#"{"\u0062":"\""}"#,
        r#"[true,false,null,"x",1]"#,
        r#"{"a":{"a":{"a":[]}}}"#,
        r#"[{"a":[{"a":1}]},{"a":2}]"#,
        "        1        ",
        " [[[[[[[[1]]]]]]]]",
    ];

    const WRONG: [&str; 40] = [
        "",
        "}",
        "{",
        "[",
        "]",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{]",
        r#"{"b"}"#,
        r#"{"b":}"#,
        r#"{"b":1,}"#,
        r#"{"b":1 "c":2}"#,
        r#"{b:1}"#,
        r#"{1:1}"#,
        "{,}",
        r#"{"b":1]"#,
        r#"""#,
        r#""\""#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        "\"\n\"",
        "\"1234567\u{1}\"",
        "'x'",
        "tru",
        "True",
        "nul",
        "00",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "0x1",
    ];

    #[test]
    fn takes_the_usual_as_serde_json_does() {
        for text in USUAL {
            let wrapped = format!("{{\"a\":{text}}}");
            let expected: Wrapped<'_> = serde_json::from_str(&wrapped).unwrap();
            let value = scanned(&wrapped).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(value.text, expected.a.get());
            assert_eq!(value.plain, text.starts_with('"') && !text.contains('\\'), "{text}");
        }
    }

    #[test]
    fn takes_nothing_wrong() {
        for text in WRONG {
            for around in [["{\"a\":", "}"], ["{\"a\":[", "]}"], ["{\"a\":{\"b\":", "        }}"]] {
                let wrapped = around.join(text);
                if serde_json::from_str::<Wrapped<'_>>(&wrapped).is_err() {
                    assert_eq!(scanned(&wrapped), None, "{wrapped}");
                }
            }
            assert!(serde_json::from_str::<Wrapped<'_>>(&format!("{{\"a\":{text}}}")).is_err(), "{text}");
        }
        for whole in [
            "",
            " ",
            "{",
            r#"{"a":1"#,
            r#"{"a":1,"#,
            r#"{"a":1,}"#,
            r#"{"a":1}}"#,
            r#"{"a":1} x"#,
            r#"{"a":1};"#,
            r#"{"a" 1}"#,
            r#"{a:1}"#,
            r#"["a",1]"#,
            "\u{feff}{\"a\":1}",
            r#"{,"a":1}"#,
            r#"{"a":1:}"#,
            "\"a\"",
        ] {
            assert_eq!(scanned(whole), None, "{whole}");
        }
    }

    #[test]
    fn finds_every_member_in_order() {
        let mut found = Vec::new();
        let text = " { \"a\" : 1 , \"b\":\"x\",\"a\":[2, 3] } ";
        let whole = members(text, |name, value| {
            found.push((name, value.text));
            Some(())
        });
        assert_eq!(whole, Some(()));
        assert_eq!(found, [("a", "1"), ("b", "\"x\""), ("a", "[2, 3]")]);
    }

    #[test]
    fn leaves_the_rare_to_serde_json() {
        let nested = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(scanned(&nested(64)).is_some());
        assert_eq!(scanned(&nested(65)), None);
        assert_eq!(scanned(r#"{"\u0061":1}"#), None);
        assert_eq!(scanned(r#"{"a":1,"b":2}"#), None, "the caller does not want it");
    }

    /// At each place of a word, and behind bytes that could borrow.
    #[test]
    fn finds_the_first_special_byte() {
        for filler in [b'!', b'#', b'[', b']', b' ', 0x7f, 0x80, 0xc3, 0xff] {
            for place in 0..8 {
                for byte in 0..=u8::MAX {
                    let mut word = [filler; 8];
                    word[place] = byte;
                    let expected = (byte == b'"' || byte == b'\\' || byte < b' ').then_some(place);
                    let marks = special(u64::from_le_bytes(word));
                    let found = (marks != 0).then_some(marks.trailing_zeros() as usize / 8);
                    assert_eq!(found, expected, "{word:?}");
                }
            }
        }
    }
}
