//! The shapes in which SmartShape's documents have been seen, and unexpected ones.

use serde_json::json;
use smartshape_webhook::{Attributes, Color, Event, EventKind, FileState, RawJson};

fn decode(name: &str, data: &serde_json::Value) -> Event {
    Event::decode(name, RawJson::parse(data.to_string()).unwrap())
}

#[test]
fn newer_annotations_decode() {
    let data = json!({
        "id": "a", "uuid": "46a6c861", "attributes": [{"key": "k", "value": 1, "origin": "o"}], "label": null,
        "permissions": {"writeUuid": [], "readFolders": []}, "folders": ["f"], "targetObjects": [{"x": 1}],
        "targets": [{"node": "n", "position": {"x": 1, "y": 2.5, "z": 3}, "surfaceNormal": {"x": 0, "y": 0, "z": 1}, "_id": "t"}],
        "cameraX": 1, "cameraY": 2, "cameraZ": 3, "cameraTargetX": 0, "cameraTargetY": 0.5, "cameraTargetZ": 0,
        "color": [0.5, 1], "author": {"id": "5c6aeed079bf3f432d3c929e", "username": "Zoé"},
        "date": "2019-01-20T08:39:08.529Z", "lastUpdate": 1_550_826_341_717_u64
    });
    let Event::AnnotationCreated(annotation) = decode("annotation_created", &data) else { panic!() };
    assert_eq!(annotation.id().unwrap(), "a");
    let attribute = annotation.attributes.get("k").unwrap();
    assert_eq!((attribute.value.as_str(), attribute.origin.as_deref()), ("1", Some("o")));
    assert_eq!(annotation.targets[0].position.unwrap().y, 2.5);
    assert_eq!(annotation.targets[0].id(), Some("t"));
    assert_eq!(annotation.camera_target().unwrap().y, 0.5);
    assert_eq!(annotation.color, Some(Color::Numbers(vec![0.5, 1.0])));
    assert_eq!(annotation.author.as_ref().unwrap().username(), Some("Zoé"));
    assert_eq!(annotation.content, None);

    let permissions = json!({"old": {"permissions": {}, "content": "x"}, "new": {"permissions": []}});
    let Event::AnnotationUpdated(updated) = decode("annotation_updated", &permissions) else { panic!() };
    let paths: Vec<_> = updated.changes().into_iter().map(|change| change.path).collect();
    assert_eq!(paths, ["/content"]);
}

#[test]
fn newer_files_decode() {
    let data = json!({
        "_id": "a", "id": "b", "created": 1_547_973_548_529_u64, "updated": null, "state": "melting", "size": 100.0,
        "user": "5c6aeed079bf3f432d3c929e", "owner": {"_id": "x"}, "error": "out of memory", "roles": null
    });
    let Event::FileOptimized(file) = decode("file_optimized", &data) else { panic!() };
    assert_eq!(file.id().unwrap(), "a");
    assert_eq!(file.created.unwrap().to_string(), "2019-01-20T08:39:08.529Z");
    assert_eq!((file.updated, file.size), (None, Some(100)));
    assert_eq!(file.state, Some(FileState::Other("melting".to_owned())));
    assert_eq!(file.error(), Some("out of memory"));
    assert_eq!(file.user.as_ref().unwrap().id(), Some("5c6aeed079bf3f432d3c929e"));
}

