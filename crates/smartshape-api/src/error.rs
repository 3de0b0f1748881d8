//! The crate's error type.

use std::error::Error as StdError;
use std::fmt;

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// The category of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client is not logged in, the login expired, or the account lacks a permission. SmartShape responds 503
    /// without `Retry-After`.
    Unauthorized,
    /// No licence seat is free (402).
    NoSeat,
    /// No such resource (404).
    NotFound,
    /// Rate limited (429); the server did nothing.
    TooManyRequests,
    /// Any other 4xx: SmartShape rejected the call.
    BadRequest,
    /// The connection could not be established, or was lost.
    Unreachable,
    /// A timeout expired.
    TimedOut,
    /// Any other 5xx, and 503 with `Retry-After`.
    Server,
    /// The response is not SmartShape's: it is a redirect, not JSON, too long, or without the requested data.
    UnexpectedResponse,
    /// A setting or an argument is invalid; nothing was sent.
    Settings,
    /// The `save` callback of [`Client::apply`](crate::Client::apply) failed.
    NotRecorded,
}

/// A remedy that depends on how the program sets up its client. `Display` names the setting of
/// [`ClientBuilder`](crate::ClientBuilder); a program may name its own instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// No auth token is set: log in.
    LogIn,
    /// The tokens may have expired: log in again, and open a session if the installation requires one.
    LogInAgain,
    /// The installation may have a root certificate of its own: add it.
    AddRootCertificate,
    /// The base URL is `http://` for another host: use `https://`, or allow it.
    AllowPlainHttp,
    /// The connection was not established in time: raise the connect timeout.
    RaiseConnectTimeout,
    /// The call did not end in time: raise the timeout.
    RaiseTimeout,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogIn => "log in first",
            Self::LogInAgain => {
                "log in again, since tokens expire, and open a session if the installation requires one"
            }
            Self::AddRootCertificate => {
                "if the installation has a root certificate of its own, add it by `add_root_certificate`"
            }
            Self::AllowPlainHttp => "set an https:// URL, or allow http:// by `allow_plain_http`",
            Self::RaiseConnectTimeout => "try again, or set a longer `connect_timeout`",
            Self::RaiseTimeout => "try again, or set a longer `timeout`",
        })
    }
}

/// What failed and what to try. Never contains a token, password or secret, even if the server echoes one.
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
    hint: Option<Hint>,
    source: Option<BoxError>,
    is_ambiguous: bool,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            status: None,
            text: text.into(),
            hint: None,
            source: None,
            is_ambiguous: false,
        }))
    }

    pub(crate) fn settings(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Settings, text)
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_ambiguous(mut self, unknown: bool) -> Self {
        self.0.is_ambiguous |= unknown;
        self
    }

    pub(crate) fn with_hint(mut self, hint: Hint) -> Self {
        self.0.hint = Some(hint);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The category.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the call may have taken effect, or may still: its response was lost or does not tell. False if nothing
    /// was sent, if the server rejected the call, and for calls that only read.
    ///
    /// ```no_run
    /// # async fn example(client: smartshape_api::Client, desired: smartshape_api::DesiredWebhook) {
    /// match client.create_webhook(&desired).await {
    ///     Ok(record) => println!("created {}", record.id),
    ///     Err(error) if error.is_ambiguous() => println!("{error}; list before you try again"),
    ///     Err(error) => println!("{error}; nothing was created"),
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.0.is_ambiguous
    }

    /// What failed, without the [`hint`](Self::hint). `Display` shows both.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.text
    }

    /// What to try, if that depends on how the program sets up its client.
    ///
    /// ```
    /// use smartshape_api::{Client, Hint};
    ///
    /// let error = Client::builder().base_url("http://smartshape.example").build().unwrap_err();
    /// assert_eq!(error.hint(), Some(Hint::AllowPlainHttp));
    /// assert_eq!(error.to_string(), format!("{}: {}", error.message(), Hint::AllowPlainHttp));
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<Hint> {
        self.0.hint
    }

    /// HTTP status of the response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        self.0.hint.map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, status, text, hint, source, is_ambiguous } = &*self.0;
        let mut shown = f.debug_struct("Error");
        shown.field("kind", kind).field("status", status).field("text", text).field("source", source);
        shown.field("hint", hint).field("is_ambiguous", is_ambiguous).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
