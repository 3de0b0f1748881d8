//! A token is what bcrypt itself would write, and nothing else; so no hash has two spellings.
#![no_main]

use bcrypt::{HashParts, Version};
use smartshape_webhook::Token;

libfuzzer_sys::fuzz_target!(|value: &[u8]| {
    let written = as_bcrypt_writes_it(value);
    let Ok(token) = Token::parse(value) else {
        assert_eq!(written, None, "rejected");
        return;
    };
    assert_eq!(written, Some((token.prefix(), token.cost())));
    let shown = format!("{token:?}");
    assert_eq!(shown, format!("Token(${}${:02}$redacted)", token.prefix(), token.cost()));
});

/// Prefix and cost, if `value` is canonical.
fn as_bcrypt_writes_it(value: &[u8]) -> Option<(&'static str, u32)> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 60)?;
    let parts: HashParts = text.parse().ok()?;
    let versions = [("2a", Version::TwoA), ("2b", Version::TwoB), ("2y", Version::TwoY)];
    let (prefix, _) =
        versions.into_iter().find(|(_, version)| parts.format_for_version(version.clone()) == text)?;
    (4..=31).contains(&parts.get_cost()).then(|| (prefix, parts.get_cost()))
}
