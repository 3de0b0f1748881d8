//! The events that the fake sends: the manual's samples, with changes.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use smartshape_webhook::EventKind;
use uuid::Uuid;

/// An event to send.
///
/// ```
/// use serde_json::json;
/// use smartshape_fake::EventPayload;
/// use smartshape_webhook::EventKind;
///
/// let event = EventPayload::sample(EventKind::FileUploaded).with_data(json!({"name": "engine.scene"}));
/// let body: serde_json::Value = serde_json::from_slice(&event.to_body())?;
/// assert_eq!(body["event"], "file_uploaded");
/// assert_eq!(body["data"]["name"], "engine.scene");
/// assert_ne!(event.uuid(), EventPayload::sample(EventKind::FileUploaded).uuid());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EventPayload {
    event: String,
    uuid: String,
    body: Body,
    /// The caller set the owner.
    owner_chosen: bool,
}

#[derive(Clone, Debug)]
enum Body {
    Exact(Bytes),
    Fields { file: String, owner: String, run_timestamp: i64, data: String },
}

impl EventPayload {
    /// The manual's sample event, with a new `uuid` and the current time.
    #[must_use]
    pub fn sample(kind: EventKind) -> Self {
        let sample: Value = serde_json::from_str(sample_text(kind)).unwrap_or_default();
        let text = |field: &str| sample[field].as_str().unwrap_or_default().to_owned();
        let fields = Body::Fields {
            file: text("file"),
            owner: text("owner"),
            run_timestamp: jiff::Timestamp::now().as_millisecond(),
            data: data_text(sample_text(kind)),
        };
        Self {
            event: kind.as_str().to_owned(),
            uuid: Uuid::new_v4().to_string(),
            body: fields,
            owner_chosen: false,
        }
    }

    /// The manual's sample event, byte for byte, including its `uuid`.
    #[must_use]
    pub fn exact_sample(kind: EventKind) -> Self {
        Self::from_body(sample_text(kind))
    }

    /// Any body, sent unchanged. [`event`](Self::event) and [`uuid`](Self::uuid) are empty if the body is not JSON that
    /// has them.
    #[must_use]
    pub fn from_body(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |field: &str| parsed[field].as_str().unwrap_or_default().to_owned();
        Self { event: text("event"), uuid: text("uuid"), body: Body::Exact(body), owner_chosen: false }
    }

    /// Replaces `data`. No effect on an exact body.
    #[must_use]
    pub fn with_data(mut self, value: impl Into<Value>) -> Self {
        if let Body::Fields { data, .. } = &mut self.body {
            *data = value.into().to_string();
        }
        self
    }

    /// Replaces `data` with JSON text, which keeps its digits and escapes. No effect on an exact body.
    ///
    /// # Errors
    ///
    /// If the text is not JSON.
    pub fn with_raw_data(mut self, text: &str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        if let Body::Fields { data, .. } = &mut self.body {
            raw.get().clone_into(data);
        }
        Ok(self)
    }

    /// Sets the file's id; no effect on an exact body.
    #[must_use]
    pub fn with_file(mut self, id: impl Into<String>) -> Self {
        if let Body::Fields { file, .. } = &mut self.body {
            *file = id.into();
        }
        self
    }

    /// Sets the owner; no effect on an exact body.
    #[must_use]
    pub fn with_owner(mut self, person: impl Into<String>) -> Self {
        if let Body::Fields { owner, .. } = &mut self.body {
            *owner = person.into();
            self.owner_chosen = true;
        }
        self
    }

    /// Sets the owner, unless the caller chose one.
    pub(crate) fn or_owner(self, person: String) -> Self {
        if self.owner_chosen { self } else { self.with_owner(person) }
    }

    /// The event's name.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The event's unique id.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The body to send.
    #[must_use]
    pub fn to_body(&self) -> Bytes {
        match &self.body {
            Body::Exact(body) => body.clone(),
            Body::Fields { file, owner, run_timestamp, data } => format!(
                r#"{{"file":{},"event":{},"data":{data},"owner":{},"runTimestamp":{run_timestamp},"uuid":{}}}"#,
                json!(file),
                json!(self.event),
                json!(owner),
                json!(self.uuid),
            )
            .into(),
        }
    }
}

/// The manual's sample event, byte for byte.
#[must_use]
pub fn sample_text(kind: EventKind) -> &'static str {
    match kind {
        EventKind::FileUploaded => include_str!("../fixtures/file_uploaded.json"),
        EventKind::FileOptimized => include_str!("../fixtures/file_optimized.json"),
        EventKind::AnnotationCreated => include_str!("../fixtures/annotation_created.json"),
        EventKind::AnnotationUpdated => include_str!("../fixtures/annotation_updated.json"),
        EventKind::AnnotationRemoved => include_str!("../fixtures/annotation_removed.json"),
        EventKind::ConfigurationCreated => include_str!("../fixtures/configuration_created.json"),
        EventKind::ConfigurationUpdated => include_str!("../fixtures/configuration_updated.json"),
        EventKind::ConfigurationRemoved => include_str!("../fixtures/configuration_removed.json"),
        _ => include_str!("../fixtures/attribute_updated.json"),
    }
}

fn data_text(sample: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_str(sample).map_or_else(|_| "null".to_owned(), |Data { data }| data.get().to_owned())
}
