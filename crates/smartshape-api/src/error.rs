//! The one error of this crate.

use std::error::Error as StdError;
use std::fmt;

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// What kind of trouble an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not logged in, the login expired, or the account lacks a permission. SmartShape answers 503, without
    /// `Retry-After`.
    Unauthorised,
    /// No licence seat is free (402).
    NoSeat,
    /// There is no such thing (404).
    NotFound,
    /// Too many calls were made (429); nothing was done.
    TooManyRequests,
    /// SmartShape rejected the call: any other 4xx.
    BadRequest,
    /// The server could not be reached, or the connection broke.
    Unreachable,
    /// A time limit passed.
    TimedOut,
    /// The server failed: any other 5xx, and 503 with `Retry-After`.
    Server,
    /// The answer is none of SmartShape's: a redirect, no JSON, too long, or without what was asked for.
    UnexpectedAnswer,
    /// A setting or an argument cannot be used; nothing was sent.
    Settings,
    /// The caller could not keep the record of what was done: see [`Client::apply`](crate::Client::apply).
    NotRecorded,
}

/// What went wrong, and what to try. Never shows a token, password or secret, not even where the
/// server repeats one.
///
/// ```
/// use smartshape_api::{Client, ErrorKind};
///
/// let error = Client::builder().base_url("https://ada:pass@smartshape.io").build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Settings);
/// assert!(!error.to_string().contains("ada"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    status: Option<u16>,
    text: String,
    source: Option<BoxError>,
    effect_unknown: bool,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, status: None, text: text.into(), source: None, effect_unknown: false }))
    }

    pub(crate) fn settings(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Settings, text)
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_effect_unknown(mut self, unknown: bool) -> Self {
        self.0.effect_unknown |= unknown;
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the server may have done what was asked for, or may yet do it: its answer was lost, or
    /// says nothing certain. False where nothing was sent, where it rejected, and for lists.
    ///
    /// ```no_run
    /// # async fn example(client: smartshape_api::Client, wanted: smartshape_api::Wanted) {
    /// match client.create_webhook(&wanted).await {
    ///     Ok(record) => println!("created {}", record.id),
    ///     Err(error) if error.effect_unknown() => println!("{error}; list before you try again"),
    ///     Err(error) => println!("{error}; nothing was created"),
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn effect_unknown(&self) -> bool {
        self.0.effect_unknown
    }

    /// The status of the HTTP answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, status, text, source, effect_unknown } = &*self.0;
        let mut shown = f.debug_struct("Error");
        shown.field("kind", kind).field("status", status).field("text", text).field("source", source);
        shown.field("effect_unknown", effect_unknown).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
