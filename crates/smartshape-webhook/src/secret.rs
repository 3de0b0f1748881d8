//! The plain secret of a webhook, and the names and scopes under which a receiver holds several.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::events::EventKind;

/// The longest secret that bcrypt reads to its end, in bytes.
const MAX_BYTES: usize = 72;
/// Below this many bytes a secret can be guessed by whoever captured one token.
const SHORT_BYTES: usize = 16;
/// Secrets that stand in manuals. Whoever copies one has no secret.
const SAMPLES: [&str; 2] = ["replace-me-with-a-secret-of-your-own", "SECRET"];

/// The plain secret of a webhook: what was given as `secretToken` when the webhook was registered.
///
/// SmartShape's manual documents that each delivery carries a bcrypt hash of it. The value is
/// zeroed when the last clone is dropped, and `Debug` never shows it.
///
/// ```
/// use smartshape_webhook::Secret;
///
/// let secret = Secret::new("a long and random string")?;
/// assert_eq!(secret.expose(), "a long and random string");
/// assert!(!format!("{secret:?}").contains("random"));
/// assert!(Secret::new("").is_err());
/// # Ok::<(), smartshape_webhook::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes a secret as it was registered.
    ///
    /// # Errors
    ///
    /// [`SecretError`] when the secret is empty, holds a NUL byte, begins or ends with white
    /// space, is longer than 72 bytes (bcrypt ignores the rest, and senders differ), or is one of
    /// the samples that stand in manuals.
    pub fn new(secret: impl Into<String>) -> Result<Self, SecretError> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() {
            return Err(SecretError::Empty);
        }
        if secret.contains('\0') {
            return Err(SecretError::Nul);
        }
        if secret.trim().len() != secret.len() {
            return Err(SecretError::OuterWhiteSpace);
        }
        if secret.len() > MAX_BYTES {
            return Err(SecretError::TooLong(secret.len()));
        }
        if SAMPLES.contains(&secret.as_str()) {
            return Err(SecretError::Sample);
        }
        Ok(Self(Arc::new(secret)))
    }

    /// Reads the secret from the environment variable `name`, or from the file that `name_FILE`
    /// names (see [`Secret::from_file`]).
    ///
    /// # Errors
    ///
    /// [`SecretError`] when neither or both variables are set, or the value is not a secret.
    pub fn from_env(name: &str) -> Result<Self, SecretError> {
        let file_name = format!("{name}_FILE");
        match (std::env::var_os(name), std::env::var_os(&file_name)) {
            (Some(_), Some(_)) => Err(SecretError::BothVariables(name.to_owned())),
            (None, None) => Err(SecretError::NoVariable(name.to_owned())),
            (None, Some(path)) => Self::from_file(path),
            (Some(value), None) => Self::new(value.into_string().map_err(|_| SecretError::NotUnicode)?),
        }
    }

    /// Reads the secret from a file; one newline at its end is stripped.
    ///
    /// # Errors
    ///
    /// [`SecretError`] when the file cannot be read, is not UTF-8 or does not hold a secret.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let path = path.as_ref();
        let text = Zeroizing::new(
            std::fs::read(path)
                .map_err(|error| SecretError::File(path.display().to_string(), error.to_string()))?,
        );
        let text = std::str::from_utf8(&text).map_err(|_| SecretError::NotUnicode)?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        Self::new(line.strip_suffix('\r').unwrap_or(line))
    }

    /// Makes a new random secret: 48 hexadecimal digits (192 bits).
    ///
    /// # Errors
    ///
    /// [`SecretError::NoRandomness`] when the system gives no random bytes.
    pub fn generate() -> Result<Self, SecretError> {
        let mut bytes = Zeroizing::new([0_u8; 24]);
        getrandom::fill(&mut *bytes).map_err(|_| SecretError::NoRandomness)?;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        Self::new(text)
    }

    /// The plain secret, to register a webhook with. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is so short (under 16 bytes) that a captured token gives it away.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.len() < SHORT_BYTES
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A secret with a name, and optionally with the only events that it may authenticate.
///
/// A webhook is registered for one event and has its own secret, so a receiver that serves
/// several webhooks holds several. Scoping each to its event means that a stolen token for
/// annotations cannot forge a file upload.
///
/// ```
/// use smartshape_webhook::{EventKind, NamedSecret, Secret};
///
/// let uploads = NamedSecret::new("uploads", Secret::generate()?).only_for([EventKind::FileUploaded]);
/// assert_eq!(uploads.name(), "uploads");
/// assert!(uploads.allows(Some(EventKind::FileUploaded)));
/// assert!(!uploads.allows(Some(EventKind::AnnotationCreated)));
/// assert!(!uploads.allows(None), "an event of unknown name is outside every scope");
/// # Ok::<(), smartshape_webhook::SecretError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NamedSecret {
    name: Arc<str>,
    secret: Secret,
    events: Option<Vec<EventKind>>,
}

impl NamedSecret {
    /// Names a secret. The name appears in logs and in [`Delivery::secret_name`](crate::Delivery::secret_name).
    #[must_use]
    pub fn new(name: impl Into<String>, secret: Secret) -> Self {
        Self { name: Arc::from(name.into()), secret, events: None }
    }

