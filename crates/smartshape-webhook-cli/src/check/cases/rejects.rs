//! Requests that an endpoint should reject, and keep running after.

use http::Method;
use smartshape_fake::{Prefix, token};
use smartshape_webhook::EventKind;

use super::{Case, Delivery, MEGABYTE, case, one};
use crate::check::fixture::Fixture;
use crate::check::request::{Expect, Outgoing, Request};

const FORGERY: &str = "whoever knows the URL can forge events";

pub(super) const CASES: &[Case] = &[
    case("rejects a request without a token", FORGERY, |fixture, kind| {
        one(fixture.rejected(kind, None::<&str>))
    }),
    case("rejects an empty token", FORGERY, |fixture, kind| one(fixture.rejected(kind, Some("")))),
    case("rejects malformed tokens", FORGERY, malformed),
    case("rejects a token of another secret", FORGERY, |fixture, kind| {
        one(fixture.rejected(kind, Some(fixture.foreign.clone())))
    }),
    case("rejects a token with a character changed", FORGERY, |fixture, kind| {
        let last = if fixture.good.ends_with('u') { "e" } else { "u" };
        one(fixture.rejected(kind, Some(fixture.good.get(..59).unwrap_or_default().to_owned() + last)))
    }),
    case(
        "rejects tokens of no secret",
        "where the secret was never set, whoever guesses that can forge events",
        |fixture, kind| {
            let signed_with = |(what, secret): (&str, &str)| {
                fixture.rejected(kind, token(secret, 4, Prefix::TwoB).ok()).what(what)
            };
            // What an unset secret often turns into.
            let secrets =
                [("an empty secret", ""), ("undefined", "undefined"), ("null", "null"), ("None", "None")];
            secrets.into_iter().map(signed_with).collect()
        },
    ),
    case(
        "rejects two different tokens",
        "a proxy and the endpoint may look at different ones",
        |fixture, kind| {
            let both = |first: &str, second: &str| {
                fixture.rejected(kind, Some(first.to_owned())).token(second.to_owned())
            };
            vec![
                both(&fixture.good, &fixture.foreign).what("the right one first"),
                both(&fixture.foreign, &fixture.good).what("the right one last"),
            ]
        },
    )
    .advice(),
    case(
        "rejects other methods than POST",
        "a client that only reads, such as a browser or crawler, must change nothing",
        |fixture, kind| {
            let methods = [Method::GET, Method::PUT, Method::DELETE].into_iter();
            let signed = |method: Method| {
                let request = fixture.sample(kind).expect(Expect::MethodRejected);
                Request { method: method.clone(), ..request.what(method.as_str()) }
            };
            methods.map(signed).collect()
        },
    ),
    case(
        "rejects a bad token before the body comes",
        "strangers can make it hold bodies of any size, and be slow about them",
        |fixture, kind| {
            let request = fixture.rejected(kind, Some("letmein")).expect(Expect::RejectedWithoutTheBody);
            one(Request { body: Outgoing::withheld(MEGABYTE as u64), ..request })
        },
    )
    .advice(),
    case(
        "serves on after a rejection",
        "what is left of a rejected request is taken for the next one, which is then lost",
        |fixture, kind| {
            let rejected = fixture.rejected(kind, Some("letmein")).expect(Expect::Anything);
            vec![rejected, fixture.sample(kind)]
        },
    )
    .delivery(Delivery::SameConnection),
    case(
        "rejects costly tokens without hashing them",
        "whoever calls chooses the cost. Without a bound, one token of cost 31 takes a core for more than a day; with a bound \
         of 14 or more, each forged token takes it for as long as seen here. --destructive shows which of the two it is",
        |fixture, kind| {
            let with = |what: &str, token: String, expect| {
                fixture.rejected(kind, Some(token)).expect(expect).what(what)
            };
            let round = |_| {
                [
                    with("malformed", "letmein".to_owned(), Expect::ImmediateResponse),
                    with("cost 13", fixture.forged(13), Expect::NotHashed(13)),
                    with("cost 14", fixture.forged(14), Expect::NotHashed(14)),
                ]
            };
            (0..3).flat_map(round).collect()
        },
    ),
    case(
        "rejects what is not JSON, and lives on",
        "an event that was cut on the way is reported as handled, or stops the endpoint",
        |fixture, kind| {
            let event = fixture.event(kind).to_string();
            vec![
                fixture.unreadable("an empty body", ""),
                fixture.unreadable("half an event", event.get(..event.len() / 2).unwrap_or_default()),
                fixture.unreadable("a word", "letmein"),
                fixture.accepted(event).what("an event after that"),
            ]
        },
    ),
    case(
        "rejects what is no event, and lives on",
        "an event that cannot be read is reported as handled",
        |fixture, kind| {
            let mut without_uuid = fixture.event(kind);
            without_uuid.as_object_mut().map(|fields| fields.remove("uuid"));
            vec![
                fixture.unreadable("an empty object", "{}"),
                fixture.unreadable("a list", "[]"),
                fixture.unreadable("null", "null"),
                fixture.unreadable("no uuid", without_uuid.to_string()),
                fixture.unreadable("no UTF-8", b"{\"file\": \"\xff\xfe\"}"),
                fixture.sample(kind).what("an event after that"),
            ]
        },
    )
    .advice(),
];

fn malformed(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    let good = fixture.good.as_str();
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
    tokens.into_iter().map(|(what, token)| fixture.rejected(kind, Some(token)).what(what)).collect()
}
