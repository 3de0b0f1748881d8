//! What `webhook listen --record` writes and `token inspect --recording` reads: one line of JSON for
//! each listener's beginning and for each delivery.
//!
//! Whoever has a token can send any event with it, for ever. So a recording holds none of it but
//! prefix and cost; salt and token are there as marks, which are equal where the originals are.

mod marks;
mod report;
mod words;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smartshape_webhook::{Delivery, EnvelopeError};

pub(crate) use self::marks::{Marks, TokenMarks};
pub(crate) use self::report::Report;

/// Lines of another form are not read.
const VERSION: u32 = 1;

/// A listener began.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Beginning {
    #[serde(rename = "recording")]
    version: u32,
    /// Milliseconds since 1970.
    began_ms: u64,
}

impl Beginning {
    pub(crate) fn new(began_ms: u64) -> Self {
        Self { version: VERSION, began_ms }
    }
}

/// A delivery of somebody who knows the secret came and was answered. `B` is its body.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry<B> {
    /// When its head came, in milliseconds since 1970. Of a clock that nobody sets meanwhile.
    pub(crate) received_ms: u64,
    /// How long the answer took.
    pub(crate) took_ms: u64,
    /// The status that it was answered with.
    pub(crate) status: u16,
    pub(crate) token: TokenMarks,
    /// What the body says; nothing where it is no event, or was broken off.
    #[serde(flatten)]
    pub(crate) event: Option<Named<B>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Named<B> {
    pub(crate) event: String,
    pub(crate) uuid: String,
    pub(crate) run_timestamp_ms: Option<i64>,
    /// A mark of all but uuid and runTimestamp.
    pub(crate) content: String,
    pub(crate) body: B,
}

impl Named<Box<RawValue>> {
    pub(crate) fn read(body: Vec<u8>, marks: &Marks) -> Result<Self, EnvelopeError> {
        let delivery = Delivery::for_test(body)?;
        let line = delivery.to_json_line();
        Ok(Self {
            event: delivery.event_name().to_owned(),
            uuid: delivery.uuid().to_owned(),
            run_timestamp_ms: delivery.triggered_at().map(|time| time.as_millisecond()),
            content: marks.content(&line),
            body: RawValue::from_string(line).unwrap_or_default(),
        })
    }
}
