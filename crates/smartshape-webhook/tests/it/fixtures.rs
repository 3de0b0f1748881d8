//! The nine sample events of SmartShape's manual.

use smartshape_webhook::{Envelope, Event, EventKind, FileState, Person, RawJson};

macro_rules! fixtures {
    ($($kind:ident: $name:literal,)*) => {
        [$((
            EventKind::$kind,
            include_str!(concat!("../../../smartshape-fake/fixtures/", $name, ".json")),
        ),)*]
    };
}

const FIXTURES: [(EventKind, &str); 9] = fixtures! {
    AttributeUpdated: "attribute_updated",
    FileUploaded: "file_uploaded",
    FileOptimized: "file_optimized",
    AnnotationCreated: "annotation_created",
    AnnotationUpdated: "annotation_updated",
    AnnotationRemoved: "annotation_removed",
    ConfigurationCreated: "configuration_created",
    ConfigurationUpdated: "configuration_updated",
    ConfigurationRemoved: "configuration_removed",
};

fn event(expected: EventKind) -> Event {
    let (_, body) = FIXTURES.into_iter().find(|(kind, _)| *kind == expected).unwrap();
    let envelope = Envelope::parse(body.as_bytes()).unwrap();
    Event::decode(envelope.event(), RawJson::parse(envelope.data().to_owned()).unwrap())
}

#[test]
fn fixtures_are_typed_and_serialize_unchanged() {
    for (kind, body) in FIXTURES {
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        assert_eq!(envelope.kind(), Some(kind));
        assert_eq!(envelope.owner(), &Person::Email("test@smartshape.io".to_owned()));
        assert!(envelope.triggered_at().unwrap().to_string().starts_with("20"), "{kind}");
        let event = event(kind);
        assert_eq!(event.kind(), Some(kind));
        assert!(!matches!(event, Event::Unknown(_) | Event::Undecoded(_)), "{event:?}");
        assert_eq!(serde_json::to_string(&event).unwrap(), envelope.data());
    }
}

#[test]
fn attribute_fixture_decodes() {
    let Event::AttributeUpdated(event) = event(EventKind::AttributeUpdated) else { panic!() };
    assert_eq!(event.user().and_then(Person::email), Some("test@smartshape.io"));
    let attributes: Vec<_> = event
        .attributes()
        .map(|(node, attribute)| (node.as_str(), attribute.name.as_str(), attribute.text()))
        .collect();
    assert_eq!(attributes, [("5b337c601e24e904da827738", "new attr 1", "myValue 42".to_owned())]);
}

#[test]
fn file_fixtures_decode() {
    let Event::FileUploaded(uploaded) = event(EventKind::FileUploaded) else { panic!() };
    assert_eq!(uploaded.name.as_deref(), Some("test_model.scene"));
    assert_eq!((uploaded.size, &uploaded.state), (Some(6_581_919), &Some(FileState::Queued)));
    assert_eq!(uploaded.error(), None, "an empty text is no error");
    assert!(uploaded.scene_tree_names.is_empty());

    let Event::FileOptimized(optimized) = event(EventKind::FileOptimized) else { panic!() };
    assert_eq!(optimized.scene_tree_names, ["default"]);
    assert_eq!(optimized.scene_tree_roots[0], "5da2149a-5623-75dd-65ba-37dc6c4275aa");
}

#[test]
fn annotation_fixtures_decode() {
    let Event::AnnotationCreated(created) = event(EventKind::AnnotationCreated) else { panic!() };
    assert_eq!(created.content.as_deref(), Some("DESCRIPTION"));
    let camera = created.camera().unwrap();
    assert_eq!((camera.x, camera.y, camera.z), (3.394551, 1.988481, 3.394551));
    assert_eq!(created.camera_target(), None);

    let Event::AnnotationUpdated(updated) = event(EventKind::AnnotationUpdated) else { panic!() };
    assert_eq!(updated.before().name.as_deref(), Some("test1"));
    assert_eq!(updated.after().name.as_deref(), Some("TITLE3"));
    let paths: Vec<_> = updated.changes().into_iter().map(|change| change.path).collect();
    assert_eq!(paths, ["/name"]);
}

#[test]
fn configuration_fixtures_decode() {
    let Event::ConfigurationCreated(created) = event(EventKind::ConfigurationCreated) else { panic!() };
    assert_eq!(created.last_activation(), None, "the start of 1970 means never");
    assert_eq!(created.exploded_view_distance, None);
    assert_eq!(created.enabled_behaviors.len(), 2);
    assert_eq!(created.camera_fov_index.as_ref().unwrap().as_str(), "0");

    let Event::ConfigurationRemoved(removed) = event(EventKind::ConfigurationRemoved) else { panic!() };
    assert_eq!(removed.last_modification_author.as_ref().and_then(Person::email), Some("test@smartshape.io"));
    assert_eq!(removed.last_activation().unwrap().to_string(), "2020-09-11T09:23:36.585Z");

    let Event::ConfigurationUpdated(updated) = event(EventKind::ConfigurationUpdated) else { panic!() };
    assert_eq!((updated.before().layers_enabled, updated.after().layers_enabled), (Some(true), Some(false)));
    let paths: Vec<_> = updated.changes().into_iter().map(|change| change.path).collect();
    assert_eq!(paths, ["/layersEnabled", "/lastModificationDate"]);
}
