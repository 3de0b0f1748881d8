//! Every view of the data of an event. The first line is the event's name, the rest its data.
#![no_main]

use std::collections::HashMap;
use std::fmt::Debug;
use std::hint::black_box;

use serde_json::Value;
use smartshape_webhook::{
    Annotation, Attribute, Attributes, Change, Configuration, Event, EventKind, FileDocument, Person,
    RawJson, TypedEvent,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let name = String::from_utf8_lossy(&input[..line]);
    let text = input.get(line + 1..).unwrap_or_default();
    let Ok(data) = RawJson::parse(text.to_vec()) else { return };
    assert_eq!(data.as_bytes(), text);

    let event = Event::decode(&name, data.clone());
    assert_eq!(event.name(), name);
    assert_eq!(event.kind(), name.parse().ok());
    assert_eq!(event.is_unknown(), name.parse::<EventKind>().is_err());
    assert_eq!(event.raw().as_bytes(), text);
    let emitted = serde_json::to_vec(&event).expect("what came in is JSON");
    assert_eq!(emitted, text.trim_ascii(), "serialising changes it");
    look(&event);
    compact(&data);
});

fn look(event: &Event) {
    match event {
        Event::AttributeUpdated(event) => {
            see(event.user().map(person));
            event.attributes().for_each(|(node, one)| {
                see(node);
                attribute(one);
            });
        }
        Event::FileUploaded(event) => file(event),
        Event::FileOptimized(event) => file(event),
        Event::AnnotationCreated(event) => annotation(event),
        Event::AnnotationRemoved(event) => annotation(event),
        Event::AnnotationUpdated(event) => {
            annotation(event.before());
            annotation(event.after());
            changes(event.raw(), &event.changes());
        }
        Event::ConfigurationCreated(event) => configuration(event),
        Event::ConfigurationRemoved(event) => configuration(event),
        Event::ConfigurationUpdated(event) => {
            configuration(event.before());
            configuration(event.after());
            changes(event.raw(), &event.changes());
        }
        Event::Unknown(event) => see(event),
        Event::Undecoded(event) => {
            let error = event.error().to_string();
            assert!(!error.is_empty() && error.len() < 2000, "{error}");
        }
        _ => see(event),
    }
}

fn file(file: &FileDocument) {
    see((file, file.id(), file.error(), file.state.as_ref().map(|state| state.as_str().len())));
    see([&file.owner, &file.user].map(|one| one.as_ref().map(person)));
    file.favorited_by.iter().for_each(|one| see(person(one)));
    attributes(&file.attributes);
}

fn annotation(annotation: &Annotation) {
    see((annotation, annotation.id(), annotation.camera(), annotation.camera_target()));
    see(annotation.author.as_ref().map(person));
    annotation.targets.iter().for_each(|target| see(target.id()));
    attributes(&annotation.attributes);
}

fn configuration(configuration: &Configuration) {
    see((configuration, configuration.id(), configuration.last_activation()));
    configuration.modifiers.iter().for_each(|modifier| see(modifier.id()));
    see(configuration.locked_by.as_ref().map(person));
}

fn attributes(attributes: &Attributes) {
    assert_eq!(attributes.iter().len(), attributes.len());
    assert_eq!(attributes.is_empty(), attributes.len() == 0);
    attributes.iter().for_each(attribute);
}

fn attribute(attribute: &Attribute) {
    see((attribute, attribute.as_text(), attribute.as_f64()));
    // A text without its quotes, or anything else as JSON.
    if attribute.as_text().is_none() {
        assert_eq!(attribute.text(), attribute.value.compact());
    }
}

fn person(person: &Person) -> String {
    see((person.id(), person.email(), person.username()));
    let shown = person.to_string();
    assert!(!shown.is_empty());
    shown
}

/// Each change is at its path in both versions, and there are as many of them the other way round.
fn changes(data: &RawJson, changes: &[Change]) {
    let versions: HashMap<String, RawJson> = data.decode().expect("an object");
    let (old, new) = (&versions["old"], &versions["new"]);
    let text = format!(r#"{{"old":{new},"new":{old}}}"#);
    let back = match Event::decode("annotation_updated", RawJson::parse(text).expect("JSON")) {
        Event::AnnotationUpdated(event) => event.changes().len(),
        _ => changes.len(),
    };
    assert_eq!(changes.len(), back, "{data}");

    let (Ok(old), Ok(new)) = (old.decode::<Value>(), new.decode::<Value>()) else { return };
    assert!(old != new || changes.iter().all(between_numbers), "{changes:?}");
    for change in changes.iter().filter(|change| !renamed(&change.path)) {
        assert_eq!(tree(&change.before).as_ref(), old.pointer(&change.path), "{change:?}");
        assert_eq!(tree(&change.after).as_ref(), new.pointer(&change.path), "{change:?}");
    }
}

/// Numbers that differ may be one float, and so one value here.
fn between_numbers(change: &Change) -> bool {
    [&change.before, &change.after].into_iter().all(|part| matches!(tree(part), Some(Value::Number(_))))
}

/// `_id` and `id` are the same field, found under either name.
fn renamed(path: &str) -> bool {
    path.split('/').any(|step| matches!(step, "_id" | "id"))
}

fn tree(part: &Option<RawJson>) -> Option<Value> {
    part.as_ref().map(|part| part.decode().expect("a part of what was read"))
}

fn compact(data: &RawJson) {
    let compact = data.compact();
    assert!(!compact.contains(['\n', '\r', '\t']), "white space is left: {compact}");
    let again = RawJson::parse(compact.clone()).expect("the same value");
    assert_eq!(again.compact(), compact);
    if let Ok(tree) = data.decode::<Value>() {
        assert_eq!(again.decode::<Value>().ok(), Some(tree), "another value");
    }
}

/// Whatever `Debug` does with it, too.
fn see(value: impl Debug) {
    black_box(format!("{value:?}"));
}
