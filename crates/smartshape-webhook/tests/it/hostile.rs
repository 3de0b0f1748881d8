//! Documents made to do harm: by their depth, digits, doubled keys and broken texts.

use serde_json::{Value, json};
use smartshape_webhook::{
    AnnotationUpdated, Envelope, EnvelopeErrorKind, Event, EventKind, Person, RawJson, TypedEvent,
};

/// Far more than a stack has room for.
const DEPTH: usize = 20_000;

fn nested(open: &str, inner: &str, close: &str) -> String {
    open.repeat(DEPTH) + inner + &close.repeat(DEPTH)
}

fn raw(text: impl Into<bytes::Bytes>) -> RawJson {
    RawJson::parse(text).unwrap()
}

/// The stack of a thread that is easily overflown: whatever recurses once for each level would crash.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(512 * 1024).spawn(test).unwrap().join().unwrap();
}

#[test]
fn deep_and_long_values_of_an_envelope_are_skipped() {
    on_a_small_stack(|| {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let number = "9".repeat(100_000);
        for value in [deep, number] {
            let body = format!(
                r#"{{"more":{value},"file":"f","event":"file_uploaded","data":{value},"owner":{{"x":{value}}},"runTimestamp":1,"uuid":"u"}}"#
            );
            assert_eq!(Envelope::parse(body.as_bytes()).unwrap().data(), value);
            let event = Event::decode("file_uploaded", raw(value.clone()));
            assert!(event.is_undecoded());
            assert_eq!(event.raw().compact(), value);
        }
    });
}

