//! What may stop an endpoint, or the machine below it.

use serde_json::json;
use smartshape_webhook::EventKind;

use super::{Case, MEGABYTE, Way, case, one};
use crate::check::kit::{Kit, padded};
use crate::check::request::{Expect, Outgoing, Request};

pub(super) const CASES: &[Case] = &[
    case(
        "accepts a body of 50 MB",
        "documents can be large: SmartShape's manual allows for 50 MB",
        |kit, kind| one(kit.accepted(padded(&kit.event(kind), 50 * MEGABYTE))),
    )
    .harsh(),
    case(
        "answers to deep nesting, and lives on",
        "many readers of JSON overflow their stack, which ends the process",
        |kit, kind| {
            let marker = "\"deep\"";
            let event =
                kit.changed(kind, |event| event["data"]["smartshapeCheck"] = json!("deep")).to_string();
            let deep = "[".repeat(100_000) + &"]".repeat(100_000);
            vec![
                kit.accepted(event.replacen(marker, &deep, 1))
                    .expect(Expect::Answered)
                    .what("100,000 lists in each other"),
                kit.accepted(kit.event(kind).to_string()).what("an event after that"),
            ]
        },
    )
    .harsh(),
    case("serves while bodies stall", "a few slow senders keep all others out", |kit, kind| {
        let stalled = kit.accepted("").body(Outgoing::withheld(MEGABYTE as u64)).expect(Expect::Anything);
        beside(vec![stalled; 64], kit, kind)
    })
    .way(Way::LastBesideOthers)
    .harsh(),
    case(
        "serves while forged tokens come in",
        "forged tokens, which are cheap to send and costly to check, keep SmartShape out",
        |kit, kind| {
            let forged = |_| kit.rejected(kind, Some(kit.forged(12))).expect(Expect::Anything);
            beside((0..200).map(forged).collect(), kit, kind)
        },
    )
    .way(Way::LastBesideOthers)
    .harsh(),
    case(
        "rejects a token of cost 31, and lives on",
        "hashing it takes a core for more than a day",
        |kit, kind| {
            vec![
                kit.rejected(kind, Some(kit.forged(31))).what("cost 31"),
                kit.accepted(kit.event(kind).to_string()).what("an event after that"),
            ]
        },
    )
    .harsh(),
];

fn beside(mut others: Vec<Request>, kit: &Kit, kind: EventKind) -> Vec<Request> {
    others.push(kit.accepted(kit.event(kind).to_string()));
    others
}
