//! Fingerprints of tokens and events: keyed hashes that are equal if the originals are, and reveal nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use smartshape_webhook::{Secret, SecretError, Token};

/// Makes keyed fingerprints. The key is random and never stored, so that fingerprints of two listeners cannot be
/// compared, and nobody can guess a token or salt and check it.
pub(crate) struct Fingerprinter(Secret);

/// The parts of a token that a recording holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenFingerprints {
    pub(crate) prefix: String,
    pub(crate) cost: u32,
    pub(crate) salt: String,
    /// Fingerprint of the whole token.
    pub(crate) mark: String,
}

impl Fingerprinter {
    pub(crate) fn new() -> Result<Self, SecretError> {
        Secret::generate().map(Self)
    }

    /// `None` if the value is no token.
    pub(crate) fn token(&self, value: &[u8]) -> Option<TokenFingerprints> {
        let token = Token::parse(value).ok()?;
        // "$2b$10$", and then 22 characters.
        let salt = value.get(7..29)?;
        Some(TokenFingerprints {
            prefix: token.prefix().to_owned(),
            cost: token.cost(),
            salt: self.mark([salt]),
            mark: self.mark([value]),
        })
    }

    /// Fingerprint of an event without its uuid and runTimestamp, regardless of the order of its fields.
    pub(super) fn content(&self, line: &str) -> String {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap_or_default();
        fields.retain(|name, _| name != "uuid" && name != "runTimestamp");
        self.mark(fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.get().as_bytes()]))
    }

    fn mark<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(self.0.expose().as_bytes());
        parts.into_iter().for_each(&mut add);
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_equal_if_originals_and_key_are() {
        let (fingerprinter, others) = (Fingerprinter::new().unwrap(), Fingerprinter::new().unwrap());
        let token = |salt: &str| {
            let text = format!("$2b$10${salt}wxyzABCDEFGHIJKLMNOPQRSTUVWXYG");
            (fingerprinter.token(text.as_bytes()).unwrap(), others.token(text.as_bytes()).unwrap())
        };
        let (one, of_other_key) = token("abcdefghijklmnopqrstuuv");
        assert_eq!((one.prefix.as_str(), one.cost), ("2b", 10));
        assert_eq!(one, token("abcdefghijklmnopqrstuuv").0);
        assert_ne!((&one.salt, &one.mark), (&of_other_key.salt, &of_other_key.mark));
        // The character after the salt.
        let (other_hash, _) = token("abcdefghijklmnopqrstuuw");
        assert_eq!((one.salt == other_hash.salt, one.mark == other_hash.mark), (true, false));
        assert_ne!(one.salt, token("bbcdefghijklmnopqrstuuv").0.salt);
        assert_eq!(fingerprinter.token(b"letmein"), None);
    }

    #[test]
    fn content_ignores_uuid_and_run_timestamp() {
        let fingerprinter = Fingerprinter::new().unwrap();
        let one = fingerprinter.content(r#"{"uuid":"1","runTimestamp":1,"file":"f","data":{"x":1}}"#);
        assert_eq!(one, fingerprinter.content(r#"{"data":{"x":1},"file":"f","uuid":"2","runTimestamp":2}"#));
        assert_ne!(one, fingerprinter.content(r#"{"uuid":"1","runTimestamp":1,"file":"f","data":{"x":2}}"#));
    }
}