#[test]
fn deep_data_is_kept_in_every_member() {
    for deep in [nested("[", "", "]"), nested(r#"{"a":"#, "1", "}")] {
        on_a_small_stack(move || {
            // One for each form of data.
            for kind in [
                EventKind::AttributeUpdated,
                EventKind::FileUploaded,
                EventKind::AnnotationCreated,
                EventKind::ConfigurationCreated,
            ] {
                for data in [
                    deep.clone(),
                    format!(r#"{{"more":{deep}}}"#),
                    format!(r#"{{"name":{deep}}}"#),
                    format!(r#"{{"author":{deep},"owner":{{"more":{deep}}}}}"#),
                    format!(r#"{{"tags":[{deep}],"modifiers":[{{"details":{deep}}}]}}"#),
                    format!(r#"{{"attributes":{{"a":{deep}}},"nodeIdToAttributes":{{"n":{{"a":{deep}}}}}}}"#),
                ] {
                    let event = Event::decode(kind.as_str(), raw(data.clone()));
                    assert_eq!((event.kind(), event.raw().as_str()), (Some(kind), data.as_str()));
                    assert_eq!(event.raw().compact(), data);
                }
            }
            let updated =
                AnnotationUpdated::from_data(raw(format!(r#"{{"old":{{"x":{deep}}},"new":{{"x":1}}}}"#)));
            assert_eq!(updated.unwrap().changes()[0].path, "/x");
        });
    }
}

#[test]
fn changes_are_found_at_any_depth() {
    on_a_small_stack(|| {
        let version = |inner: &str| nested(r#"{"a":"#, inner, "}");
        let data = format!(r#"{{"old":{},"new":{}}}"#, version("1"), version("2"));
        let changes = AnnotationUpdated::from_data(raw(data)).unwrap().changes();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].path.starts_with("/a/a/a"), "{}", changes[0].path);
    });
}

#[test]
fn own_type_gets_an_error_for_deep_data() {
    on_a_small_stack(|| {
        let error = raw(nested("[", "", "]")).decode::<Value>().unwrap_err();
        assert!(error.to_string().starts_with("recursion limit exceeded"), "{error}");
    });
}

#[test]
fn deep_bodies_are_no_envelopes() {
    on_a_small_stack(|| {
        for (body, kind) in [
            (nested("[", "", "]"), EnvelopeErrorKind::Invalid),
            (nested(r#"{"a":"#, "1", "}"), EnvelopeErrorKind::Invalid),
            ("[".repeat(DEPTH), EnvelopeErrorKind::NotJson),
            (r#"{"a":"#.repeat(DEPTH), EnvelopeErrorKind::NotJson),
        ] {
            assert_eq!(Envelope::parse(body.as_bytes()).unwrap_err().kind(), kind);
        }
    });
}

#[test]
fn unbounded_numbers_are_undecodable() {
    let digits = "9".repeat(1_000_000);
    for number in [&digits, &format!("-{digits}"), &format!("0.{digits}e{digits}"), "1e400", "-1e-400"] {
        for (name, field) in [
            ("file_uploaded", "size"),
            ("file_uploaded", "created"),
            ("annotation_created", "date"),
            ("configuration_created", "lastActivationDate"),
        ] {
            let data = format!(r#"{{"{field}":{number}}}"#);
            let event = Event::decode(name, raw(data.clone()));
            if let Event::Undecoded(undecoded) = &event {
                assert!(undecoded.error().to_string().len() < 500, "the error repeats the number");
            }
            assert_eq!(serde_json::to_string(&event).unwrap(), data);
        }
        let Event::AnnotationCreated(annotation) =
            Event::decode("annotation_created", raw(format!(r#"{{"type":{number},"label":[{number}]}}"#)))
        else {
            panic!("a number whose meaning is not known is kept")
        };
        assert_eq!(annotation.kind.as_ref().unwrap().as_str(), number);
    }
    let versions = format!(r#"{{"old":{{"n":{digits}1}},"new":{{"n":{digits}2}}}}"#);
    assert_eq!(AnnotationUpdated::from_data(raw(versions)).unwrap().changes().len(), 1);
}

#[test]
fn duplicate_fields_are_undecodable() {
    for (name, data) in [
        ("file_uploaded", r#"{"name":"a","name":"b"}"#),
        ("annotation_updated", r#"{"old":{},"new":{},"old":{}}"#),
        ("attribute_updated", r#"{"nodeIdToAttributes":{},"nodeIdToAttributes":{}}"#),
    ] {
        let Event::Undecoded(undecoded) = Event::decode(name, raw(data)) else { panic!("{data}") };
        assert!(undecoded.error().to_string().starts_with("duplicate field"), "{}", undecoded.error());
    }
    let data = raw(r#"{"x":1,"x":2,"nodeIdToAttributes":{"n":{"a":1,"a":2},"n":{"a":3}}}"#);
    let Event::AttributeUpdated(event) = Event::decode("attribute_updated", data) else { panic!() };
    let values: Vec<_> = event.attributes().map(|(_, attribute)| attribute.text()).collect();
    assert_eq!(values, ["1", "2", "3"], "all of them, for the handler to choose");
}

#[test]
fn lone_surrogate_stays_in_the_raw_data() {
    let data = r#"{"user":{"username":"A \ud83d"},"nodeIdToAttributes":{"n \ud83d":{"a \ud83d":"\ud800","b":"\udc00\ud800","c":"\ud83d\ude00"}}}"#;
    let event = Event::decode("attribute_updated", raw(data));
    assert_eq!(serde_json::to_string(&event).unwrap(), data);
    let Event::AttributeUpdated(event) = event else { panic!() };
    let texts: Vec<_> =
        event.attributes().map(|(_, attribute)| (attribute.as_text(), attribute.text())).collect();
    let text = |text: &str| (Some(text.to_owned()), text.to_owned());
    assert_eq!(texts, [text("\u{fffd}"), text("\u{fffd}\u{fffd}"), text("😀")]);
    let (node, attribute) = event.attributes().next().unwrap();
    assert_eq!((node.as_str(), attribute.name.as_str()), ("n \u{fffd}", "a \u{fffd}"));
    assert_eq!(event.user().and_then(Person::username), Some("A \u{fffd}"));
    let versions = raw(r#"{"old":{"n":"\ud800"},"new":{"n":"\ud801"}}"#);
    let changes = AnnotationUpdated::from_data(versions).unwrap().changes();
    assert_eq!((changes.len(), changes[0].path.as_str()), (1, "/n"));
}

#[test]
fn private_key_of_serde_json_is_an_ordinary_key() {
    for key in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
        let data =
            json!({"label": {key: "1"}, "kind": {key: "1"}, "attributes": {"a": {key: "1"}}}).to_string();
        let Event::AnnotationCreated(event) = Event::decode("annotation_created", raw(data.clone())) else {
            panic!("{data}")
        };
        let expected = json!({key: "1"}).to_string();
        assert_eq!(event.label.as_ref().unwrap().as_str(), expected);
        assert_eq!(event.attributes.get("a").unwrap().text(), expected);
        assert_eq!(serde_json::to_string(&event).unwrap(), data);
    }
}
