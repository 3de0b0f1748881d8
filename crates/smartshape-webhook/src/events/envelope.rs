//! What stands around the data of every event.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::person::LONGEST_TEXT;
use super::scan::{self, Value};
use super::{EventKind, Person, time};

/// The envelope of an event, borrowed from the body; `data` stays unparsed.
///
/// SmartShape's manual documents every field as mandatory. Other fields are ignored.
///
/// ```
/// use smartshape_webhook::{Envelope, EventKind};
///
/// let body = br#"{"file": "5c6f", "event": "file_uploaded", "data": {"size": 1e2}, "owner": "test@smartshape.io",
///                 "runTimestamp": 1550824748604, "uuid": "a36b623a-c1ed-49b5-9585-3532fe8e9881"}"#;
/// let envelope = Envelope::parse(body)?;
/// assert_eq!(envelope.kind(), Some(EventKind::FileUploaded));
/// assert_eq!(envelope.data(), r#"{"size": 1e2}"#);
/// assert_eq!(envelope.triggered_at().unwrap().to_string(), "2019-02-22T08:39:08.604Z");
/// # Ok::<(), smartshape_webhook::EnvelopeError>(())
/// ```
#[derive(Clone)]
pub struct Envelope<'a> {
    pub(crate) file: Cow<'a, str>,
    event: Cow<'a, str>,
    pub(crate) uuid: Cow<'a, str>,
    /// Where it is a text without escapes. Of that, a person is made when somebody asks.
    pub(crate) owner_text: Option<&'a str>,
    pub(crate) owner: OnceLock<Person>,
    raw_owner: &'a str,
    data: &'a str,
    run_timestamp: &'a str,
}

/// All raw at first, so that an error can name its field.
#[derive(Debug, PartialEq)]
struct Fields<'a> {
    file: Value<'a>,
    event: Value<'a>,
    data: Value<'a>,
    owner: Value<'a>,
    run_timestamp: Value<'a>,
    uuid: Value<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct Unusual<'a> {
    #[serde(borrow)]
    file: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    owner: &'a RawValue,
    #[serde(borrow)]
    run_timestamp: &'a RawValue,
    #[serde(borrow)]
    uuid: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Envelope<'a> {
    /// Parses a body, in one pass.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not JSON, or a field is missing, doubled or of an
    /// impossible type, or when `file`, `event`, `uuid` or an owner that is a text is longer than
    /// 16 KiB as it is sent.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(body)
            .map_err(|_| EnvelopeError::new(EnvelopeErrorKind::NotJson, "it is not UTF-8"))?;
        let fields = match Fields::usual(text) {
            Some(fields) => fields,
            None => Fields::unusual(text)?,
        };
        for (name, Value { text, .. }) in
            [("file", fields.file), ("event", fields.event), ("uuid", fields.uuid), ("owner", fields.owner)]
        {
            if text.len() > LONGEST_TEXT && text.starts_with('"') {
                return Err(EnvelopeError::invalid(format!("`{name}` is longer than {LONGEST_TEXT} bytes")));
            }
        }
        let file = text_field("file", fields.file)?;
        let event = text_field("event", fields.event)?;
        let uuid = text_field("uuid", fields.uuid)?;
        let owner_text = plain(fields.owner);
        let owner = match owner_text {
            Some(_) => OnceLock::new(),
            None => read_owner(fields.owner.text)?.into(),
        };
        if event.is_empty() {
            return Err(EnvelopeError::invalid("`event` is empty"));
        }
        if uuid.is_empty() {
            return Err(EnvelopeError::invalid("`uuid` is empty"));
        }
        let run_timestamp = fields.run_timestamp.text;
        if !run_timestamp.starts_with(|first: char| matches!(first, '-' | '0'..='9' | '"')) {
            return Err(EnvelopeError::invalid("`runTimestamp` is not a number or a text"));
        }
        let (raw_owner, data) = (fields.owner.text, fields.data.text);
        Ok(Self { file, event, uuid, owner_text, owner, raw_owner, data, run_timestamp })
    }

    /// The id of the file that the event is about.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The event's name.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Which of the nine documented events it is; `None` for an unknown name.
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        self.event().parse().ok()
    }

    /// The event's data: JSON, exactly as it was sent.
    #[must_use]
    pub fn data(&self) -> &'a str {
        self.data
    }

    /// Who owns the webhook.
    #[must_use]
    pub fn owner(&self) -> &Person {
        self.owner.get_or_init(|| Person::from(self.owner_text.unwrap_or_default()))
    }

    /// The owner as a text that a retry repeats: the text itself; of an object its id, else its
    /// e-mail address, else its user name, else all of it as it was sent.
    #[must_use]
    pub fn owner_key(&self) -> &str {
        match self.owner_text.unwrap_or_else(|| self.owner().key()) {
            "" => self.raw_owner,
            key => key,
        }
    }

    /// The event's unique id. Documented as unique per event; no form is promised.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The event's unique id, if it has the form of a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> Option<uuid::Uuid> {
        self.uuid.parse().ok()
    }

    /// `runTimestamp` as it was sent.
    #[must_use]
    pub fn run_timestamp_raw(&self) -> &'a str {
        self.run_timestamp
    }

    /// When the event was triggered. The manual calls `runTimestamp` a Unix timestamp; its samples
    /// are in milliseconds. `None` when it is no time that can be represented.
    #[must_use]
    pub fn triggered_at(&self) -> Option<Timestamp> {
        time::from_json(self.run_timestamp_raw())
    }
}

impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("file", &self.file)
            .field("event", &self.event)
            .field("uuid", &self.uuid)
            .field("owner", self.owner())
            .field("data", &self.data)
            .field("run_timestamp", &self.run_timestamp)
            .finish()
    }
}

impl<'a> Fields<'a> {
    /// The fields of an event as it nearly always comes.
    fn usual(text: &'a str) -> Option<Self> {
        let [mut file, mut event, mut data, mut owner, mut run_timestamp, mut uuid] = [None; 6];
        scan::members(text, |name, value| {
            let field = match name {
                "file" => &mut file,
                "event" => &mut event,
                "data" => &mut data,
                "owner" => &mut owner,
                "runTimestamp" => &mut run_timestamp,
                "uuid" => &mut uuid,
                _ => return Some(()),
            };
            field.replace(value).is_none().then_some(())
        })?;
        Some(Self {
            file: file?,
            event: event?,
            data: data?,
            owner: owner?,
            run_timestamp: run_timestamp?,
            uuid: uuid?,
        })
    }

    /// The fields of any event, or what is wrong with it.
    fn unusual(text: &'a str) -> Result<Self, EnvelopeError> {
        // serde would read the fields from an array, too, and quote a whole text in its error.
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            let _: &RawValue =
                serde_json::from_str(text).map_err(|error| EnvelopeError::from_json(&error))?;
            return Err(EnvelopeError::invalid("it is not an object"));
        }
        let raw: Unusual<'a> =
            serde_json::from_str(text).map_err(|error| EnvelopeError::from_json(&error))?;
        Ok(Self {
            file: value(raw.file),
            event: value(raw.event),
            data: value(raw.data),
            owner: value(raw.owner),
            run_timestamp: value(raw.run_timestamp),
            uuid: value(raw.uuid),
        })
    }
}

fn value(raw: &RawValue) -> Value<'_> {
    let text = raw.get();
    Value { text, plain: text.starts_with('"') && !text.contains('\\') }
}

fn text_field<'a>(name: &str, value: Value<'a>) -> Result<Cow<'a, str>, EnvelopeError> {
    match plain(value) {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => serde_json::from_str(value.text).map_err(in_field(name, "a text")).map(|Text(text)| text),
    }
}

fn read_owner(text: &str) -> Result<Person, EnvelopeError> {
    Person::read(text).or_else(|error| match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        // JSON, and yet no text: it has half a surrogate pair. No reason to lose the event.
        Some(sent) => Ok(Person::from(sent)),
        None => Err(in_field("owner", "a text or an object")(error)),
    })
}

/// The text of a string without escapes: what stands between its quotes.
fn plain(value: Value<'_>) -> Option<&str> {
    value.text.strip_prefix('"')?.strip_suffix('"').filter(|_| value.plain)
}

fn in_field(name: &str, wanted: &str) -> impl FnOnce(serde_json::Error) -> EnvelopeError {
    move |error| {
        if error.is_data() {
            EnvelopeError::invalid(format!("`{name}` is not {wanted}"))
        } else {
            // A lone surrogate, which only shows when the text is wanted.
            EnvelopeError::new(EnvelopeErrorKind::NotJson, format!("`{name}` is a broken text"))
        }
    }
}

/// Why a body is not a SmartShape event.
#[derive(Clone, Debug)]
pub struct EnvelopeError {
    kind: EnvelopeErrorKind,
    detail: Box<str>,
}

/// The kinds of [`EnvelopeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeErrorKind {
    /// The body is not JSON.
    NotJson,
    /// The body is JSON, and not a SmartShape event.
    Invalid,
}

impl EnvelopeError {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> EnvelopeErrorKind {
        self.kind
    }

    fn new(kind: EnvelopeErrorKind, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into() }
    }

    fn invalid(detail: impl Into<Box<str>>) -> Self {
        Self::new(EnvelopeErrorKind::Invalid, detail)
    }

    fn from_json(error: &serde_json::Error) -> Self {
        let kind = if error.is_data() { EnvelopeErrorKind::Invalid } else { EnvelopeErrorKind::NotJson };
        Self::new(kind, super::DecodeError::new(error).to_string())
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            EnvelopeErrorKind::NotJson => "the body is not JSON",
            EnvelopeErrorKind::Invalid => "the body is not a SmartShape event",
        };
        write!(f, "{what}: {}", self.detail)
    }
}

impl std::error::Error for EnvelopeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_usual_and_read_alike_either_way() {
        for body in [
            include_str!("../../fixtures/attribute_updated.json"),
            include_str!("../../fixtures/file_uploaded.json"),
            include_str!("../../fixtures/annotation_updated.json"),
            include_str!("../../fixtures/configuration_removed.json"),
        ] {
            assert_eq!(Fields::usual(body), Fields::unusual(body).ok());
        }
        assert_eq!(Fields::usual("{}"), None);
    }
}
