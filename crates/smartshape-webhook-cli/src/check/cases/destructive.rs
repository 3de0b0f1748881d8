//! Requests that may stop an endpoint, or exhaust its machine. Run with `--destructive` only.

use serde_json::json;
use smartshape_webhook::EventKind;

use super::{Case, Delivery, MEGABYTE, case, one};
use crate::check::fixture::{Fixture, padded};
use crate::check::request::{Expect, Outgoing, Request};

pub(super) const CASES: &[Case] = &[
    case(
        "accepts a body of 50 MB",
        "documents can be large: SmartShape's manual allows for 50 MB",
        |fixture, kind| one(fixture.accepted(padded(&fixture.event(kind), 50 * MEGABYTE))),
    )
    .destructive(),
    case(
        "responds to deep nesting, and lives on",
        "many readers of JSON overflow their stack, which ends the process",
        |fixture, kind| {
            let mut event = fixture.event(kind);
            event["data"]["smartshapeCheck"] = json!("deep");
            let deep = "[".repeat(100_000) + &"]".repeat(100_000);
            vec![
                fixture
                    .accepted(event.to_string().replacen("\"deep\"", &deep, 1))
                    .expect(Expect::AnyResponse)
                    .what("100,000 lists in each other"),
                fixture.sample(kind).what("an event after that"),
            ]
        },
    )
    .destructive(),
    case("serves while bodies stall", "a few slow senders keep all others out", |fixture, kind| {
        let sample = fixture.sample(kind).expect(Expect::Anything);
        let stalled = Request { body: Outgoing::withheld(MEGABYTE as u64), ..sample };
        beside(vec![stalled; 64], fixture, kind)
    })
    .delivery(Delivery::LastDuringOthers)
    .destructive(),
    case(
        "serves while forged tokens come in",
        "forged tokens, which are cheap to send and costly to check, keep SmartShape out",
        |fixture, kind| {
            let forged = |_| fixture.rejected(kind, Some(fixture.forged(12))).expect(Expect::Anything);
            beside((0..200).map(forged).collect(), fixture, kind)
        },
    )
    .delivery(Delivery::LastDuringOthers)
    .destructive(),
    case(
        "rejects a token of cost 31, and lives on",
        "hashing it takes a core for more than a day",
        |fixture, kind| {
            vec![
                fixture.rejected(kind, Some(fixture.forged(31))).what("cost 31"),
                fixture.sample(kind).what("an event after that"),
            ]
        },
    )
    .destructive(),
];

fn beside(mut others: Vec<Request>, fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    others.push(fixture.sample(kind));
    others
}
