//! What is to be rejected, and borne.

use http::Method;
use smartshape_webhook::EventKind;

use super::{Case, MEGABYTE, Way, case, one};
use crate::check::kit::Kit;
use crate::check::request::{Expect, Outgoing, Request};

const FORGERY: &str = "whoever knows the URL can forge events";

pub(super) const CASES: &[Case] = &[
    case("rejects a request without a token", FORGERY, |kit, kind| one(kit.rejected(kind, None::<&str>))),
    case("rejects an empty token", FORGERY, |kit, kind| one(kit.rejected(kind, Some("")))),
    case("rejects malformed tokens", FORGERY, malformed),
    case("rejects a token of another secret", FORGERY, |kit, kind| {
        one(kit.rejected(kind, Some(kit.foreign.clone())))
    }),
    case("rejects a token with a character changed", FORGERY, |kit, kind| {
        let last = if kit.good.ends_with('u') { "e" } else { "u" };
        one(kit.rejected(kind, Some(kit.good.get(..59).unwrap_or_default().to_owned() + last)))
    }),
    case(
        "rejects tokens of no secret",
        "where the secret was never set, whoever guesses that can forge events",
        |kit, kind| {
            let tokens = kit.of_nothing.iter();
            tokens.map(|(what, token)| kit.rejected(kind, Some(token.clone())).what(*what)).collect()
        },
    ),
    case(
        "rejects two different tokens",
        "a proxy and the endpoint may look at different ones",
        |kit, kind| {
            let both = |first: &str, second: &str| {
                kit.rejected(kind, Some(first.to_owned())).token(second.to_owned())
            };
            vec![
                both(&kit.good, &kit.foreign).what("the right one first"),
                both(&kit.foreign, &kit.good).what("the right one last"),
            ]
        },
    )
    .advice(),
    case(
        "rejects other methods than POST",
        "what only looks, such as a browser or crawler, must change nothing",
        |kit, kind| {
            let methods = [Method::GET, Method::PUT, Method::DELETE].into_iter();
            let signed = |method: Method| {
                let request = kit.accepted(kit.event(kind).to_string()).expect(Expect::MethodRejected);
                request.what(method.as_str()).method(method)
            };
            methods.map(signed).collect()
        },
    ),
    case(
        "rejects a bad token before the body comes",
        "strangers can make it hold bodies of any size, and be slow about them",
        |kit, kind| {
            let request = kit.rejected(kind, Some("letmein")).expect(Expect::RejectedWithoutTheBody);
            one(request.body(Outgoing::withheld(MEGABYTE as u64)))
        },
    )
    .advice(),
    case(
        "serves on after a rejection",
        "what is left of a rejected request is taken for the next one, which is then lost",
        |kit, kind| {
            let rejected = kit.rejected(kind, Some("letmein")).expect(Expect::Anything);
            vec![rejected, kit.accepted(kit.event(kind).to_string())]
        },
    )
    .way(Way::OnOneConnection),
    case(
        "rejects costly tokens without hashing them",
        "whoever calls chooses the cost: hashing one token of cost 31 takes a core for more than a day",
        |kit, kind| {
            let with =
                |what: &str, token: String, expect| kit.rejected(kind, Some(token)).expect(expect).what(what);
            let round = |_| {
                [
                    with("malformed", "letmein".to_owned(), Expect::AnsweredAtOnce),
                    with("cost 13", kit.forged(13), Expect::NotHashed(13)),
                    with("cost 14", kit.forged(14), Expect::NotHashed(14)),
                ]
            };
            (0..3).flat_map(round).collect()
        },
    ),
    case(
        "rejects what is not JSON, and lives on",
        "an event that was cut on the way is told to be handled, or stops the endpoint",
        |kit, kind| {
            let event = kit.event(kind).to_string();
            vec![
                kit.unreadable("an empty body", ""),
                kit.unreadable("half an event", event.get(..event.len() / 2).unwrap_or_default()),
                kit.unreadable("a word", "letmein"),
                kit.accepted(event).what("an event after that"),
            ]
        },
    ),
    case(
        "rejects what is no event, and lives on",
        "an event that cannot be read is told to be handled",
        |kit, kind| {
            let mut without_uuid = kit.event(kind);
            without_uuid.as_object_mut().map(|fields| fields.remove("uuid"));
            vec![
                kit.unreadable("an empty object", "{}"),
                kit.unreadable("a list", "[]"),
                kit.unreadable("null", "null"),
                kit.unreadable("no uuid", without_uuid.to_string()),
                kit.unreadable("no UTF-8", b"{\"file\": \"\xff\xfe\"}"),
                kit.accepted(kit.event(kind).to_string()).what("an event after that"),
            ]
        },
    )
    .advice(),
];

fn malformed(kit: &Kit, kind: EventKind) -> Vec<Request> {
    let good = kit.good.as_str();
    let of_form = |prefix: &str| prefix.to_owned() + good.get(7..).unwrap_or_default();
    let non_ascii = [good.get(..58).unwrap_or_default().as_bytes(), "é".as_bytes()].concat();
    let tokens: [(&str, Vec<u8>); 9] = [
        ("a word", b"letmein".to_vec()),
        ("only a prefix", b"$2b$10$".to_vec()),
        ("one character less", good.get(..59).unwrap_or_default().into()),
        ("one character more", format!("{good}u").into()),
        ("bytes that are not ASCII", non_ascii),
        ("prefix 3b", of_form("$3b$10$").into()),
        ("cost 00", of_form("$2b$00$").into()),
        ("cost 99", of_form("$2b$99$").into()),
        ("4,000 characters", "x".repeat(4000).into()),
    ];
    tokens.into_iter().map(|(what, token)| kit.rejected(kind, Some(token)).what(what)).collect()
}
