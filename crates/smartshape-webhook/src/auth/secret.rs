//! The secret of a webhook, and its name and scope.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::delivery::key::DEFAULT_WEBHOOK;
use crate::events::{EventKind, Person};

/// The longest secret that bcrypt reads to its end, in bytes.
const MAX_BYTES: usize = 72;
/// A shorter secret can be guessed: offline by whoever captured one token, and online by anybody whose guesses are
/// cheap.
const MIN_BYTES: usize = 16;
/// Maximum length of a secret's file. A longer one, or one without an end such as a device, is not read into memory.
const MAX_FILE_BYTES: u16 = 4096;
/// Secrets that stand in manuals. Whoever copies one has no secret.
const SAMPLES: [&str; 2] = ["replace-me-with-a-secret-of-your-own", "SECRET"];

/// The secret of a webhook: the value given as `secretToken` when the webhook was registered.
///
/// According to SmartShape's manual, each delivery carries a bcrypt hash of it. The value is zeroed when the last clone
/// is dropped, and `Debug` never shows it.
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
    /// Takes the secret with which the webhook was registered.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if the secret has fewer than 16 or more than 72 bytes (bcrypt ignores the rest, and senders
    /// differ), begins or ends with white space, contains an invisible character such as a byte order mark, or is one
    /// of the samples in manuals.
    pub fn new(secret: impl Into<String>) -> Result<Self, SecretError> {
        let secret = Self::danger_new_short(secret)?;
        let bytes = secret.0.len();
        if bytes < MIN_BYTES { Err(SecretError::TooShort(bytes)) } else { Ok(secret) }
    }

    /// Takes a secret that may be shorter than 16 bytes, for a webhook registered with one. An attacker who captures
    /// one token can guess it: register the webhook again with a longer one.
    ///
    /// ```
    /// use smartshape_webhook::{Secret, SecretError};
    ///
    /// assert_eq!(Secret::new("swordfish").unwrap_err(), SecretError::TooShort(9));
    /// assert!(Secret::danger_new_short("swordfish")?.is_short());
    /// # Ok::<(), SecretError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SecretError`] as for [`new`](Self::new), [`TooShort`](SecretError::TooShort) excepted.
    pub fn danger_new_short(secret: impl Into<String>) -> Result<Self, SecretError> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() {
            return Err(SecretError::Empty);
        }
        if secret.trim().len() != secret.len() {
            return Err(SecretError::OuterWhiteSpace);
        }
        if let Some(character) = secret.chars().find(|character| is_invisible(*character)) {
            return Err(SecretError::InvisibleCharacter(character));
        }
        if secret.len() > MAX_BYTES {
            return Err(SecretError::TooLong(secret.len()));
        }
        if SAMPLES.contains(&secret.as_str()) {
            return Err(SecretError::Sample);
        }
        Ok(Self(Arc::new(secret)))
    }

    /// Reads the secret from the environment variable `name`, or from the file named by `name_FILE` (see
    /// [`Secret::from_file`]). An empty variable counts as not set.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if neither or both variables are set, or, naming the variable, if the value is not a valid
    /// secret.
    pub fn from_env(name: &str) -> Result<Self, SecretError> {
        let file_name = format!("{name}_FILE");
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match (variable(name), variable(&file_name)) {
            (Some(_), Some(_)) => Err(SecretError::BothVariables(name.to_owned())),
            (None, None) => Err(SecretError::NoVariable(name.to_owned())),
            (None, Some(path)) => Self::from_file(path).map_err(|error| error.in_variable(file_name)),
            (Some(value), None) => value
                .into_string()
                .map_err(|_| SecretError::NotUnicode)
                .and_then(Self::new)
                .map_err(|error| error.in_variable(name.to_owned())),
        }
    }

    /// Reads the secret from a file; one newline at its end is stripped.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if the file cannot be read, is longer than 4096 bytes, is not UTF-8 or does not contain a valid
    /// secret.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let failed = |why: String| SecretError::File(path.as_ref().display().to_string(), why);
        // A vector that had to grow would leave a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(usize::from(MAX_FILE_BYTES) + 1));
        File::open(&path)
            .and_then(|file| file.take(u64::from(MAX_FILE_BYTES) + 1).read_to_end(&mut text))
            .map_err(|error| failed(error.to_string()))?;
        if text.len() > usize::from(MAX_FILE_BYTES) {
            return Err(failed(format!("it is longer than {MAX_FILE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&text).map_err(|_| SecretError::NotUnicode)?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        Self::new(line.strip_suffix('\r').unwrap_or(line))
    }

    /// Generates a random secret of 48 hexadecimal digits (192 bits).
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

    /// The secret itself, to register a webhook with. Keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is shorter than 16 bytes, so that it can be guessed from a captured token.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.len() < MIN_BYTES
    }
}

/// Whether a character is invisible or looks like an ordinary space: control characters, spaces of other widths, and
/// Unicode's default ignorable characters (direction and byte order marks, joiners, selectors, fillers).
fn is_invisible(character: char) -> bool {
    let looks_like_space = character != ' ' && character.is_whitespace();
    character.is_control()
        || looks_like_space
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A secret with a name, and optionally a scope. A webhook is registered for one event with its own secret, so a
/// receiver for several webhooks has several. Scope each to its event: a stolen token for annotations then cannot forge
/// a file upload.
///
/// ```
/// use smartshape_webhook::{EventKind, NamedSecret, Secret};
///
/// let uploads = NamedSecret::new("uploads", Secret::generate()?).scoped_to([EventKind::FileUploaded]);
/// assert_eq!(uploads.name(), "uploads");
/// assert!(uploads.permits(Some(EventKind::FileUploaded)));
/// assert!(!uploads.permits(Some(EventKind::AnnotationCreated)));
/// assert!(!uploads.permits(None), "an unknown event is outside every scope");
/// # Ok::<(), smartshape_webhook::SecretError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NamedSecret {
    name: Arc<str>,
    secret: Secret,
    events: Option<Vec<EventKind>>,
    owners: Option<Vec<String>>,
    /// `None` if it has the secret's name.
    webhook: Option<Arc<str>>,
}

impl NamedSecret {
    /// Names a secret. The name appears in logs and in [`Delivery::secret_name`](crate::Delivery::secret_name).
    #[must_use]
    pub fn new(name: impl Into<String>, secret: Secret) -> Self {
        Self { name: Arc::from(name.into()), secret, events: None, owners: None, webhook: None }
    }

    /// Restricts the secret to these events. Defaults to all events, documented or not.
    #[must_use]
    pub fn scoped_to(mut self, events: impl IntoIterator<Item = EventKind>) -> Self {
        self.events = Some(events.into_iter().collect());
        self
    }

    /// Restricts the secret to events of these owners. Defaults to any owner. An owner is an e-mail address or an
    /// account's id, as SmartShape sends it. If SmartShape sends an object, its id and its address, as far as present,
    /// must both be listed; a user name does not count.
    ///
    /// ```
    /// use smartshape_webhook::{NamedSecret, Secret};
    ///
    /// let uploads = NamedSecret::new("uploads", Secret::generate()?).scoped_to_owners(["ada@example.com", "5c6f"]);
    /// assert_eq!(uploads.name(), "uploads");
    /// # Ok::<(), smartshape_webhook::SecretError>(())
    /// ```
    #[must_use]
    pub fn scoped_to_owners(mut self, owners: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.owners = Some(owners.into_iter().map(Into::into).collect());
        self
    }

    /// Names the webhook that the secret belongs to. Defaults to the secret's name. During a rotation two secrets
    /// belong to the same webhook: an event received with one is a duplicate when it is received with the other.
    ///
    /// A delivery's [key](crate::DeliveryKey::for_webhook) depends on the webhook, so that a token of one webhook
    /// cannot pre-empt another webhook's event. The webhook `default`, that of
    /// [`ReceiverBuilder::secret`](crate::ReceiverBuilder::secret), has the keys of
    /// [`DeliveryKey::new`](crate::DeliveryKey::new).
    ///
    /// ```
    /// use smartshape_webhook::{NamedSecret, Receiver, Secret};
    ///
    /// let old = NamedSecret::new("uploads", Secret::generate()?);
    /// let new = NamedSecret::new("uploads of December", Secret::generate()?).for_webhook("uploads");
    /// let receiver = Receiver::builder().named_secret(old).named_secret(new).build()?;
    /// assert_eq!(receiver.secret_names(), ["uploads", "uploads of December"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn for_webhook(mut self, name: impl Into<String>) -> Self {
        self.webhook = Some(Arc::from(name.into()));
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the scope includes an event; `None` stands for an unknown event.
    #[must_use]
    pub fn permits(&self, event: Option<EventKind>) -> bool {
        match (&self.events, event) {
            (None, _) => true,
            (Some(events), Some(event)) => events.contains(&event),
            (Some(_), None) => false,
        }
    }

    pub(crate) fn permits_owner<'a>(&self, owner: impl FnOnce() -> &'a Person) -> bool {
        let Some(owners) = &self.owners else { return true };
        let owner = owner();
        let listed = |part: &str| owners.iter().any(|owner| owner == part);
        match (owner.id(), owner.email()) {
            // Text in another form, or an object with neither.
            (None, None) => matches!(owner, Person::Other(text) if listed(text)),
            (id, email) => id.into_iter().chain(email).all(listed),
        }
    }

    /// The name of the webhook.
    pub(crate) fn webhook_name(&self) -> &Arc<str> {
        self.webhook.as_ref().unwrap_or(&self.name)
    }

    /// The webhook's name, unless it is `default`.
    pub(crate) fn webhook_in_key(&self) -> Option<Arc<str>> {
        let name = self.webhook_name();
        (**name != *DEFAULT_WEBHOOK).then(|| Arc::clone(name))
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

/// Why a text is not usable as a secret. Never shows the secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// The secret is empty.
    Empty,
    /// The secret holds this character, which cannot be seen and was hardly meant.
    InvisibleCharacter(char),
    /// The secret begins or ends with white space, usually a newline that crept in.
    OuterWhiteSpace,
    /// The secret has this many bytes, which is under 16.
    TooShort(usize),
    /// The secret has this many bytes; bcrypt reads 72.
    TooLong(usize),
    /// The secret is a sample from a manual.
    Sample,
    /// The secret is not UTF-8.
    NotUnicode,
    /// Neither this environment variable nor its `_FILE` form is set to anything.
    NoVariable(String),
    /// Both this environment variable and its `_FILE` form are set.
    BothVariables(String),
    /// The file (first) could not be read (second: why).
    File(String, String),
    /// What this environment variable (first) holds, or the file that it names, is no secret (second: why).
    Variable(String, Box<Self>),
    /// The system gave no random bytes.
    NoRandomness,
}

impl SecretError {
    fn in_variable(self, name: String) -> Self {
        Self::Variable(name, Box::new(self))
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the webhook secret is empty: set the one the webhook was registered with")
            }
            Self::InvisibleCharacter(character) => {
                let code = u32::from(*character);
                write!(
                    f,
                    "the webhook secret holds U+{code:04X}, a character that cannot be seen: remove it"
                )?;
                match character {
                    '\u{feff}' => {
                        f.write_str(" (editors write it as a byte order mark: save the file without one)")
                    }
                    _ => Ok(()),
                }
            }
            Self::TooShort(bytes) => write!(
                f,
                "the webhook secret has {bytes} bytes, and under 16 it can be guessed: register the webhook with a longer one"
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
            Self::Variable(name, error) => write!(f, "{name}: {error}"),
            Self::NoRandomness => f.write_str("the system gave no random bytes for a webhook secret"),
        }
    }
}

