//! The fields of each view, by their names on the wire.

use smartshape_webhook::{Annotation, Configuration, FileDocument, Person, RawJson};

use super::spelling::{Document, Kind, NEVER, Value};

/// A table of the fields and their kinds, and a function that reads those that a view has.
macro_rules! fields {
    ($table:ident, $read:ident($view:ident: $type:ty) { $($name:literal: $kind:ident = $value:expr,)* }) => {
        pub(super) const $table: &[(&str, Kind)] = &[$(($name, Kind::$kind)),*];

        pub(super) fn $read($view: &$type) -> Document {
            let fields = [$(($name, $value)),*];
            fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
        }
    };
}

fields!(FILE, file_view(file: FileDocument) {
    "_id": Text = texts(&file.id()),
    "name": Text = texts(&file.name),
    "parent": Text = texts(&file.parent),
    "key": Text = texts(&file.key),
    "bucket": Text = texts(&file.bucket),
    "owner": Person = file.owner.as_ref().map(person),
    "user": Person = file.user.as_ref().map(person),
    "size": Count = file.size.map(Value::Count),
    "created": Time = time(file.created),
    "updated": Time = time(file.updated),
    "revisionDate": Time = time(file.revision_date),
    "state": Text = texts(&file.state.as_ref().map(|state| state.as_str())),
    "error": Text = texts(&file.error()),
    "isLink": Flag = file.is_link.map(Value::Flag),
    "shareToken": Text = texts(&file.share_token),
});

fields!(ANNOTATION, annotation_view(annotation: Annotation) {
    "_id": Text = texts(&annotation.id()),
    "uuid": Text = texts(&annotation.uuid),
    "name": Text = texts(&annotation.name),
    "content": Text = texts(&annotation.content),
    "author": Person = annotation.author.as_ref().map(person),
    "file": Text = texts(&annotation.file),
    "date": Time = time(annotation.date),
    "lastUpdate": Time = time(annotation.last_update),
    "cameraX": Number = annotation.camera().map(|point| Value::Number(point.x)),
    "cameraY": Number = annotation.camera().map(|point| Value::Number(point.y)),
    "cameraZ": Number = annotation.camera().map(|point| Value::Number(point.z)),
    "permissions": Any = annotation.permissions.as_ref().map(nothing),
});

fields!(CONFIGURATION, configuration_view(configuration: Configuration) {
    "_id": Text = texts(&configuration.id()),
    "name": Text = texts(&configuration.name),
    "file": Text = texts(&configuration.file),
    "author": Person = configuration.author.as_ref().map(person),
    "date": Time = time(configuration.date),
    "lastModificationAuthor": Person = configuration.last_modification_author.as_ref().map(person),
    "lastModificationDate": Time = time(configuration.last_modification_date),
    "lastActivationDate": Time = time(configuration.last_activation()),
    "lockedBy": Person = configuration.locked_by.as_ref().map(person),
    "activeOnStart": Flag = configuration.active_on_start.map(Value::Flag),
    "renderMode": Text = texts(&configuration.render_mode),
    "explodedViewDistance": Number = configuration.exploded_view_distance.map(Value::Number),
    "zNear": Number = configuration.z_near.map(Value::Number),
    "environmentFile": Any = configuration.environment_file.as_ref().map(nothing),
});

/// What a view can show of a document: an empty error is none, 1970 means never, and a point has three parts.
pub(super) fn seen(document: &Document) -> Document {
    const CAMERA: [&str; 3] = ["cameraX", "cameraY", "cameraZ"];
    let whole = CAMERA.iter().all(|part| document.contains_key(part));
    let shown = |name: &str, value: &Value| match (name, value) {
        ("error", Value::Text(text)) => !text.is_empty(),
        ("lastActivationDate", time) => *time != Value::Time(NEVER),
        _ => whole || !CAMERA.contains(&name),
    };
    document
        .iter()
        .filter(|(name, value)| shown(name, value))
        .map(|(name, value)| (*name, value.clone()))
        .collect()
}

fn texts(value: &Option<impl AsRef<str>>) -> Option<Value> {
    value.as_ref().map(|text| Value::Text(text.as_ref().to_owned()))
}

fn time(value: Option<jiff::Timestamp>) -> Option<Value> {
    value.map(|time| Value::Time(time.as_millisecond()))
}

fn nothing(raw: &RawJson) -> Value {
    assert!(matches!(raw.as_str(), "{}" | "[]"), "{raw}");
    Value::Nothing
}

pub(super) fn person(person: &Person) -> Value {
    Value::Person([person.id(), person.email(), person.username()].map(|part| part.map(str::to_owned)))
}
