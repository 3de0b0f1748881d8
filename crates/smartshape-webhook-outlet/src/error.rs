//! Why an outlet cannot be built.

use std::error::Error;
use std::fmt;

/// Why an outlet cannot be built. Its text contains neither URL nor secret.
pub struct OutletError {
    kind: OutletErrorKind,
    what: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

/// The kind of an [`OutletError`]: which setting is wrong, or what else failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutletErrorKind {
    /// The URL is invalid.
    Url,
    /// The URL's address is not of the public internet, and the outlet's builder does not allow private addresses.
    PrivateAddress,
    /// The signing secret is not one of Standard Webhooks.
    SigningSecret,
    /// The root certificates cannot be read.
    RootCertificates,
    /// The credentials file cannot be read.
    CredentialsFile,
    /// The name of the stream is invalid.
    StreamName,
    /// The subject prefix is invalid.
    SubjectPrefix,
    /// TLS or the HTTP client cannot be set up on this machine.
    Client,
    /// The servers cannot be connected to, or did not respond in time.
    Unavailable,
    /// The stream is missing, or does not keep what it acknowledges.
    Stream,
    /// The object store is missing, or does not keep what it acknowledges.
    ObjectStore,
}

impl OutletError {
    pub(crate) fn new(
        kind: OutletErrorKind,
        what: &'static str,
        why: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, what, source: why.into() }
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> OutletErrorKind {
        self.kind
    }
}

impl fmt::Display for OutletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

/// Prints the same text as `Display`, because a `main` that returns an error shows it with `Debug`.
impl fmt::Debug for OutletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for OutletError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}
