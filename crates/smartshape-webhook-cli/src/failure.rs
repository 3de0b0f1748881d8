//! How a command fails: an exit code, and a line for a person.

use std::error::Error;
use std::io;

use smartshape_webhook::SecretError;
use smartshape_webhook_inbox::{InboxError, InboxErrorKind};

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Wrong usage or settings: exit code 2.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    /// Rejected, or failed: exit code 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// Everything is said already.
    pub(crate) fn told() -> Self {
        Self::failed("")
    }

    /// The same, of which everything is said already.
    pub(crate) fn silent(self) -> Self {
        Self { text: String::new(), ..self }
    }

    /// The same, and what else there is to say of it.
    pub(crate) fn and(self, more: &str) -> Self {
        Self { text: format!("{}; {more}", self.text), ..self }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Tells it, unless everything is said already.
    pub(crate) fn say(&self) {
        if !self.text.is_empty() {
            crate::output::say_error(&self.text, self.code);
        }
    }

    /// Whoever read standard output has had enough, as `head` does: no failure.
    pub(crate) fn of_stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: 0, text: String::new() },
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }
}

/// An error and its first cause, on one line. What is between them names the libraries that passed it on.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let root = root(error);
    if !text.contains(&root) {
        text = format!("{text}: {root}");
    }
    crate::output::shown(&in_words_of_the_program(&text))
}

/// The first cause of an error.
pub(crate) fn root(error: &dyn Error) -> String {
    let mut root = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        root = error.to_string();
        cause = error.source();
    }
    root
}

/// The client names its own settings.
fn in_words_of_the_program(text: &str) -> String {
    let words = [
        ("base URL", "API URL"),
        ("name it by `trust_pem`", "name it by --ca-cert"),
        ("allow it by `allow_plain_http`", "allow it by --insecure"),
        (", or set a longer connect_time_limit", ""),
        (", or set a longer time_limit", ""),
        ("log in first", "log in first, with `smartshape login`"),
        (
            "open a session if this installation wants one",
            "open a session, by --open-session, if it wants one",
        ),
        ("log in again,", "log in again with `smartshape login`,"),
    ];
    // What the server says stays as it is.
    let (own, said) = text.split_at(text.find("; it says: ").unwrap_or(text.len()));
    words.iter().fold(own.to_owned(), |own, (theirs, ours)| own.replace(theirs, ours)) + said
}

impl From<smartshape_api::Error> for Failure {
    fn from(error: smartshape_api::Error) -> Self {
        match error.kind() {
            smartshape_api::ErrorKind::Settings => Self::usage(chain(&error)),
            _ => Self::failed(chain(&error)),
        }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<InboxError> for Failure {
    fn from(error: InboxError) -> Self {
        match error.kind() {
            InboxErrorKind::Settings => Self::usage(chain(&error)),
            _ => Self::failed(chain(&error)),
        }
    }
}
