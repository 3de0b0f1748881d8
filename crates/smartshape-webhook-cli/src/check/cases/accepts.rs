//! What is to be accepted, and how often.

use serde_json::{Value, json};
use smartshape_webhook::EventKind;

use super::{Case, MEGABYTE, Way, case, one};
use crate::check::drift;
use crate::check::kit::{Kit, escaped, padded, set_text};
use crate::check::request::{Expect, Outgoing, Request};

const LOST: &str = "SmartShape counts the delivery as failed, and the event is lost after its last retry";
const TOKENS: &str = "SmartShape does not say how it makes its tokens, so any that bcrypt makes has to do";
const FIELDS: &str =
    "SmartShape's documents gain fields with its versions, and then each event would be lost";
const UNTYPED: &str =
    "other pages of SmartShape show documents of this form; should webhooks send them too, the event is lost";

pub(super) const CASES: &[Case] = &[
    case("accepts attribute_updated", LOST, sample).of(EventKind::AttributeUpdated),
    case("accepts file_uploaded", LOST, sample).of(EventKind::FileUploaded),
    case("accepts file_optimized", LOST, sample).of(EventKind::FileOptimized),
    case("accepts annotation_created", LOST, sample).of(EventKind::AnnotationCreated),
    case("accepts annotation_updated", LOST, sample).of(EventKind::AnnotationUpdated),
    case("accepts annotation_removed", LOST, sample).of(EventKind::AnnotationRemoved),
    case("accepts configuration_created", LOST, sample).of(EventKind::ConfigurationCreated),
    case("accepts configuration_updated", LOST, sample).of(EventKind::ConfigurationUpdated),
    case("accepts configuration_removed", LOST, sample).of(EventKind::ConfigurationRemoved),
    case("accepts a token of prefix 2a", TOKENS, |kit, kind| signed_with(&kit.two_a, kit, kind)),
    case(
        "accepts a token of prefix 2y",
        "PHP writes tokens so; SmartShape, which runs on Node, hardly",
        |kit, kind| signed_with(&kit.two_y, kit, kind),
    )
    .advice(),
    case(
        "accepts a token of cost 4",
        "it is bcrypt's least; SmartShape's cost is not documented",
        |kit, kind| signed_with(&kit.cost_4, kit, kind),
    )
    .advice(),
    case("accepts a token of cost 10", TOKENS, |kit, kind| signed_with(&kit.cost_10, kit, kind)),
    case("accepts a token of cost 12", TOKENS, |kit, kind| signed_with(&kit.cost_12, kit, kind)),
    case(
        "accepts X-Smartshape-Token, whatever its case",
        "names of headers have no case, and SmartShape's pages write this one in two ways",
        |kit, kind| one(kit.accepted(kit.event(kind).to_string()).title_case()),
    ),
    case("accepts a content type with charset", LOST, |kit, kind| {
        one(kit.accepted(kit.event(kind).to_string()).content_type("application/json; charset=utf-8"))
    }),
    case(
        "accepts a body in chunks",
        "a sender or proxy may send it so, without Content-Length",
        |kit, kind| {
            let body = kit.event(kind).to_string().into();
            one(kit.accepted("").body(Outgoing::chunked(&body, 100)))
        },
    ),
    case("accepts text that is not ASCII", "people's names for things come in all scripts", |kit, kind| {
        let event = kit.changed(kind, |event| set_text(event, "Größe 日本語 🚀"));
        let escaped = kit.accepted(escaped(&fresh(&event, kit, kind))).what("escaped as \\uXXXX");
        vec![kit.accepted(event.to_string()).what("as UTF-8"), escaped]
    }),
    case(
        "accepts a body of 1 MB",
        "documents can be large: SmartShape's manual allows for 50 MB",
        |kit, kind| one(kit.accepted(padded(&kit.event(kind), MEGABYTE))),
    ),
    case(
        "accepts an event of unknown name",
        "a newer SmartShape may send it, and retries what is rejected",
        |kit, kind| {
            one(kit
                .accepted(kit.changed(kind, |event| event["event"] = json!("smartshape_check")).to_string()))
        },
    )
    .of_all(),
    case("accepts new fields", FIELDS, |kit, kind| {
        let change = |event: &mut Value| {
            event["smartshapeCheck"] = json!({"new": [1, null]});
            event["data"]["smartshapeCheck"] = json!(true);
        };
        one(kit.accepted(kit.changed(kind, change).to_string()))
    }),
    case("accepts annotations of newer form", UNTYPED, drift::annotation)
        .of(EventKind::AnnotationCreated)
        .advice(),
    case("accepts attribute values of newer form", UNTYPED, drift::attributes)
        .of(EventKind::AttributeUpdated)
        .advice(),
    case("accepts files of newer form", UNTYPED, drift::file).of(EventKind::FileUploaded).advice(),
    case("accepts configurations of newer form", UNTYPED, drift::configuration)
        .of(EventKind::ConfigurationUpdated)
        .advice(),
    case("accepts people as ids and objects", UNTYPED, drift::people).advice(),
    case("accepts runTimestamp in seconds or as text", UNTYPED, |kit, kind| {
        let at = |what: &str, time: Value| {
            kit.accepted(kit.changed(kind, |event| event["runTimestamp"] = time).to_string()).what(what)
        };
        let milliseconds = kit.event(kind)["runTimestamp"].as_i64().unwrap_or_default();
        vec![at("in seconds", json!(milliseconds / 1000)), at("as text", json!(milliseconds.to_string()))]
    })
    .advice(),
    case(
        "accepts a uuid of another form",
        "nothing says that SmartShape's ids stay as they are",
        |kit, kind| {
            let change = |event: &mut Value| {
                let uuid = event["uuid"].as_str().unwrap_or_default().replace('-', "");
                event["uuid"] = json!(uuid.get(..24));
            };
            one(kit.accepted(kit.changed(kind, change).to_string()))
        },
    )
    .advice(),
    case(
        "accepts an event of three days ago",
        "a retry may come late; SmartShape does not say how late",
        |kit, kind| {
            let earlier = |event: &mut Value| {
                let now = event["runTimestamp"].as_i64().unwrap_or_default();
                event["runTimestamp"] = json!(now - 3 * 24 * 3600 * 1000);
            };
            one(kit.accepted(kit.changed(kind, earlier).to_string()))
        },
    )
    .advice(),
    case(
        "accepts an event again",
        "after a lost answer SmartShape sends it again, until it is accepted",
        |kit, kind| {
            let delivery = kit.accepted(kit.event(kind).to_string());
            vec![delivery.clone().what("first"), delivery.what("again")]
        },
    ),
    case("accepts an event twice at once", "a retry may come while the first is at work", |kit, kind| {
        let delivery = kit.accepted(kit.event(kind).to_string()).expect(Expect::AcceptedOrPutOff);
        vec![delivery.clone(), delivery]
    })
    .way(Way::AtOnce),
    case("keeps the connection", "a connection, and a handshake of TLS, for each event", |kit, kind| {
        let first = kit.accepted(kit.event(kind).to_string());
        vec![first, kit.accepted(kit.event(kind).to_string()).expect(Expect::AcceptedOnThisConnection)]
    })
    .way(Way::OnOneConnection)
    .advice(),
];

fn sample(kit: &Kit, kind: EventKind) -> Vec<Request> {
    one(kit.accepted(kit.event(kind).to_string()))
}

fn signed_with(token: &str, kit: &Kit, kind: EventKind) -> Vec<Request> {
    one(kit.accepted_with(token, kit.event(kind).to_string()))
}

/// The same content with the uuid of another event.
fn fresh(event: &Value, kit: &Kit, kind: EventKind) -> Value {
    let mut event = event.clone();
    event["uuid"] = kit.event(kind)["uuid"].take();
    event
}
