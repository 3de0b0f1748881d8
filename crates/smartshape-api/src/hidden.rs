//! Tokens and secrets, which are never shown.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::Error;

/// The longest secret that bcrypt, of which SmartShape's tokens are made, reads to its end.
const MAX_SECRET_BYTES: usize = 72;

/// A text that `Debug` does not show, zeroed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Hidden(Arc<Zeroizing<String>>);

impl Hidden {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Takes what can stand in a header.
    fn token(text: impl Into<String>, what: &str) -> Result<Self, Error> {
        let hidden = Self::new(text);
        let bytes = hidden.expose().as_bytes();
        if bytes.is_empty() {
            return Err(Error::settings(format!("the {what} is empty: log in to get one")));
        }
        if !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(Error::settings(format!(
                "the {what} holds white space or other characters that no token has: was a newline copied with it?"
            )));
        }
        Ok(hidden)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// What authorises calls: the token that [`Client::login`](crate::Client::login) returns.
///
/// ```
/// use smartshape_api::AuthToken;
///
/// let token = AuthToken::new("eyJhbGciOiJIUzI1NiJ9.e30.c2ln")?;
/// assert_eq!(format!("{token:?}"), "AuthToken(redacted)");
/// assert!(AuthToken::new("two words").is_err());
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AuthToken(pub(crate) Hidden);

impl AuthToken {
    /// Takes a token as SmartShape gave it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when it is empty or holds anything but visible ASCII.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        Hidden::token(token, "auth token").map(Self)
    }

    /// The token itself. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// What newer installations want beside the auth token: the token that
/// [`Client::open_session`](crate::Client::open_session) returns.
#[derive(Clone, Debug)]
pub struct SessionToken(pub(crate) Hidden);

impl SessionToken {
    /// Takes a token as SmartShape gave it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when it is empty or holds anything but visible ASCII.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        Hidden::token(token, "session token").map(Self)
    }

    /// The token itself. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The secret of a webhook. The receiver is stricter: it rejects characters that cannot be seen, and takes fewer than
/// 16 bytes only where it is told so.
#[derive(Clone, Debug)]
pub struct WebhookSecret(pub(crate) Hidden);

impl WebhookSecret {
    /// Takes a secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when it is empty, holds a NUL byte, begins or ends with
    /// white space, or is longer than 72 bytes, where bcrypt stops reading.
    pub fn new(secret: impl Into<String>) -> Result<Self, Error> {
        let hidden = Hidden::new(secret);
        let secret = hidden.expose();
        let fault = if secret.is_empty() {
            "is empty"
        } else if secret.contains('\0') {
            "holds a NUL byte"
        } else if secret.trim().len() != secret.len() {
            "begins or ends with white space"
        } else if secret.len() > MAX_SECRET_BYTES {
            "is longer than the 72 bytes that are read of it"
        } else {
            return Ok(Self(hidden));
        };
        Err(Error::settings(format!("the webhook secret {fault}: choose another")))
    }

    /// The secret itself. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_rejected_and_not_shown() {
        for wrong in ["", "a b", "a\n", "é"] {
            let error = AuthToken::new(wrong).unwrap_err().to_string();
            assert!(error.contains("auth token"), "{error}");
            assert!(SessionToken::new(wrong).is_err());
        }
        for wrong in ["", "a\0b", " padded", "padded\n", &"x".repeat(73)] {
            let error = WebhookSecret::new(wrong).unwrap_err();
            assert!(!format!("{error:?}").contains("padded"));
        }
        assert!(WebhookSecret::new("x".repeat(72)).is_ok());
        let hidden = WebhookSecret::new("a long and random string").unwrap();
        assert_eq!(format!("{hidden:?}"), "WebhookSecret(redacted)");
    }
}
