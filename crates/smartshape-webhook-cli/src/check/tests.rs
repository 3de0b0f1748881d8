//! Tests of the table.

use std::collections::HashSet;

use smartshape_fake::{Prefix, token};
use smartshape_webhook::{EventKind, Secret};

use super::cases::{self, Scope};
use super::fixture::{FILE, Fixture, OWNER};

fn fixture() -> Fixture {
    let sign = |secret: &Secret| Ok(token(secret.expose(), 4, Prefix::TwoB).unwrap());
    Fixture::new(Secret::new("a long and random string").unwrap(), sign, FILE, OWNER).unwrap()
}

#[test]
fn cases_have_distinct_names_and_cover_all_events() {
    let names: HashSet<_> = cases::all().map(|case| case.name).collect();
    assert_eq!(names.len(), cases::all().count());
    for kind in EventKind::ALL {
        assert!(cases::all().any(|case| case.scope == Scope::Event(kind)), "{kind}");
    }
    // What may stop an endpoint comes last.
    assert!(cases::all().is_sorted_by_key(|case| case.destructive));
}

#[test]
fn tokens_are_valid_in_a_header() {
    let fixture = fixture();
    for case in cases::all().filter(|case| case.name != "rejects a request without a token") {
        for request in (case.requests)(&fixture, EventKind::FileUploaded) {
            assert!(!request.tokens.is_empty(), "{}: {}", case.name, request.what);
        }
    }
}

#[test]
fn forged_tokens_are_well_formed_and_differ() {
    let fixture = fixture();
    let (first, second) = (fixture.forged(13), fixture.forged(13));
    assert_ne!(first, second);
    assert_eq!(smartshape_webhook::Token::parse(first.as_bytes()).unwrap().cost(), 13);
}
