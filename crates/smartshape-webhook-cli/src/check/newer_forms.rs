//! Documents in the forms that other pages of SmartShape's documentation show.

use serde_json::{Value, json};
use smartshape_webhook::EventKind;

use super::fixture::Fixture;
use super::request::Request;

const ID: &str = "5c6aeed079bf3f432d3c929e";

pub(crate) fn annotation(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    let target = json!({
        "node": ID, "position": {"x": 1, "y": 2.5, "z": 0}, "surfaceNormal": {"x": 0, "y": 1, "z": 0}, "_id": ID,
    });
    let change = |event: &mut Value| {
        let annotation = &mut event["data"];
        for field in ["writeUuid", "readUuid", "writeFolders", "readFolders"] {
            annotation["permissions"][field] = json!([]);
        }
        put(
            annotation,
            json!({
                "cameraX": 3, "cameraTargetX": 0, "cameraTargetY": 1.5, "cameraTargetZ": -2, "color": [0.5, 1],
                "folders": [], "targetObjects": [], "attributes": {}, "label": "A",
                "uuid": "a90c85c3-fa3e-4a88-be6f-8c1270c4c27b", "targets": [target],
            }),
        );
        remove(annotation, "content");
    };
    vec![
        changed(fixture, kind, "with newer fields, and no content", change),
        changed(fixture, kind, "permissions as a list", |event| event["data"]["permissions"] = json!([])),
    ]
}

pub(crate) fn attributes(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    let attribute = json!({"key": "new attr 1", "value": 42, "origin": "user"});
    let with_attributes = |what: &str, attributes: Value| {
        changed(fixture, kind, what, |event| event["data"]["nodeIdToAttributes"] = json!({ID: attributes}))
    };
    vec![
        with_attributes("values as objects", json!({"new attr 1": attribute})),
        with_attributes("a list of attributes", json!([attribute])),
        with_attributes("numbers and null", json!({"a": 1.5, "b": null, "c": true})),
    ]
}

pub(crate) fn file(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    let date = 1_547_973_548_529_i64;
    let dates = json!({"created": date, "updated": date, "revisionDate": date});
    vec![
        changed(fixture, kind, "dates as numbers", |event| put(&mut event["data"], dates)),
        changed(fixture, kind, "id instead of _id, and no __v", |event| {
            let file = &mut event["data"];
            file["id"] = file["_id"].take();
            remove(file, "_id");
            remove(file, "__v");
        }),
        changed(fixture, kind, "another state", |event| event["data"]["state"] = json!("waiting")),
    ]
}

pub(crate) fn configuration(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    let change = |event: &mut Value| {
        put(
            &mut event["data"]["new"],
            json!({
                "lastModificationDate": 1_599_814_604_406_i64, "renderMode": ID, "explodedViewDistance": 0.5,
                "lastModificationAuthor": {"id": ID, "username": "test"}, "lockedBy": ID,
                "modifiers": [{"node": ID, "details": {"opacity": 0.5}, "_id": ID, "type": "material"}],
            }),
        );
    };
    vec![changed(fixture, kind, "", change)]
}

pub(crate) fn people(fixture: &Fixture, kind: EventKind) -> Vec<Request> {
    let person = json!({"id": ID, "username": "smartshape-check"});
    vec![
        changed(fixture, kind, "as ids", |event| event["owner"] = json!(ID)),
        changed(fixture, kind, "as objects", |event| event["owner"] = person),
    ]
}

fn changed(fixture: &Fixture, kind: EventKind, what: &str, change: impl FnOnce(&mut Value)) -> Request {
    fixture.changed(kind, change).what(what)
}

fn put(document: &mut Value, fields: Value) {
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
}

fn remove(document: &mut Value, field: &str) {
    document.as_object_mut().map(|fields| fields.remove(field));
}
