//! How a command fails: an exit code, and a line of text.

use std::error::Error;

use smartshape_api::Hint;
use smartshape_webhook::SecretError;
use smartshape_webhook_inbox::{InboxError, InboxErrorKind};

/// The result of a part of a command.
pub(crate) type CliResult<T = ()> = Result<T, Failure>;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Empty if it was printed already.
    pub(crate) text: String,
}

impl Failure {
    /// A failure by wrong usage or settings, with exit code 2.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    /// A failure of what was asked for, with exit code 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// A failure with exit code 1, whose reason was printed already.
    pub(crate) fn printed() -> Self {
        Self::failed("")
    }

    /// Drops the failure's text, which was printed already.
    pub(crate) fn silent(self) -> Self {
        Self { text: String::new(), ..self }
    }

    /// Appends `more` to the text.
    pub(crate) fn and(self, more: &str) -> Self {
        Self { text: format!("{}; {more}", self.text), ..self }
    }
}

/// A [`Failure::usage`] whose text is formatted.
macro_rules! usage {
    ($($text:tt)+) => { $crate::failure::Failure::usage(format!($($text)+)) };
}

/// A [`Failure::failed`] whose text is formatted.
macro_rules! failed {
    ($($text:tt)+) => { $crate::failure::Failure::failed(format!($($text)+)) };
}

pub(crate) use {failed, usage};

/// An error and its root cause on one line. The causes in between only name libraries.
pub(crate) fn chain(error: &dyn Error) -> String {
    with_root(error.to_string(), error)
}

fn with_root(text: String, error: &dyn Error) -> String {
    let root = error.source().map(root).unwrap_or_default();
    let text = if text.contains(&root) { text } else { format!("{text}: {root}") };
    crate::escape::escape(&text)
}

/// The root cause of an error.
pub(crate) fn root(error: &dyn Error) -> String {
    let mut root = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        root = error.to_string();
        cause = error.source();
    }
    root
}

impl From<smartshape_api::Error> for Failure {
    fn from(error: smartshape_api::Error) -> Self {
        match error.kind() {
            smartshape_api::ErrorKind::Settings => Self::usage(api_chain(&error)),
            _ => Self::failed(api_chain(&error)),
        }
    }
}

/// Like [`chain`], with the hint in terms of this program's options.
pub(crate) fn api_chain(error: &smartshape_api::Error) -> String {
    let text = with_root(error.message().to_owned(), error);
    let hint = match error.hint() {
        Some(Hint::LogIn) => "log in first, with `smartshape login`",
        Some(Hint::LogInAgain) => {
            "log in again with `smartshape login`, since tokens expire, with --open-session if the installation \
             requires a session"
        }
        Some(Hint::AddRootCertificate) => {
            "if the installation has a root certificate of its own, name its file by --ca-cert"
        }
        Some(Hint::AllowPlainHttp) => "set an https:// URL, or allow http:// by --insecure",
        Some(Hint::RaiseConnectTimeout | Hint::RaiseTimeout) => "try again",
        Some(_) | None => return text,
    };
    format!("{text}: {hint}")
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<InboxError> for Failure {
    fn from(error: InboxError) -> Self {
        match error.kind() {
            InboxErrorKind::InvalidSettings => Self::usage(chain(&error)),
            _ => Self::failed(chain(&error)),
        }
    }
}
