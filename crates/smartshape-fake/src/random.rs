//! Random secrets, tokens and ids.

use std::fmt::Write as _;

/// Random bytes as hexadecimal digits.
pub(crate) fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    // Without system randomness ids are predictable, which is acceptable for a test tool.
    let _ = getrandom::fill(&mut random);
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A random UUID (version 4).
pub(crate) fn uuid() -> String {
    let hex = hex(16);
    let variant = ["8", "9", "a", "b"][usize::from(hex.as_bytes()[16] % 4)];
    format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
