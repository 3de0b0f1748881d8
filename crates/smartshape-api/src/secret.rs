//! Tokens and secrets: redacted in `Debug`, zeroed on drop.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::Error;

/// bcrypt, which SmartShape derives its tokens with, ignores what follows the 72nd byte.
const MAX_SECRET_BYTES: usize = 72;

/// A shared string, redacted in `Debug` and zeroed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct SecretString(Arc<Zeroizing<String>>);

impl SecretString {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Accepts only characters that are valid in a header.
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

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// The bearer token that [`Client::login`](crate::Client::login) returns.
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
pub struct AuthToken(pub(crate) SecretString);

impl AuthToken {
    /// Wraps a token that SmartShape issued.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when it is empty or not visible ASCII.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        SecretString::token(token, "auth token").map(Self)
    }

    /// The token in plain text. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The token that [`Client::open_session`](crate::Client::open_session) returns; newer installations require it in
/// addition to the auth token.
#[derive(Clone, Debug)]
pub struct SessionToken(pub(crate) SecretString);

impl SessionToken {
    /// Wraps a token that SmartShape issued.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when it is empty or not visible ASCII.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        SecretString::token(token, "session token").map(Self)
    }

    /// The token in plain text. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The secret of a webhook to be registered: whatever SmartShape accepts. The receiver's `Secret` is stricter: it
/// rejects invisible characters, and secrets below 16 bytes unless told otherwise. They are two types, since this
/// client also registers webhooks for receivers that are written otherwise, with the secrets that these have.
#[derive(Clone, Debug)]
pub struct WebhookSecret(pub(crate) SecretString);

impl WebhookSecret {
    /// Validates a secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when it is empty, holds a NUL byte, begins or ends with
    /// white space, or is longer than 72 bytes, where bcrypt stops reading.
    pub fn new(secret: impl Into<String>) -> Result<Self, Error> {
        let hidden = SecretString::new(secret);
        let secret = hidden.expose();
        let fault = if secret.is_empty() {
            "is empty"
        } else if secret.contains('\0') {
            "holds a NUL byte"
        } else if secret.trim().len() != secret.len() {
            "begins or ends with white space"
        } else if secret.len() > MAX_SECRET_BYTES {
            "is longer than 72 bytes, and bcrypt reads no more"
        } else {
            return Ok(Self(hidden));
        };
        Err(Error::settings(format!("the webhook secret {fault}: choose another")))
    }

    /// The secret in plain text. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_secrets_are_rejected_and_not_shown() {
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
