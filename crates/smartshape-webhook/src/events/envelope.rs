//! The envelope: the JSON object around every event's `data`.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::lenient::{self, LenientValue as _};
use super::person::MAX_TEXT_BYTES;
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
    /// The owner, if it is a string without escapes; `owner` is then parsed from it on first use.
    pub(crate) owner_text: Option<&'a str>,
    pub(crate) owner: OnceLock<Person>,
    raw_owner: &'a str,
    data: &'a str,
    run_timestamp: &'a str,
}

/// The members of the envelope, each as it was sent. All raw at first, so that an error can name its field.
struct Fields<'a>([&'a str; 6]);

/// Some senders begin a body in UTF-8 with it. JSON does not allow it, and lets readers skip it (RFC 8259, section
/// 8.1).
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The members' names, in the order of [`Fields`].
const NAMES: [&str; 6] = ["file", "event", "data", "owner", "runTimestamp", "uuid"];

impl<'a> Envelope<'a> {
    /// Parses a body, in one pass. A byte order mark before it is skipped.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`] when the body is not JSON, or a field is missing, doubled or of an
    /// impossible type, or when `file`, `event`, `uuid` or an owner that is a string is longer than
    /// 16 KiB as it is sent.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let json = std::str::from_utf8(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body))
            .map_err(|_| EnvelopeError::new(EnvelopeErrorKind::NotJson, "it is not UTF-8"))?;
        let Fields([file, event, data, raw_owner, run_timestamp, uuid]) = Fields::read(json)?;
        for (name, sent) in [("file", file), ("event", event), ("uuid", uuid), ("owner", raw_owner)] {
            if sent.len() > MAX_TEXT_BYTES && sent.starts_with('"') {
                return Err(EnvelopeError::invalid(format!(
                    "`{name}` is longer than {MAX_TEXT_BYTES} bytes"
                )));
            }
        }
        let file = text_field("file", file)?;
        let event = text_field("event", event)?;
        let uuid = text_field("uuid", uuid)?;
        let (owner_text, owner) = match decode_string(raw_owner) {
            Some(Cow::Borrowed(text)) => (Some(text), OnceLock::new()),
            Some(Cow::Owned(text)) => (None, Person::from(text.as_str()).into()),
            None => (
                None,
                Person::read(raw_owner).ok_or_else(|| wrong_type("owner", "a text or an object"))?.into(),
            ),
        };
        if event.is_empty() {
            return Err(EnvelopeError::invalid("`event` is empty"));
        }
        if uuid.is_empty() {
            return Err(EnvelopeError::invalid("`uuid` is empty"));
        }
        if !run_timestamp.starts_with(|first: char| matches!(first, '-' | '0'..='9' | '"')) {
            return Err(EnvelopeError::invalid("`runTimestamp` is not a number or a text"));
        }
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

    /// The owner as it enters the delivery key: a string as it is; of an object, the first of id, e-mail address and
    /// user name that is present, or else its JSON as it was sent.
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
    fn read(text: &'a str) -> Result<Self, EnvelopeError> {
        let read = if text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            serde_json::from_str(text)
        } else {
            // Whether it is JSON at all. A type error would come first, and quote a whole text.
            serde_json::from_str(text).map(|_: &RawValue| None)
        };
        read.map_err(|error| EnvelopeError::from_json(&error))?
            .ok_or_else(|| EnvelopeError::invalid("it is not an object"))
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = [None; 6];
                // Names are raw, too: one that nobody reads may hold a lone surrogate.
                while let Some(name) = map.next_key::<&RawValue>()? {
                    let name = lenient::name(name).unwrap_or_default();
                    let Some(at) = NAMES.iter().position(|known| *known == name) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if fields[at].replace(map.next_value::<&RawValue>()?.get()).is_some() {
                        return Err(A::Error::duplicate_field(NAMES[at]));
                    }
                }
                let mut all = [""; 6];
                for ((field, found), name) in all.iter_mut().zip(fields).zip(NAMES) {
                    *field = found.ok_or_else(|| A::Error::missing_field(name))?;
                }
                Ok(Fields(all))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The value of a JSON string; `None` for a value of another type. A string with a lone surrogate is kept as it was
/// sent, with its escapes, and not with U+FFFD: these strings identify the delivery, and different ones must stay
/// different.
fn decode_string(json: &str) -> Option<Cow<'_, str>> {
    let sent = json.strip_prefix('"')?.strip_suffix('"')?;
    if !sent.contains('\\') {
        return Some(Cow::Borrowed(sent));
    }
    Some(serde_json::from_str(json).map_or(Cow::Borrowed(sent), Cow::Owned))
}

fn text_field<'a>(name: &str, json: &'a str) -> Result<Cow<'a, str>, EnvelopeError> {
    decode_string(json).ok_or_else(|| wrong_type(name, "a text"))
}

fn wrong_type(name: &str, expected: &str) -> EnvelopeError {
    EnvelopeError::invalid(format!("`{name}` is not {expected}"))
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
