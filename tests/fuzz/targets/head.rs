//! Method and headers, in any form. The first line is the method; each further one is `name: value`.
#![no_main]

use smartshape_webhook::{RequestHead, TOKEN_HEADER, Token};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let method = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let headers: Vec<(String, &[u8])> = lines.map(header).collect();
    let head = read(&method, &headers);
    assert_eq!(head.declared_length(), declared_length(&headers));

    let shown = format!("{head:?}");
    let shouting: Vec<_> = headers.iter().map(|(name, value)| (name.to_ascii_uppercase(), *value)).collect();
    assert_eq!(format!("{:?}", read(&method, &shouting)), shown, "the case of names says something");
    for (_, value) in headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(TOKEN_HEADER)) {
        if Token::parse(value).is_ok() {
            let salt_and_hash = String::from_utf8_lossy(&value[7..]);
            assert!(!shown.contains(&*salt_and_hash), "the token is shown");
        }
    }
});

fn read(method: &str, headers: &[(String, &[u8])]) -> RequestHead {
    RequestHead::from_parts(method, headers.iter().map(|(name, value)| (name.as_str(), *value)))
}

fn header(line: &[u8]) -> (String, &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&line[..colon]).into_owned(), value.strip_prefix(b" ").unwrap_or(value))
}

/// The one length that all such headers agree on.
fn declared_length(headers: &[(String, &[u8])]) -> Option<u64> {
    let mut lengths = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| digits(value));
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
