//! The fields of each view, by their names on the wire.

use smartshape_webhook::{Annotation, Configuration, FileDocument, Person, RawJson};

use super::spelling::{Document, Kind, NEVER, Value};

pub(super) const FILE: &[(&str, Kind)] = &[
    ("_id", Kind::Text),
    ("name", Kind::Text),
    ("parent", Kind::Text),
    ("key", Kind::Text),
    ("bucket", Kind::Text),
    ("owner", Kind::Person),
    ("user", Kind::Person),
    ("size", Kind::Count),
    ("created", Kind::Time),
    ("updated", Kind::Time),
    ("revisionDate", Kind::Time),
    ("state", Kind::Text),
    ("error", Kind::Text),
    ("isLink", Kind::Flag),
    ("shareToken", Kind::Text),
];
pub(super) const ANNOTATION: &[(&str, Kind)] = &[
    ("_id", Kind::Text),
    ("uuid", Kind::Text),
    ("name", Kind::Text),
    ("content", Kind::Text),
    ("author", Kind::Person),
    ("file", Kind::Text),
    ("date", Kind::Time),
    ("lastUpdate", Kind::Time),
    ("cameraX", Kind::Number),
    ("cameraY", Kind::Number),
    ("cameraZ", Kind::Number),
    ("permissions", Kind::Any),
];
pub(super) const CONFIGURATION: &[(&str, Kind)] = &[
    ("_id", Kind::Text),
    ("name", Kind::Text),
    ("file", Kind::Text),
    ("author", Kind::Person),
    ("date", Kind::Time),
    ("lastModificationAuthor", Kind::Person),
    ("lastModificationDate", Kind::Time),
    ("lastActivationDate", Kind::Time),
    ("lockedBy", Kind::Person),
    ("activeOnStart", Kind::Flag),
    ("renderMode", Kind::Text),
    ("explodedViewDistance", Kind::Number),
    ("zNear", Kind::Number),
    ("environmentFile", Kind::Any),
];

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

/// Those fields that the view has.
fn present<const N: usize>(fields: [(&'static str, Option<Value>); N]) -> Document {
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn texts(value: &Option<impl AsRef<str>>) -> Option<Value> {
    value.as_ref().map(|text| Value::Text(text.as_ref().to_owned()))
}

fn time(value: Option<jiff::Timestamp>) -> Option<Value> {
    value.map(|time| Value::Time(time.as_millisecond()))
}

pub(super) fn file_view(file: &FileDocument) -> Document {
    present([
        ("_id", texts(&file.id())),
        ("name", texts(&file.name)),
        ("parent", texts(&file.parent)),
        ("key", texts(&file.key)),
        ("bucket", texts(&file.bucket)),
        ("owner", file.owner.as_ref().map(person)),
        ("user", file.user.as_ref().map(person)),
        ("size", file.size.map(Value::Count)),
        ("created", time(file.created)),
        ("updated", time(file.updated)),
        ("revisionDate", time(file.revision_date)),
        ("state", texts(&file.state.as_ref().map(|state| state.as_str()))),
        ("error", texts(&file.error())),
        ("isLink", file.is_link.map(Value::Flag)),
        ("shareToken", texts(&file.share_token)),
    ])
}

pub(super) fn annotation_view(annotation: &Annotation) -> Document {
    let camera = annotation.camera();
    present([
        ("_id", texts(&annotation.id())),
        ("uuid", texts(&annotation.uuid)),
        ("name", texts(&annotation.name)),
        ("content", texts(&annotation.content)),
        ("author", annotation.author.as_ref().map(person)),
        ("file", texts(&annotation.file)),
        ("date", time(annotation.date)),
        ("lastUpdate", time(annotation.last_update)),
        ("cameraX", camera.map(|point| Value::Number(point.x))),
        ("cameraY", camera.map(|point| Value::Number(point.y))),
        ("cameraZ", camera.map(|point| Value::Number(point.z))),
        ("permissions", annotation.permissions.as_ref().map(nothing)),
    ])
}

pub(super) fn configuration_view(configuration: &Configuration) -> Document {
    present([
        ("_id", texts(&configuration.id())),
        ("name", texts(&configuration.name)),
        ("file", texts(&configuration.file)),
        ("author", configuration.author.as_ref().map(person)),
        ("date", time(configuration.date)),
        ("lastModificationAuthor", configuration.last_modification_author.as_ref().map(person)),
        ("lastModificationDate", time(configuration.last_modification_date)),
        ("lastActivationDate", time(configuration.last_activation())),
        ("lockedBy", configuration.locked_by.as_ref().map(person)),
        ("activeOnStart", configuration.active_on_start.map(Value::Flag)),
        ("renderMode", texts(&configuration.render_mode)),
        ("explodedViewDistance", configuration.exploded_view_distance.map(Value::Number)),
        ("zNear", configuration.z_near.map(Value::Number)),
        ("environmentFile", configuration.environment_file.as_ref().map(nothing)),
    ])
}

fn nothing(raw: &RawJson) -> Value {
    assert!(matches!(raw.as_str(), "{}" | "[]"), "{raw}");
    Value::Nothing
}
pub(super) fn person(person: &Person) -> Value {
    Value::Person([person.id(), person.email(), person.username()].map(|part| part.map(str::to_owned)))
}
