//! Generated documents with every variation that SmartShape's documents have shown: the views say what was
//! written, however it was written, and `changes` sees values and not their spelling.

mod spelling;
mod views;

use std::collections::BTreeSet;

use smartshape_webhook::{
    AnnotationUpdated, Attributes, ConfigurationUpdated, Delivery, Event, Person, RawJson, TypedEvent,
};

use crate::random::Random;
use spelling::{Document, Kind, Value, document, object, plain, quote, space, spell, text, value, write};
use views::{ANNOTATION, CONFIGURATION, FILE, annotation_view, configuration_view, file_view, person, seen};

const ROUNDS: u64 = 400;

/// The events whose data is one document, with its fields.
const DOCUMENTS: [(&str, &[(&str, Kind)]); 6] = [
    ("file_uploaded", FILE),
    ("file_optimized", FILE),
    ("annotation_created", ANNOTATION),
    ("annotation_removed", ANNOTATION),
    ("configuration_created", CONFIGURATION),
    ("configuration_removed", CONFIGURATION),
];

fn view(event: &Event) -> Document {
    match event {
        Event::FileUploaded(file) => file_view(file),
        Event::FileOptimized(file) => file_view(file),
        Event::AnnotationCreated(annotation) => annotation_view(annotation),
        Event::AnnotationRemoved(annotation) => annotation_view(annotation),
        Event::ConfigurationCreated(configuration) => configuration_view(configuration),
        Event::ConfigurationRemoved(configuration) => configuration_view(configuration),
        other => panic!("{other:?}"),
    }
}

#[test]
fn views_show_the_document() {
    for (name, fields) in DOCUMENTS {
        each_seed(|random| {
            let document = document(random, fields);
            let data = write(random, &document);
            assert_eq!(view(deliver(random, name, &data).event()), seen(&document), "{data}");
        });
    }
}