#[test]
fn newer_configurations_decode() {
    let data = json!({"modifiers": [{"node": "n", "details": {"visible": false}, "_id": "m", "type": "visibility"}],
        "renderMode": "5f5b3ba35d45744bc74b16e0", "explodedViewDistance": 2, "lockedBy": {"email": "a@b"}});
    let Event::ConfigurationCreated(configuration) = decode("configuration_created", &data) else { panic!() };
    assert_eq!(configuration.modifiers[0].details.as_ref().unwrap().as_str(), r#"{"visible":false}"#);
    assert_eq!(configuration.modifiers[0].id(), Some("m"));
    assert_eq!(configuration.exploded_view_distance, Some(2.0));
    assert_eq!(configuration.locked_by.as_ref().unwrap().email(), Some("a@b"));
}

#[test]
fn hundred_thousand_attributes_decode() {
    let many: serde_json::Map<_, _> =
        (0..100_000).map(|number| (format!("a{number}"), json!(number))).collect();
    let data = json!({"nodeIdToAttributes": {"n": many}});
    let Event::AttributeUpdated(event) = decode("attribute_updated", &data) else { panic!() };
    assert_eq!(event.attributes().count(), 100_000);
}

#[test]
fn event_names_are_those_of_the_wire() {
    for kind in EventKind::ALL {
        // Without data some of the nine are undecodable; an undecoded event keeps its name.
        assert_eq!(decode(kind.as_str(), &json!({})).name(), kind.as_str());
    }
    assert_eq!(decode("file_deleted", &json!({})).name(), "file_deleted");
    assert!(!decode("file_deleted", &json!({})).is_undecoded());
    for state in ["queued", "converting", "converted", "melting"] {
        let read = FileState::from(state.to_owned());
        assert_eq!((read.as_str(), read.to_string().as_str()), (state, state));
        assert_eq!(matches!(read, FileState::Other(_)), state == "melting");
    }
}

#[test]
fn count_is_whole_in_every_spelling() {
    for (size, count) in [
        ("0", Some(0)),
        ("-0.0", Some(0)),
        ("1e2", Some(100)),
        ("9007199254740991.0", Some(9_007_199_254_740_991)),
        ("18446744073709551615", Some(u64::MAX)),
        ("100.5", None),
        ("-1", None),
        ("-1.0", None),
        ("9007199254740992.0", None),
    ] {
        let data = RawJson::parse(format!(r#"{{"size":{size}}}"#)).unwrap();
        let read = match Event::decode("file_uploaded", data) {
            Event::FileUploaded(file) => file.size,
            other => {
                assert!(other.is_undecoded());
                None
            }
        };
        assert_eq!(read, count, "{size}");
    }
}

#[test]
fn attributes_have_a_length() {
    for (json, length) in [("{}", 0), (r#"{"a": 2.5}"#, 1), (r#"{"a": 1, "b": 2, "c": 3}"#, 3)] {
        let attributes: Attributes = serde_json::from_str(json).unwrap();
        assert_eq!((attributes.len(), attributes.is_empty()), (length, length == 0), "{json}");
    }
}

#[test]
fn numbers_are_the_nearest_floats() {
    // Spread over all that a float can be.
    let numbers = (1..10_000_u64).map(|number| f64::from_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    for number in numbers.filter(|number| number.is_finite()).chain([0.1, 3.394551, 9_007_199_254_740_991.0])
    {
        let text = format!("{number:?}");
        let attributes: Attributes = serde_json::from_str(&format!(r#"{{"a":{text}}}"#)).unwrap();
        assert_eq!(attributes.get("a").unwrap().as_f64(), Some(number), "{text}");
    }
}

#[test]
fn undecodable_event_keeps_its_data_and_name() {
    let (expected, missing) = ("expected an object at line 1 column", "missing field");
    for (name, data, why) in [
        ("file_uploaded", json!([]), expected),
        ("file_uploaded", json!(null), expected),
        ("file_uploaded", json!("a text"), expected),
        ("annotation_updated", json!({"old": {}}), missing),
        ("annotation_updated", json!({"old": {}, "new": [7]}), expected),
        ("annotation_updated", json!({"new": {}}), missing),
        ("attribute_updated", json!({}), missing),
        ("attribute_updated", json!({"nodeIdToAttributes": 7}), "expected an object at line 1 column 23"),
    ] {
        let event = decode(name, &data);
        let Event::Undecoded(undecoded) = &event else { panic!("{name} {data} {event:?}") };
        assert_eq!(undecoded.kind().as_str(), name);
        assert!(event.is_undecoded() && !event.is_unknown());
        let (shown, debugged) = (undecoded.error().to_string(), format!("{:?}", undecoded.error()));
        assert!(shown.contains(why) && debugged.contains(why), "{shown} {debugged}");
        assert_eq!(undecoded.raw().as_str(), data.to_string());
    }
    let Event::Unknown(unknown) = decode("file_deleted", &json!({"a": 1})) else { panic!() };
    assert_eq!((unknown.name(), unknown.raw().as_str()), ("file_deleted", r#"{"a":1}"#));
    assert_eq!(decode("file_deleted", &json!(1)).kind(), None::<EventKind>);
    assert!(decode("file_deleted", &json!(1)).is_unknown());
}
