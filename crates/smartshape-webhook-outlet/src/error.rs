//! Why an outlet cannot be built.

use std::error::Error;
use std::fmt;

/// Why an outlet cannot be built. Its text contains neither URL nor secret.
#[derive(Debug)]
pub struct OutletError {
    what: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl OutletError {
    pub(crate) fn new(what: &'static str, why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what, source: why.into() }
    }
}

impl fmt::Display for OutletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl Error for OutletError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}
