//! Tests of the table.

use std::collections::HashSet;
use std::sync::LazyLock;

use smartshape_fake::{Prefix, token};
use smartshape_webhook::{EventKind, Secret};

use super::cases::{self, Scope};
use super::fixture::{FILE, Fixture, OWNER, padded};
use super::request::Expect;

/// Shared, because hashing its tokens takes long.
static FIXTURE: LazyLock<Fixture> = LazyLock::new(fixture);

fn fixture() -> Fixture {
    let sign = |secret: &Secret| Ok(token(secret.expose(), 4, Prefix::TwoB).unwrap());
    Fixture::new(&Secret::new("a long and random string").unwrap(), sign, FILE, OWNER).unwrap()
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
fn accepted_events_are_marked_as_tests_with_new_uuids() {
    let fixture = &FIXTURE;
    let mut seen = HashSet::new();
    for case in cases::all() {
        let kinds = match case.scope {
            Scope::Event(kind) => vec![kind],
            // Their bodies are large.
            Scope::AnyEvent if case.destructive => vec![EventKind::FileUploaded],
            Scope::AnyEvent | Scope::AllEvents => EventKind::ALL.to_vec(),
        };
        for kind in kinds {
            let mut of_case = HashSet::new();
            for request in (case.requests)(fixture, kind) {
                let Ok(event) = serde_json::from_slice::<serde_json::Value>(&request.body.bytes()) else {
                    continue;
                };
                if request.expect == Expect::Accepted {
                    assert_eq!(event["file"], FILE, "{}", case.name);
                    of_case.insert(event["uuid"].as_str().unwrap().to_owned());
                }
            }
            assert!(of_case.is_disjoint(&seen), "{}", case.name);
            seen.extend(of_case);
        }
    }
    assert_eq!(fixture.event(EventKind::FileUploaded)["owner"], OWNER);
}

#[test]
fn tokens_are_valid_in_a_header() {
    let fixture = &FIXTURE;
    for case in cases::all().filter(|case| case.name != "rejects a request without a token") {
        for request in (case.requests)(fixture, EventKind::FileUploaded) {
            assert!(!request.tokens.is_empty(), "{}: {}", case.name, request.what);
        }
    }
}

#[test]
fn forged_tokens_are_well_formed_and_differ() {
    let fixture = &FIXTURE;
    let (first, second) = (fixture.forged(13), fixture.forged(13));
    assert_ne!(first, second);
    assert_eq!(smartshape_webhook::Token::parse(first.as_bytes()).unwrap().cost(), 13);
}

#[test]
fn padding_changes_the_length_only() {
    let event = FIXTURE.event(EventKind::ConfigurationUpdated);
    let long = padded(&event, 100_000);
    assert_eq!(long.len(), 100_000);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&long).unwrap(), event);
}