#[test]
fn changes_compare_values() {
    each_seed(|random| {
        let of_annotation = random.one_in(2);
        let fields = if of_annotation { ANNOTATION } else { CONFIGURATION };
        let old = document(random, fields);
        let mut new = old.clone();
        let mut changed = BTreeSet::new();
        for (name, kind) in fields.iter().filter(|_| random.one_in(4)) {
            let value = value(random, *kind);
            if old.get(name) != Some(&value) {
                changed.insert(*name);
                new.insert(name, value);
            }
        }
        let data = format!(r#"{{"old":{},"new":{}}}"#, write(random, &old), write(random, &new));
        let changes = if of_annotation {
            let event = AnnotationUpdated::from_data(RawJson::parse(data.clone()).unwrap()).unwrap();
            assert_eq!(annotation_view(event.before()), seen(&old), "{data}");
            assert_eq!(annotation_view(event.after()), seen(&new), "{data}");
            event.changes()
        } else {
            let event = ConfigurationUpdated::from_data(RawJson::parse(data.clone()).unwrap()).unwrap();
            assert_eq!(configuration_view(event.after()), seen(&new), "{data}");
            event.changes()
        };
        let paths: BTreeSet<_> = changes.iter().map(|change| field_of(&change.path)).collect();
        assert_eq!(paths, changed, "{data}");
    });
}

#[test]
fn attribute_views_show_every_shape() {
    each_seed(|random| {
        let names: Vec<String> =
            (0..random.below(4)).map(|number| format!("n{number} {}", text(random))).collect();
        let attributes: Vec<(String, String)> =
            names.iter().map(|name| (name.clone(), plain(random))).collect();
        let keyed = |(name, value): &(String, String)| {
            format!(r#"{{"key":{},"value":{value}}}"#, quote(random, name))
        };
        let shape = random.below(3);
        let parts: Vec<String> = attributes
            .iter()
            .map(|one| match shape {
                0 => keyed(one),
                1 => format!("{}:{}", quote(random, &one.0), keyed(one)),
                _ => format!("{}:{}", quote(random, &one.0), one.1),
            })
            .collect();
        let written = parts.join(space(random));
        let set = if shape == 0 { format!("[{written}]") } else { format!("{{{written}}}") };
        let data = format!(r#"{{"nodeIdToAttributes":{{"5b33":{set}}},"user":{{"email":"a@b"}}}}"#);
        let delivery = deliver(random, "attribute_updated", &data);
        let Event::AttributeUpdated(event) = delivery.event() else { panic!("{data}") };
        let read: Vec<_> =
            event.attributes().map(|(_, one)| (one.name.clone(), one.value.as_str().to_owned())).collect();
        assert_eq!(read, attributes, "{data}");
        assert_eq!(event.user().and_then(Person::email), Some("a@b"));

        let annotation =
            format!(r#"{{"attributes":{set},"targets":[{{"node":"n","_id":"t"}}],"color":[1,0.5]}}"#);
        let delivery = deliver(random, "annotation_created", &annotation);
        let Event::AnnotationCreated(annotation) = delivery.event() else { panic!("{annotation}") };
        let decoded: &Attributes = &annotation.attributes;
        assert_eq!(decoded.iter().map(|one| &one.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    });
}

/// Values of every JSON type, and names and strings with a lone surrogate.
const ODD: &[&str] = &[
    "null",
    "true",
    "7",
    "-0.5",
    "1e400",
    r#""x""#,
    r#""cut \ud83d""#,
    r#""\uDE00 cut""#,
    "[]",
    "[7]",
    r#"["\ud83d"]"#,
    "{}",
    r#"{"cut \ud83d": "\udc00"}"#,
    r#"[{"cut \ud83d": [1]}]"#,
];

/// How the event shows the member that is kept: in the document itself, or in a document in a list of it.
fn kept(event: &Event, in_list: bool) -> Option<&str> {
    match event {
        Event::FileUploaded(file) => file.share_token.as_deref(),
        Event::AnnotationCreated(annotation) if in_list => annotation.targets[0].id(),
        Event::AnnotationCreated(annotation) => annotation.uuid.as_deref(),
        Event::ConfigurationCreated(configuration) if in_list => configuration.modifiers[0].id(),
        Event::ConfigurationCreated(configuration) => configuration.up_vector.as_deref(),
        Event::AttributeUpdated(event) => event.attributes().next().map(|(_, one)| one.name.as_str()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn member_of_another_type_costs_only_itself() {
    let attributes =
        r#""nodeIdToAttributes":{"other":7,"n":{"kept":[1]},"m":[8,{"key":"k","value":1,"origin":2}]}"#;
    // The name of the event, the data around the members, the member that is kept, and another of each type.
    let rows = [
        (
            "file_uploaded",
            "DOC",
            r#""shareToken":"kept""#,
            &["_id", "owner", "size", "created", "state", "attributes", "isLink", "sceneTreeNames"][..],
        ),
        (
            "annotation_created",
            "DOC",
            r#""uuid":"kept""#,
            &["_id", "file", "type", "color", "cameraX", "targets", "targetObjects", "permissions"],
        ),
        (
            "annotation_created",
            r#"{"targets":[DOC]}"#,
            r#""_id":"kept""#,
            &["id", "node", "position", "surfaceNormal"],
        ),
        (
            "configuration_created",
            "DOC",
            r#""upVector":"kept""#,
            &["_id", "lastActivationDate", "cameraFoVIndex", "zNear", "modifiers"],
        ),
        ("configuration_created", r#"{"modifiers":[DOC]}"#, r#""_id":"kept""#, &["id", "node", "details"]),
        ("attribute_updated", "DOC", attributes, &["user"]),
    ];
    for (name, around, kept_member, members) in rows {
        // A name that nobody reads, too.
        for member in members.iter().copied().chain([r"cut \ud83d", r"\udc00"]) {
            for odd in ODD {
                let data = around.replace("DOC", &format!(r#"{{"{member}":{odd},{kept_member}}}"#));
                let event = Event::decode(name, RawJson::parse(data.clone()).unwrap());
                assert_eq!(kept(&event, around != "DOC"), Some("kept"), "{data}");
                assert_eq!(serde_json::to_string(&event).unwrap(), data);
            }
        }
    }
}

#[test]
fn member_of_another_type_reads_as_missing() {
    let other_than = |kind: Kind| match kind {
        Kind::Any => &[][..],
        Kind::Text => &["null", "true", "7", "[]", "{}", r#"["x"]"#],
        Kind::Time => &[
            "null",
            "true",
            r#""soon""#,
            "1e300",
            "-1e300",
            "18446744073709551615",
            "-9223372036854775808",
            "[1]",
            "{}",
        ],
        Kind::Number => &["null", "true", r#""1""#, "[1]", "{}"],
        Kind::Count => &["null", "true", r#""1""#, "0.5", "-1", "18446744073709551616", "[1]", "{}"],
        Kind::Flag => &["null", "0", r#""true""#, "[]", "{}"],
        Kind::Person => &["null", "true", "7", "[]", r#"["a@b"]"#],
    };
    each_seed(|random| {
        let (name, fields) = random.pick(&DOCUMENTS);
        let (odd, kind) = random.pick(fields);
        let others = other_than(kind);
        if others.is_empty() {
            return;
        }
        let mut document = document(random, fields);
        document.remove(odd);
        let written = write(random, &document);
        let comma = if written == "{}" { "" } else { "," };
        let data = written.replacen('{', &format!(r#"{{"{odd}":{}{comma}"#, random.pick(others)), 1);
        assert_eq!(view(deliver(random, name, &data).event()), seen(&document), "{data}");
    });
}

#[test]
fn lone_surrogate_reads_as_replacement_character() {
    for (name, fields) in DOCUMENTS {
        for (member, _) in fields.iter().filter(|(_, kind)| matches!(kind, Kind::Text)) {
            for (sent, expected) in [
                (r"cut \ud83d", "cut \u{fffd}"),
                (r"cut \uD83D.scene", "cut \u{fffd}.scene"),
                (r"\ude00 caf\u00e9 é", "\u{fffd} café é"),
                (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
                (r"\ud83d\n\ud83dé", "\u{fffd}\n\u{fffd}é"),
                (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
                (r"\ud83d\ude00 😀", "😀 😀"),
            ] {
                let data = format!(r#"{{"{member}":"{sent}"}}"#);
                let event = Event::decode(name, RawJson::parse(data.clone()).unwrap());
                assert_eq!(view(&event).get(member), Some(&Value::Text(expected.to_owned())), "{data}");
                assert_eq!(serde_json::to_string(&event).unwrap(), data);
            }
        }
    }
}

/// The field that a change is in or below; an id has one of two names.
fn field_of(path: &str) -> &str {
    match path.split('/').nth(1) {
        Some("id") => "_id",
        field => field.unwrap_or_default(),
    }
}

fn each_seed(test: impl Fn(&Random)) {
    for seed in 0..ROUNDS {
        test(&Random::new(seed));
    }
}

/// Delivers the data in an envelope of any form, and asserts that the delivery serializes to the same bytes.
fn deliver(random: &Random, name: &str, data: &str) -> Delivery {
    let (owner, time) = (value(random, Kind::Person), random.below(4_000_000_000_000) as i64);
    let uuid = format!("{}{}", text(random), random.below(1_000_000));
    let mut fields = vec![
        ("event", quote(random, name)),
        ("data", data.to_owned()),
        ("file", quote(random, "5c6fb52c194afb281976f5e4")),
        ("owner", spell(random, &owner)),
        ("runTimestamp", spell(random, &Value::Time(time))),
        ("uuid", quote(random, &uuid)),
    ];
    if random.one_in(2) {
        fields.push(("retry", plain(random)));
    }
    let body = object(random, fields);
    let delivery = Delivery::for_test(body.clone()).unwrap();
    assert_eq!((delivery.raw(), delivery.raw_data().as_str()), (&bytes::Bytes::from(body.clone()), data));
    assert_eq!(serde_json::to_string(&delivery).unwrap(), body);
    assert_eq!(serde_json::to_string(delivery.event()).unwrap(), data);
    assert_eq!((delivery.event_name(), delivery.uuid()), (name, uuid.as_str()));
    assert_eq!(delivery.triggered_at().unwrap().as_millisecond(), time, "{body}");
    assert_eq!(person(delivery.owner()), owner, "{body}");
    let line: serde_json::Value = serde_json::from_str(&delivery.to_json_line()).unwrap();
    assert_eq!(line, serde_json::from_str::<serde_json::Value>(&body).unwrap());
    delivery
}
