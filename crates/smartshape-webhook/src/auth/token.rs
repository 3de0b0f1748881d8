//! The token that a delivery carries: a bcrypt hash whose prefix, cost and salt the caller chose.

use std::fmt;

use bcrypt_lanes::Hash;

/// The header that carries the token, in lower case. Documented by SmartShape's manual.
pub const TOKEN_HEADER: &str = "x-smartshape-token";

/// The alphabet of bcrypt's own base 64.
const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// The value of each byte in that alphabet, and `NONE` for the others.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};
const NONE: u8 = u8::MAX;
const LENGTH: usize = 60;

/// A token of correct form: 60 bytes, `$2a$`, `$2b$` or `$2y$`, a cost from 4 to 31, salt and hash.
///
/// Correct form says nothing about whether it belongs to a secret. `Debug` shows prefix and cost only.
///
/// ```
/// use smartshape_webhook::{Token, TokenError};
///
/// let token = Token::parse(b"$2b$10$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG").unwrap();
/// assert_eq!((token.prefix(), token.cost()), ("2b", 10));
/// assert_eq!(Token::parse(b"letmein").unwrap_err(), TokenError::Length);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token {
    text: [u8; LENGTH],
    cost: u8,
}

impl Token {
    /// Reads a header value, strictly.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says which part is wrong. Nothing is hashed here.
    pub fn parse(value: &[u8]) -> Result<Self, TokenError> {
        let text: [u8; LENGTH] = value.try_into().map_err(|_| TokenError::Length)?;
        let [b'$', b'2', variant, b'$', tens, ones, b'$', salt_and_hash @ ..] = &text else {
            return Err(TokenError::Prefix);
        };
        if !matches!(variant, b'a' | b'b' | b'y') {
            return Err(TokenError::Prefix);
        }
        if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
            return Err(TokenError::Cost);
        }
        let cost = (tens - b'0') * 10 + (ones - b'0');
        if !(4..=31).contains(&cost) {
            return Err(TokenError::Cost);
        }
        let (salt, hash) = salt_and_hash.split_at(22);
        // 16 bytes leave four idle bits in the last character, 23 bytes leave two. Bits set there
        // would give one token many spellings, each of which would have to be hashed.
        if encodes(salt, 4) && encodes(hash, 2) { Ok(Self { text, cost }) } else { Err(TokenError::Alphabet) }
    }

    /// The variant of bcrypt: `2a`, `2b` or `2y`.
    #[must_use]
    pub fn prefix(&self) -> &'static str {
        match self.text[2] {
            b'a' => "2a",
            b'y' => "2y",
            _ => "2b",
        }
    }

    /// The cost: checking the token takes 2^cost rounds.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.cost.into()
    }

    pub(crate) fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.text
    }

    /// The hash to compare with. Every token has one, since its form is stricter than a hash's.
    pub(crate) fn hash(&self) -> Option<Hash> {
        std::str::from_utf8(&self.text).ok()?.parse().ok()
    }
}

/// Whether all characters are bcrypt's and the last one leaves its idle low bits zero.
fn encodes(text: &[u8], idle_bits: u32) -> bool {
    let value = |character: &u8| VALUES[usize::from(*character)];
    // `NONE` has every bit set, and a value none of the highest: one branch for all characters.
    let all = text.iter().fold(0, |all, character| all | value(character));
    all != NONE && text.last().is_some_and(|last| value(last).trailing_zeros() >= idle_bits)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(${}${:02}$redacted)", self.prefix(), self.cost)
    }
}

/// Why a header value is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not have 60 bytes.
    Length,
    /// It does not begin with `$2a$`, `$2b$` or `$2y$`.
    Prefix,
    /// The cost is not two digits from 04 to 31, followed by `$`.
    Cost,
    /// Salt or hash are not written in bcrypt's alphabet.
    Alphabet,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "the token does not have 60 bytes",
            Self::Prefix => "the token does not begin with $2a$, $2b$ or $2y$",
            Self::Cost => "the token's cost is not two digits from 04 to 31",
            Self::Alphabet => "the token's salt or hash is not in bcrypt's alphabet",
        })
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "$2b$10$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG";

    #[test]
    fn takes_the_three_variants() {
        for variant in ["2a", "2b", "2y"] {
            let token = Token::parse(GOOD.replacen("2b", variant, 1).as_bytes()).unwrap();
            assert_eq!((token.prefix(), token.cost()), (variant, 10));
            assert!(token.hash().is_some());
        }
    }

    #[test]
    fn rejects_every_other_form() {
        let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        for (text, expected) in [
            (String::new(), TokenError::Length),
            (format!("{GOOD}x"), TokenError::Length),
            (GOOD[1..].to_owned(), TokenError::Length),
            (with("2b", "2x"), TokenError::Prefix),
            (with("2b", "1b"), TokenError::Prefix),
            (with("$10$", "$+5$"), TokenError::Cost),
            (with("$10$", "$03$"), TokenError::Cost),
            (with("$10$", "$32$"), TokenError::Cost),
            (with("$10$", "$99$"), TokenError::Cost),
            (with("abc", "a\0c"), TokenError::Alphabet),
            (with("abcd", "aéd"), TokenError::Alphabet),
            (with("abc", "a=c"), TokenError::Alphabet),
            (with("tuuv", "tuvv"), TokenError::Alphabet),
            (with("XYG", "XYH"), TokenError::Alphabet),
        ] {
            assert_eq!(Token::parse(text.as_bytes()).unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn debug_shows_neither_salt_nor_hash() {
        let token = Token::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(format!("{token:?}"), "Token($2b$10$redacted)");
    }
}
