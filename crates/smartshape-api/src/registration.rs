//! A webhook as listed by SmartShape.

use std::fmt;

use serde_json::Value;
use smartshape_webhook::EventKind;

use crate::url::redact_url;

/// A registered webhook, as listed by [`Client::list_webhooks`](crate::Client::list_webhooks). `Debug` applies
/// [`redact_url`] to the URL.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The webhook's id.
    pub id: String,
    /// The event's name, which need not be one of [`EventKind`].
    pub event: Option<String>,
    /// Callback URL. SmartShape does not document whether lists show it.
    pub url: Option<String>,
    /// The owner's name, e-mail address or id. SmartShape does not document whether lists show it.
    pub owner: Option<String>,
}

impl Registration {
    /// The event, if it is one of the nine.
    ///
    /// ```no_run
    /// # async fn example(client: smartshape_api::Client) -> Result<(), smartshape_api::Error> {
    /// for webhook in client.list_webhooks().await? {
    ///     println!("{} {:?}", webhook.id, webhook.kind());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        self.event.as_deref()?.parse().ok()
    }

    /// Parses a resource; `None` if it has no id. Responses to creations and lists hold the id in different fields;
    /// both are accepted in either. Secrets are dropped.
    pub(crate) fn read(resource: &Value) -> Option<Self> {
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let within = |name: &str| resource.pointer("/attributes").and_then(|inner| inner.get(name));
        let field = |name: &str| text(within(name)).or_else(|| text(resource.get(name)));
        let id = text(resource.get("id"))
            .or_else(|| text(within("_id")))
            .or_else(|| text(within("id")))
            .or_else(|| text(resource.get("_id")))?;
        let person = within("owner").or_else(|| resource.get("owner"));
        let owner = text(person).or_else(|| {
            let person = person?;
            ["username", "email", "id", "_id"].into_iter().find_map(|name| text(person.get(name)))
        });
        Some(Self { id, event: field("event"), url: field("url"), owner })
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, event, url, owner } = self;
        let url = url.as_deref().map(redact_url);
        let mut shown = f.debug_struct("Registration");
        shown.field("id", id).field("event", event).field("url", &url).field("owner", owner).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn id_is_read_from_every_field() {
        for resource in [
            json!({"type": "webhook", "attributes": {"__v": 0, "_id": "5c6f"}}),
            json!({"type": "webhook", "id": "5c6f", "attributes": {"event": "file_uploaded"}}),
            json!({"id": "5c6f", "attributes": {"_id": "another"}}),
            json!({"id": "", "attributes": {"_id": "5c6f"}}),
            json!({"attributes": {"id": "5c6f"}}),
            json!({"_id": "5c6f"}),
        ] {
            assert_eq!(Registration::read(&resource).unwrap().id, "5c6f", "{resource}");
        }
        for resource in [json!({}), json!({"id": 7}), json!([]), json!(null), json!({"attributes": "5c6f"})] {
            assert_eq!(Registration::read(&resource), None, "{resource}");
        }
    }

    #[test]
    fn optional_fields() {
        let read =
            |attributes: Value| Registration::read(&json!({"id": "5c6f", "attributes": attributes})).unwrap();
        let bare = read(json!({}));
        assert_eq!((bare.event, bare.url, bare.owner), (None, None, None));
        let full = read(
            json!({"event": "file_uploaded", "url": "https://a/", "owner": "ada", "secretToken": "$2b$"}),
        );
        assert_eq!((full.kind(), full.url.as_deref()), (Some(EventKind::FileUploaded), Some("https://a/")));
        assert_eq!(full.owner.as_deref(), Some("ada"));
        assert_eq!(read(json!({"event": "new_one"})).kind(), None);
        let owner = read(json!({"owner": {"id": "5b", "username": "ada"}})).owner;
        assert_eq!(owner.as_deref(), Some("ada"));
        let flat =
            Registration::read(&json!({"_id": "5c6f", "event": "file_optimized", "url": "u"})).unwrap();
        assert_eq!((flat.kind(), flat.url.as_deref()), (Some(EventKind::FileOptimized), Some("u")));
    }
}
