//! Which texts are hashes.

use bcrypt_lanes::{Hash, HashError, verify};

const HASH: &str = "$2b$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";

#[test]
fn malformed_hash_is_rejected_with_the_reason() {
    let with = |place: usize, text: &str| {
        let mut hash = HASH.to_owned();
        hash.replace_range(place..place + text.len(), text);
        hash
    };
    let cases = [
        (String::new(), HashError::Length),
        (format!("{HASH}x"), HashError::Length),
        (with(1, "1"), HashError::Prefix),
        (with(2, "x"), HashError::Prefix),
        (with(2, "$"), HashError::Prefix),
        (with(4, "+6"), HashError::Prefix),
        (with(4, "6$"), HashError::Prefix),
        (with(4, "03"), HashError::Cost),
        (with(4, "32"), HashError::Cost),
        (with(9, "="), HashError::Encoding),
        (with(20, "é"), HashError::Encoding),
        // Bits that no byte has: the last character of the salt, and of the digest.
        (with(28, "P"), HashError::Encoding),
        (with(59, "f"), HashError::Encoding),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Hash>().unwrap_err(), error, "{text}");
    }
}

#[test]
fn digest_that_differs_in_one_bit_does_not_match() {
    assert!(verify("a", &HASH.parse().unwrap()));
    for place in 29..60 {
        for letter in ["/", "A", "u"] {
            let mut hash = HASH.to_owned();
            hash.replace_range(place..=place, letter);
            let Ok(other) = hash.parse() else { continue };
            assert_eq!(verify("a", &other), hash == HASH, "{hash}");
        }
    }
}

#[test]
fn debug_shows_the_cost_and_nothing_to_guess_by() {
    assert_eq!(format!("{:?}", HASH.parse::<Hash>().unwrap()), "Hash { cost: 6, .. }");
}
