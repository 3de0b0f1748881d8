//! People, in the forms in which SmartShape names them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::RawJson;
use super::lenient::{self, LenientValue};

/// Maximum length of an identifying string in bytes, as it was sent. Decoded strings are allocated in addition to the
/// body, and the memory limit does not count them.
pub(super) const MAX_TEXT_BYTES: usize = 16 * 1024;

/// A person: an owner, author or user.
///
/// The manual's samples show e-mail addresses; other pages show account ids and objects. Nothing
/// is validated.
///
/// ```
/// use smartshape_webhook::Person;
///
/// let owner: Person = serde_json::from_str(r#""test@smartshape.io""#)?;
/// assert_eq!(owner.email(), Some("test@smartshape.io"));
///
/// let user: Person = serde_json::from_str(r#"{"id": "5c6f", "username": "Ada"}"#)?;
/// assert_eq!((user.id(), user.to_string().as_str()), (Some("5c6f"), "Ada"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Person {
    /// An e-mail address: a string with an `@`.
    Email(String),
    /// The id of an account: 24 hexadecimal digits.
    AccountId(String),
    /// An object; each part may be missing.
    Account {
        /// `_id` or `id`.
        id: Option<String>,
        /// `username`.
        username: Option<String>,
        /// `email`.
        email: Option<String>,
    },
    /// Any other string.
    Other(String),
}

impl Person {
    /// The e-mail address, where it is known.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        match self {
            Self::Email(email) => Some(email),
            Self::Account { email, .. } => email.as_deref(),
            Self::AccountId(_) | Self::Other(_) => None,
        }
    }

    /// The account's id, where it is known.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::AccountId(id) => Some(id),
            Self::Account { id, .. } => id.as_deref(),
            Self::Email(_) | Self::Other(_) => None,
        }
    }

    /// The name, where it is known.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Account { username, .. } => username.as_deref(),
            Self::Email(_) | Self::AccountId(_) | Self::Other(_) => None,
        }
    }

    /// A string that stays the same for the same form of the person.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Email(text) | Self::AccountId(text) | Self::Other(text) => text,
            Self::Account { id, username, email } => {
                id.as_ref().or(email.as_ref()).or(username.as_ref()).map_or("", String::as_str)
            }
        }
    }
}

/// The form that says most to people: name, else e-mail address, else id.
impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.username().or(self.email()).unwrap_or(self.key());
        f.write_str(if text.is_empty() { "unknown" } else { text })
    }
}

impl From<&str> for Person {
    fn from(text: &str) -> Self {
        if text.contains('@') {
            Self::Email(text.to_owned())
        } else if text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Self::AccountId(text.to_owned())
        } else {
            Self::Other(text.to_owned())
        }
    }
}

impl<'de> Deserialize<'de> for Person {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        LenientValue::read(raw.as_str()).ok_or_else(|| D::Error::custom("a person is a text or an object"))
    }
}

impl LenientValue for Person {
    /// Looks at the first byte, and not at the type that a visitor gets: `serde_json` shows some numbers to a visitor
    /// as objects when any crate of the program has switched its feature `arbitrary_precision` on.
    fn read(json: &str) -> Option<Self> {
        match json.as_bytes().first()? {
            b'"' => lenient::decode_string(json).map(|text| Self::from(text.as_str())),
            b'{' => serde_json::Deserializer::from_str(json).deserialize_map(PersonVisitor).ok(),
            _ => None,
        }
    }
}

struct PersonVisitor;

impl<'de> Visitor<'de> for PersonVisitor {
    type Value = Person;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a person: an object with id, username or email")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Person, A::Error> {
        let (mut mongo_id, mut id, mut username, mut email) = (None, None, None, None);
        while let Some(key) = map.next_key::<&RawValue>()? {
            match lenient::name(key).as_deref().unwrap_or_default() {
                "_id" => mongo_id = plain_string(map.next_value()?),
                "id" => id = plain_string(map.next_value()?),
                "username" => username = plain_string(map.next_value()?),
                "email" => email = plain_string(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Person::Account { id: mongo_id.or(id), username, email })
    }
}

/// A JSON string that is not empty, or a number's digits. Anything else says nothing about the person, and is no reason
/// to lose the event. Longer strings are ignored too ([`MAX_TEXT_BYTES`]).
fn plain_string(value: &RawValue) -> Option<String> {
    let text = value.get();
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    lenient::decode_string(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(json: &str) -> Person {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(person(r#""a@b""#), Person::Email("a@b".into()));
        assert_eq!(person(r#""5c6aeed079bf3f432d3c929e""#).id(), Some("5c6aeed079bf3f432d3c929e"));
        assert_eq!(person(r#""José""#), Person::Other("José".into()));
        let account = person(r#"{"_id": "5c", "username": null, "email": "a@b", "more": [1]}"#);
        assert_eq!((account.id(), account.username(), account.email()), (Some("5c"), None, Some("a@b")));
        assert_eq!((account.key(), account.to_string().as_str()), ("5c", "a@b"));
        assert_eq!(person("{}").to_string(), "unknown");
        let account = person(r#"{"id": 7, "_id": "5c", "username": "", "email": ["a@b"]}"#);
        assert_eq!((account.id(), account.username(), account.email()), (Some("5c"), None, None));
        assert_eq!(person(r#"{"id": 7}"#).id(), Some("7"));
        let long = "x".repeat(MAX_TEXT_BYTES);
        let account = person(&format!(r#"{{"id": "{long}", "username": "Ann", "email": {long:?}}}"#));
        assert_eq!((account.id(), account.username(), account.email()), (None, Some("Ann"), None));
        for json in ["7", "7.5", "-0", "18446744073709551616", "true", "null", r#"["a@b"]"#] {
            assert!(serde_json::from_str::<Person>(json).is_err(), "{json}");
        }
    }
}
