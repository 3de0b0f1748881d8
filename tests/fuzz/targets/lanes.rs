//! Passwords verified side by side have the outcomes that the `bcrypt` crate has for each, whatever they, their
//! salts and their costs are; and a text is a hash for both or for neither.
#![no_main]

use bcrypt_lanes::Hash;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        // What the `bcrypt` crate takes beside: an old faulty version, and a sign before the cost.
        let theirs =
            text.parse::<bcrypt::HashParts>().is_ok_and(|parts| (4..=31).contains(&parts.get_cost()));
        let taken = theirs && !text.starts_with("$2x") && !text[4..].starts_with('+');
        assert_eq!(text.parse::<Hash>().is_ok(), taken);
    }
    let (mut pairs, mut expected) = (Vec::new(), Vec::new());
    let mut rest = input;
    while let ([shape, length, salt @ ..], true) = (rest, pairs.len() < 6) {
        let Some((salt, after)) = salt.split_first_chunk::<16>() else { break };
        let (password, after) = after.split_at(after.len().min(usize::from(length % 80)));
        rest = after;
        let cost = 4 + u32::from(shape % 3);
        let Ok(parts) = bcrypt::hash_with_salt(password, cost, *salt) else { continue };
        let text = parts.to_string();
        let mut guess = password.to_vec();
        if shape & 0x80 != 0 {
            guess.insert(guess.len() / 2, *shape);
        }
        expected.push(bcrypt::verify(&guess, &text).ok());
        pairs.push((guess, text.parse().expect("what the `bcrypt` crate wrote")));
    }
    let outcomes: Vec<_> = bcrypt_lanes::verify_all(pairs).into_iter().map(Some).collect();
    assert_eq!(outcomes, expected);
});
