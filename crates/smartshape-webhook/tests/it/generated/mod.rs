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

#[test]
fn files_say_what_was_written() {
    each_seed(|random| {
        let document = document(random, FILE);
        let data = write(random, &document);
        let name = random.pick(&["file_uploaded", "file_optimized"]);
        let read: Document = match deliver(random, name, &data).event() {
            Event::FileUploaded(file) => file_view(file),
            Event::FileOptimized(file) => file_view(file),
            other => panic!("{other:?}"),
        };
        assert_eq!(read, seen(&document), "{data}");
    });
}

#[test]
fn annotations_say_what_was_written() {
    each_seed(|random| {
        let document = document(random, ANNOTATION);
        let data = write(random, &document);
        let name = random.pick(&["annotation_created", "annotation_removed"]);
        let read = match deliver(random, name, &data).event() {
            Event::AnnotationCreated(annotation) => annotation_view(annotation),
            Event::AnnotationRemoved(annotation) => annotation_view(annotation),
            other => panic!("{other:?}"),
        };
        assert_eq!(read, seen(&document), "{data}");
    });
}

#[test]
fn configurations_say_what_was_written() {
    each_seed(|random| {
        let document = document(random, CONFIGURATION);
        let data = write(random, &document);
        let name = random.pick(&["configuration_created", "configuration_removed"]);
        let read = match deliver(random, name, &data).event() {
            Event::ConfigurationCreated(configuration) => configuration_view(configuration),
            Event::ConfigurationRemoved(configuration) => configuration_view(configuration),
            other => panic!("{other:?}"),
        };
        assert_eq!(read, seen(&document), "{data}");
    });
}

#[test]
fn changes_are_those_of_values() {
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
fn attributes_say_what_was_written_in_every_shape() {
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
        let of: &Attributes = &annotation.attributes;
        assert_eq!(of.iter().map(|one| &one.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    });
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

/// Around the data an envelope of any form; what comes out is byte for byte what went in.
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
