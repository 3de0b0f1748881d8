//! Requests that an endpoint should accept.

use serde_json::{Value, json};
use smartshape_fake::Prefix;
use smartshape_webhook::EventKind;

use super::{Case, Delivery, MEGABYTE, case, one};
use crate::check::fixture::{Fixture, escaped, padded, set_text};
use crate::check::newer_forms;
use crate::check::request::{Expect, Outgoing, Request};

const LOST: &str = "SmartShape counts the delivery as failed, and the event is lost after its last retry";
const TOKENS: &str = "SmartShape does not say how it makes its tokens, so any that bcrypt makes has to do";
const FIELDS: &str =
    "SmartShape's documents gain fields with its versions, and then each event would be lost";
const UNTYPED: &str =
    "other pages of SmartShape show documents of this form; should webhooks send them too, the event is lost";

pub(super) const CASES: &[Case] = &[
    case("accepts attribute_updated", LOST, sample).for_event(EventKind::AttributeUpdated),
    case("accepts file_uploaded", LOST, sample).for_event(EventKind::FileUploaded),
    case("accepts file_optimized", LOST, sample).for_event(EventKind::FileOptimized),
    case("accepts annotation_created", LOST, sample).for_event(EventKind::AnnotationCreated),
    case("accepts annotation_updated", LOST, sample).for_event(EventKind::AnnotationUpdated),
    case("accepts annotation_removed", LOST, sample).for_event(EventKind::AnnotationRemoved),
    case("accepts configuration_created", LOST, sample).for_event(EventKind::ConfigurationCreated),
    case("accepts configuration_updated", LOST, sample).for_event(EventKind::ConfigurationUpdated),
    case("accepts configuration_removed", LOST, sample).for_event(EventKind::ConfigurationRemoved),
    case("accepts a token of prefix 2a", TOKENS, |fixture, kind| one(fixture.signed(kind, 10, Prefix::TwoA))),
    case(
        "accepts a token of prefix 2y",
        "PHP writes tokens so; SmartShape, which runs on Node, hardly",
        |fixture, kind| one(fixture.signed(kind, 10, Prefix::TwoY)),
    )
    .advice(),
    case(
        "accepts a token of cost 4",
        "it is bcrypt's least; SmartShape's cost is not documented",
        |fixture, kind| one(fixture.signed(kind, 4, Prefix::TwoB)),
    )
    .advice(),
    case("accepts a token of cost 10", TOKENS, |fixture, kind| one(fixture.signed(kind, 10, Prefix::TwoB))),
    case("accepts a token of cost 12", TOKENS, |fixture, kind| one(fixture.signed(kind, 12, Prefix::TwoB))),
    case(
        "accepts X-Smartshape-Token, whatever its case",
        "names of headers have no case, and SmartShape's pages write this one in two ways",
        |fixture, kind| one(Request { title_case: true, ..fixture.sample(kind) }),
    ),
    case("accepts a content type with charset", LOST, |fixture, kind| {
        one(Request { content_type: "application/json; charset=utf-8", ..fixture.sample(kind) })
    }),
    case(
        "accepts a body in chunks",
        "a sender or proxy may send it so, without Content-Length",
        |fixture, kind| {
            let body = fixture.event(kind).to_string().into();
            one(Request { body: Outgoing::chunked(&body, 100), ..fixture.sample(kind) })
        },
    ),
    case(
        "accepts text that is not ASCII",
        "people's names for things come in all scripts",
        |fixture, kind| {
            let mut event = fixture.event(kind);
            set_text(&mut event, "Größe 日本語 🚀");
            let escaped = fixture.accepted(escaped(&fresh(&event, fixture, kind))).what("escaped as \\uXXXX");
            vec![fixture.accepted(event.to_string()).what("as UTF-8"), escaped]
        },
    ),
    case(
        "accepts a body of 1 MB",
        "documents can be large: SmartShape's manual allows for 50 MB",
        |fixture, kind| one(fixture.accepted(padded(&fixture.event(kind), MEGABYTE))),
    ),
    case(
        "accepts an event of unknown name",
        "a newer SmartShape may send it, and retries what is rejected",
        |fixture, kind| one(fixture.changed(kind, |event| event["event"] = json!("smartshape_check"))),
    )
    .for_all_events(),
    case("accepts new fields", FIELDS, |fixture, kind| {
        let change = |event: &mut Value| {
            event["smartshapeCheck"] = json!({"new": [1, null]});
            event["data"]["smartshapeCheck"] = json!(true);
        };
        one(fixture.changed(kind, change))
    }),
    case("accepts annotations of newer form", UNTYPED, newer_forms::annotation)
        .for_event(EventKind::AnnotationCreated)
        .advice(),
    case("accepts attribute values of newer form", UNTYPED, newer_forms::attributes)
        .for_event(EventKind::AttributeUpdated)
        .advice(),
    case("accepts files of newer form", UNTYPED, newer_forms::file)
        .for_event(EventKind::FileUploaded)
        .advice(),
    case("accepts configurations of newer form", UNTYPED, newer_forms::configuration)
        .for_event(EventKind::ConfigurationUpdated)
        .advice(),
    case("accepts people as ids and objects", UNTYPED, newer_forms::people).advice(),
    case("accepts runTimestamp in seconds or as text", UNTYPED, |fixture, kind| {
        let at =
            |what: &str, time: Value| fixture.changed(kind, |event| event["runTimestamp"] = time).what(what);
        let milliseconds = fixture.event(kind)["runTimestamp"].as_i64().unwrap_or_default();
        vec![at("in seconds", json!(milliseconds / 1000)), at("as text", json!(milliseconds.to_string()))]
    })
    .advice(),
    case(
        "accepts a uuid of another form",
        "nothing says that SmartShape's ids stay as they are",
        |fixture, kind| {
            let change = |event: &mut Value| {
                let uuid = event["uuid"].as_str().unwrap_or_default().replace('-', "");
                event["uuid"] = json!(uuid.get(..24));
            };
            one(fixture.changed(kind, change))
        },
    )
    .advice(),
    case(
        "accepts an event of three days ago",
        "a retry may come late; SmartShape does not say how late",
        |fixture, kind| {
            let earlier = |event: &mut Value| {
                let now = event["runTimestamp"].as_i64().unwrap_or_default();
                event["runTimestamp"] = json!(now - 3 * 24 * 3600 * 1000);
            };
            one(fixture.changed(kind, earlier))
        },
    )
    .advice(),
    case(
        "accepts an event again",
        "after a lost response SmartShape sends it again, until it is accepted",
        |fixture, kind| {
            let delivery = fixture.sample(kind);
            vec![delivery.clone().what("first"), delivery.what("again")]
        },
    ),
    case("accepts an event twice at once", "a retry may come while the first is handled", |fixture, kind| {
        let delivery = fixture.sample(kind).expect(Expect::AcceptedOrDeferred);
        vec![delivery.clone(), delivery]
    })
    .delivery(Delivery::Concurrent),
    case("keeps the connection", "a connection, and a handshake of TLS, for each event", |fixture, kind| {
        vec![fixture.sample(kind), fixture.sample(kind).expect(Expect::AcceptedOnThisConnection)]
    })
    .delivery(Delivery::SameConnection)
    .advice(),
];

fn sample(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    one(fixture.sample(kind))
}

/// Gives the event the uuid of another one, so that it is no duplicate.
fn fresh(event: &Value, fixture: &Fixture, kind: EventKind) -> Value {
    let mut event = event.clone();
    event["uuid"] = fixture.event(kind)["uuid"].take();
    event
}
