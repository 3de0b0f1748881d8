//! The `bcrypt` crate says the same.

use bcrypt_lanes::{Hash, verify_all};
use proptest::collection::vec;
use proptest::prelude::*;

fn passwords() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        // Around the length that counts.
        vec(any::<u8>(), 68..80),
        "\\PC{0,12}".prop_map(String::into_bytes),
    ]
}

/// A password, the cost and salt of its hash, and which byte of it is guessed wrongly.
fn jobs() -> impl Strategy<Value = (Vec<u8>, u32, [u8; 16], Option<usize>)> {
    (passwords(), 4_u32..8, any::<[u8; 16]>(), proptest::option::of(0_usize..100))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_mix_of_passwords_and_costs_has_the_same_outcomes(jobs in vec(jobs(), 1..10)) {
        let (mut pairs, mut expected) = (Vec::new(), Vec::new());
        for (password, cost, salt, wrong) in jobs {
            let text = bcrypt::hash_with_salt(&password, cost, salt).unwrap().to_string();
            let mut guess = password;
            if let Some(place) = wrong {
                match guess.len() {
                    0 => guess.push(1),
                    length => guess[place % length] ^= 1,
                }
            }
            expected.push(bcrypt::verify(&guess, &text).unwrap());
            pairs.push((guess, text.parse::<Hash>().unwrap()));
        }
        prop_assert_eq!(verify_all(pairs), expected);
    }

    #[test]
    fn any_text_is_a_hash_for_both_or_for_neither(text in "\\$2[abxy]\\$(0[3-9]|[+1-4]\\d)\\$[./A-Za-z0-9=]{53}") {
        let ours = text.parse::<Hash>();
        let theirs = text.parse::<bcrypt::HashParts>();
        let supported = !text.starts_with("$2x") && theirs.as_ref().is_ok_and(|parts| (4..32).contains(&parts.get_cost()));
        // The crate reads "+5" as a cost.
        prop_assert_eq!(ours.is_ok(), supported && !text.contains('+'));
    }
}
