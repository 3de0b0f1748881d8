//! A delivery as a [`CloudEvent`].

use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use smartshape_webhook::Delivery;

/// All but what the path of a URI may contain and nobody takes for a delimiter.
const ESCAPED_IN_SOURCE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');
/// What the bindings to HTTP and NATS escape.
const ESCAPED_IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// A delivery as a [CloudEvent](https://github.com/cloudevents/spec) of version 1.0, in binary mode: attributes beside
/// the body.
///
/// ```
/// use smartshape_webhook::Delivery;
/// use smartshape_webhook_outlet::CloudEvent;
///
/// let body = r#"{"file": "5c6f", "event": "file_uploaded", "data": {}, "owner": "test@smartshape.io",
///     "runTimestamp": 1548061171539, "uuid": "43a57abb"}"#;
/// let event = CloudEvent::from(&Delivery::for_test(body)?);
/// assert_eq!(event.event_type, "file_uploaded");
/// assert_eq!(event.source, "smartshape:test@smartshape.io");
/// assert_eq!(event.subject.as_deref(), Some("5c6f"));
/// assert_eq!(event.time.to_string(), "2019-01-21T08:59:31.539Z");
/// assert_eq!(event.data, body);
/// # Ok::<(), smartshape_webhook::EnvelopeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloudEvent {
    /// [`Delivery::key`] in hexadecimal: the same for every repetition of the event.
    pub id: String,
    /// `smartshape:` and the owner: the account's id, else the e-mail address, else the name. Percent-encoded, as it is
    /// a URI.
    pub source: String,
    /// The attribute `type`: [`Delivery::event_name`].
    pub event_type: String,
    /// The id of the file; `None` if it is empty.
    pub subject: Option<String>,
    /// When the event was triggered; if SmartShape did not say so, when it was received.
    pub time: Timestamp,
    /// The W3C trace context of the request: the extension attribute for distributed tracing.
    pub traceparent: Option<String>,
    /// The body as it was received.
    pub data: Bytes,
}

impl From<&Delivery> for CloudEvent {
    fn from(delivery: &Delivery) -> Self {
        let owner = delivery.owner();
        let name = owner.id().or(owner.email()).map_or_else(|| owner.to_string(), str::to_owned);
        let file = delivery.file().as_str();
        Self {
            id: delivery.key().to_string(),
            source: format!("smartshape:{}", utf8_percent_encode(&name, ESCAPED_IN_SOURCE)),
            event_type: delivery.event_name().to_owned(),
            subject: Some(file.to_owned()).filter(|file| !file.is_empty()),
            time: delivery.triggered_at().unwrap_or(delivery.received_at()),
            traceparent: delivery.traceparent().map(str::to_owned),
            data: delivery.raw().clone(),
        }
    }
}

impl CloudEvent {
    /// The headers of the bindings to HTTP, NATS and others: `content-type`, and each attribute with the prefix
    /// `ce-`. Values are printable ASCII, with everything else percent-encoded, as the bindings require.
    ///
    /// ```
    /// use smartshape_webhook::Delivery;
    /// use smartshape_webhook_outlet::CloudEvent;
    ///
    /// let body = r#"{"file": "größe\r\n", "event": "e", "data": {}, "owner": "o", "runTimestamp": 0, "uuid": "u"}"#;
    /// let headers = CloudEvent::from(&Delivery::for_test(body)?).headers();
    /// assert!(headers.contains(&("ce-subject".into(), "gr%C3%B6%C3%9Fe%0D%0A".into())));
    /// # Ok::<(), smartshape_webhook::EnvelopeError>(())
    /// ```
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let time = self.time.to_string();
        let attributes = [
            ("specversion", Some("1.0")),
            ("id", Some(self.id.as_str())),
            ("source", Some(self.source.as_str())),
            ("type", Some(self.event_type.as_str())),
            ("subject", self.subject.as_deref()),
            ("time", Some(time.as_str())),
            ("traceparent", self.traceparent.as_deref()),
        ];
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(attributes.into_iter().filter_map(|(name, value)| {
            Some((format!("ce-{name}"), utf8_percent_encode(value?, ESCAPED_IN_HEADER).to_string()))
        }));
        headers
    }
}