    /// Lets the secret authenticate these events only. Default: every event, known or not.
    #[must_use]
    pub fn only_for(mut self, events: impl IntoIterator<Item = EventKind>) -> Self {
        self.events = Some(events.into_iter().collect());
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the secret may authenticate an event; `None` is an event of unknown name.
    #[must_use]
    pub fn allows(&self, event: Option<EventKind>) -> bool {
        match (&self.events, event) {
            (None, _) => true,
            (Some(events), Some(event)) => events.contains(&event),
            (Some(_), None) => false,
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

/// Why a text is not usable as a secret. Never shows the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// The secret is empty.
    Empty,
    /// The secret holds a NUL byte, at which bcrypt would stop reading.
    Nul,
    /// The secret begins or ends with white space, usually a newline that crept in.
    OuterWhiteSpace,
    /// The secret has this many bytes; bcrypt reads 72.
    TooLong(usize),
    /// The secret is a sample from a manual.
    Sample,
    /// The secret is not UTF-8.
    NotUnicode,
    /// Neither this environment variable nor its `_FILE` form is set.
    NoVariable(String),
    /// Both this environment variable and its `_FILE` form are set.
    BothVariables(String),
    /// The file (first) could not be read (second: why).
    File(String, String),
    /// The system gave no random bytes.
    NoRandomness,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the webhook secret is empty: set the one the webhook was registered with")
            }
            Self::Nul => f.write_str(
                "the webhook secret holds a NUL byte, at which bcrypt stops reading: choose another",
            ),
            Self::OuterWhiteSpace => {
                f.write_str("the webhook secret begins or ends with white space: remove it")
            }
            Self::TooLong(bytes) => write!(
                f,
                "the webhook secret has {bytes} bytes, and bcrypt reads only 72: choose a shorter one"
            ),
            Self::Sample => {
                f.write_str("the webhook secret is a sample that stands in a manual: choose one of your own")
            }
            Self::NotUnicode => f.write_str("the webhook secret is not UTF-8: choose another"),
            Self::NoVariable(name) => {
                write!(f, "no webhook secret: set {name}, or {name}_FILE to a file that holds it")
            }
            Self::BothVariables(name) => write!(f, "both {name} and {name}_FILE are set: unset one of them"),
            Self::File(path, why) => write!(f, "cannot read the webhook secret from {path}: {why}"),
            Self::NoRandomness => f.write_str("the system gave no random bytes for a webhook secret"),
        }
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn refuses_what_bcrypt_or_people_would_get_wrong() {
        assert_eq!(Secret::new("").unwrap_err(), SecretError::Empty);
        assert_eq!(Secret::new("a\0b").unwrap_err(), SecretError::Nul);
        assert_eq!(Secret::new(" a").unwrap_err(), SecretError::OuterWhiteSpace);
        assert_eq!(Secret::new("a\n").unwrap_err(), SecretError::OuterWhiteSpace);
        assert_eq!(Secret::new("é".repeat(37)).unwrap_err(), SecretError::TooLong(74));
        assert_eq!(Secret::new(SAMPLES[0]).unwrap_err(), SecretError::Sample);
        assert!(Secret::new("x".repeat(72)).is_ok());
    }

    #[test]
    fn file_loses_one_newline_and_no_more() {
        let folder = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("secret");
        for (text, expected) in [
            ("abc", Ok("abc")),
            ("abc\n", Ok("abc")),
            ("abc\r\n", Ok("abc")),
            ("abc\n\n", Err(SecretError::OuterWhiteSpace)),
        ] {
            std::fs::write(&path, text).unwrap();
            let read = Secret::from_file(&path);
            assert_eq!(read.as_ref().map(Secret::expose), expected.as_ref().copied(), "{text:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        let error = Secret::from_file(&path).unwrap_err();
        assert!(matches!(error, SecretError::File(..)), "{error}");
    }

    #[test]
    fn generated_secrets_differ_and_are_long() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_eq!(one.expose().len(), 48);
        assert_ne!(one.expose(), two.expose());
        assert!(!one.is_short());
        // Both halves of every byte are told: four digits alone would be chance once in 10^15 runs.
        for half in [0, 1] {
            let digits: HashSet<_> = one.expose().chars().skip(half).step_by(2).collect();
            assert!(digits.len() > 3 && digits.iter().all(char::is_ascii_hexdigit), "{digits:?}");
        }
    }

    #[test]
    fn short_is_what_can_be_guessed() {
        assert!(Secret::new("x".repeat(15)).unwrap().is_short());
        assert!(!Secret::new("x".repeat(16)).unwrap().is_short());
    }

    #[test]
    fn errors_say_what_to_do() {
        for (error, expected) in [
            (SecretError::Empty, "set the one the webhook was registered with"),
            (SecretError::TooLong(74), "has 74 bytes, and bcrypt reads only 72"),
            (SecretError::NoVariable("NAME".to_owned()), "set NAME, or NAME_FILE"),
            (SecretError::BothVariables("NAME".to_owned()), "NAME and NAME_FILE are set"),
            (SecretError::File("/a".to_owned(), "not found".to_owned()), "from /a: not found"),
        ] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
