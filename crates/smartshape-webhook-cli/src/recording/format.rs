//! The lines of a recording.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smartshape_webhook::{Delivery, EnvelopeError};

use super::fingerprint::{Fingerprinter, TokenFingerprints};

/// Version of the format; recordings of other versions are not read.
pub(super) const VERSION: u32 = 1;

/// Written when a listener starts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordingHeader {
    #[serde(rename = "recording")]
    pub(super) version: u32,
    /// Milliseconds since 1970.
    pub(super) began_ms: u64,
}

impl RecordingHeader {
    pub(crate) fn new(began_ms: u64) -> Self {
        Self { version: VERSION, began_ms }
    }
}

/// An authenticated delivery and its response. `B` is the type of its body.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry<B> {
    /// When the request's head was received, in milliseconds since 1970. Measured by a monotonic clock from the
    /// listener's start.
    pub(crate) received_ms: u64,
    /// Time until the response.
    pub(crate) took_ms: u64,
    /// Status of the response.
    pub(crate) status: u16,
    /// Name of the rejection's kind; absent in recordings of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rejection: Option<String>,
    pub(crate) token: TokenFingerprints,
    /// The event; `None` if the body is not an event or is incomplete.
    #[serde(flatten)]
    pub(crate) event: Option<EventFields<B>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventFields<B> {
    pub(crate) event: String,
    pub(crate) uuid: String,
    pub(crate) run_timestamp_ms: Option<i64>,
    /// Fingerprint of the event without uuid and runTimestamp.
    pub(crate) content: String,
    pub(crate) body: B,
}

/// How a recording begins.
const HEADER_START: &[u8] = br#"{"recording":"#;

/// Whether a file begins as a recording does.
pub(crate) fn is_recording(path: &Path) -> bool {
    let mut begins = [0; HEADER_START.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut begins)).is_ok() && begins == HEADER_START
}

type EntryAndBody = (Entry<IgnoredAny>, Option<Bytes>);

/// A line's entry and its exact body; `None` for other lines.
///
/// # Errors
///
/// In words, when the recording is of another version.
pub(crate) fn entry(line: &[u8]) -> Result<Option<EntryAndBody>, &'static str> {
    #[derive(Deserialize)]
    struct WithBody<'a> {
        #[serde(borrow)]
        body: &'a RawValue,
    }
    if serde_json::from_slice::<RecordingHeader>(line).is_ok_and(|header| header.version != VERSION) {
        return Err("is of another version of this program: inspect it with that one");
    }
    let body = serde_json::from_slice::<WithBody<'_>>(line).ok();
    let body = body.map(|with| Bytes::copy_from_slice(with.body.get().as_bytes()));
    Ok(serde_json::from_slice(line).ok().map(|entry| (entry, body)))
}

impl EventFields<Box<RawValue>> {
    pub(crate) fn read(body: Bytes, fingerprinter: &Fingerprinter) -> Result<Self, EnvelopeError> {
        let delivery = Delivery::for_test(body)?;
        let line = delivery.to_json_line();
        Ok(Self {
            event: delivery.event_name().to_owned(),
            uuid: delivery.uuid().to_owned(),
            run_timestamp_ms: delivery.triggered_at().map(|time| time.as_millisecond()),
            content: fingerprinter.content(&line),
            body: RawValue::from_string(line).unwrap_or_default(),
        })
    }
}