/// Prints the same text as `Display`, because a `main` that returns an error shows it with `Debug`.
impl fmt::Debug for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rejects_what_bcrypt_or_people_would_get_wrong() {
        assert_eq!(Secret::new("").unwrap_err(), SecretError::Empty);
        assert_eq!(Secret::new(" a").unwrap_err(), SecretError::OuterWhiteSpace);
        assert_eq!(Secret::new("a\n").unwrap_err(), SecretError::OuterWhiteSpace);
        assert_eq!(Secret::new("é".repeat(37)).unwrap_err(), SecretError::TooLong(74));
        assert_eq!(Secret::new(SAMPLES[0]).unwrap_err(), SecretError::Sample);
        assert!(Secret::new("x".repeat(72)).is_ok());
        assert_eq!(Secret::new("x".repeat(15)).unwrap_err(), SecretError::TooShort(15));
        assert!(Secret::danger_new_short("x".repeat(15)).unwrap().is_short());
        assert!(!Secret::new("x".repeat(16)).unwrap().is_short());
    }

    #[test]
    fn invisible_characters_are_named_in_the_error() {
        let controls_and_spaces = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{a0}\u{2028}\u{3000}";
        let ignorable =
            "\u{ad}\u{200b}\u{200d}\u{200e}\u{202e}\u{2060}\u{2066}\u{3164}\u{fe0f}\u{feff}\u{e0041}";
        for character in controls_and_spaces.chars().chain(ignorable.chars()) {
            let code = format!("U+{:04X}", u32::from(character));
            let text = format!("a long and{character} random string");
            let error = Secret::new(&text).unwrap_err();
            assert_eq!(error, SecretError::InvisibleCharacter(character), "{code}");
            assert!(error.to_string().contains(&code) && !error.to_string().contains("random"), "{error}");
            for text in [
                format!("{character}a long and random string"),
                format!("a long and random string{character}"),
            ] {
                assert!(Secret::new(&text).is_err(), "{code}");
                assert!(Secret::danger_new_short(text).is_err(), "{code}");
            }
        }
        for visible in [
            "a long and random string",
            "pässwörd of söme length",
            "密码密码密码密码",
            "e\u{301}trange et longue",
            "🔑🔑🔑🔑",
        ] {
            assert!(Secret::new(visible).is_ok(), "{visible}");
        }
    }

    #[test]
    fn file_loses_one_newline_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (text, expected) in [
            ("a secret in a file", Ok("a secret in a file")),
            ("a secret in a file\n", Ok("a secret in a file")),
            ("a secret in a file\r\n", Ok("a secret in a file")),
            ("a secret in a file\n\n", Err(SecretError::OuterWhiteSpace)),
            ("\u{feff}a secret in a file\n", Err(SecretError::InvisibleCharacter('\u{feff}'))),
        ] {
            std::fs::write(&path, text).unwrap();
            let read = Secret::from_file(&path);
            assert_eq!(read.as_ref().map(Secret::expose), expected.as_ref().copied(), "{text:?}");
        }
        // It may be a file without an end, such as a device.
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        let error = Secret::from_file(&path).unwrap_err();
        assert!(error.to_string().ends_with("longer than 4096 bytes"), "{error}");
        drop(folder);
        let error = Secret::from_file(&path).unwrap_err();
        assert!(matches!(error, SecretError::File(..)), "{error}");
    }

    #[test]
    fn generated_secrets_differ_and_are_long() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_eq!(one.expose().len(), 48);
        assert_ne!(one.expose(), two.expose());
        assert!(!one.is_short());
        // Both digits of every byte vary: no more than three different ones would be chance once in 10^15 runs.
        for half in [0, 1] {
            let digits: HashSet<_> = one.expose().chars().skip(half).step_by(2).collect();
            assert!(digits.len() > 3 && digits.iter().all(char::is_ascii_hexdigit), "{digits:?}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        for (error, expected) in [
            (SecretError::Empty, "set the one the webhook was registered with"),
            (
                SecretError::InvisibleCharacter('\u{feff}'),
                "U+FEFF, a character that cannot be seen: remove it (editors",
            ),
            (SecretError::TooShort(9), "has 9 bytes, and under 16 it can be guessed"),
            (SecretError::TooLong(74), "has 74 bytes, and bcrypt reads only 72"),
            (SecretError::NoVariable("NAME".to_owned()), "set NAME, or NAME_FILE"),
            (SecretError::BothVariables("NAME".to_owned()), "NAME and NAME_FILE are set"),
            (SecretError::File("/a".to_owned(), "not found".to_owned()), "from /a: not found"),
            (SecretError::TooShort(9).in_variable("NAME".to_owned()), "NAME: the webhook secret has 9 bytes"),
        ] {
            assert!(error.to_string().contains(expected), "{error}");
            // A `main` that returns it shows it so.
            assert_eq!(format!("{error:?}"), error.to_string());
        }
    }
}
