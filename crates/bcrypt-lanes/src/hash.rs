//! The text form of a bcrypt hash: `$2b$10$`, 22 characters of salt, 31 of digest.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;

/// Padding bits that are not zero are rejected, so that a hash has one spelling.
const BASE64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, NO_PAD);

/// A bcrypt hash, read from its text form.
///
/// The versions `2a`, `2b` and `2y` are computed alike. `2x`, which marks hashes of an old faulty
/// implementation of `crypt_blowfish`, is not supported.
///
/// ```
/// use bcrypt_lanes::Hash;
///
/// let hash: Hash = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy".parse()?;
/// assert_eq!(hash.cost(), 10);
/// assert!("$2b$10$too short".parse::<Hash>().is_err());
/// # Ok::<(), bcrypt_lanes::HashError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    pub(crate) cost: u32,
    pub(crate) salt: [u8; 16],
    pub(crate) digest: [u8; 23],
}

impl Hash {
    /// The cost: the binary logarithm of the number of rounds, 4 to 31.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.cost
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bytes: &[u8; 60] = text.as_bytes().try_into().map_err(|_| HashError::Length)?;
        let [
            b'$',
            b'2',
            b'a' | b'b' | b'y',
            b'$',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
            b'$',
            encoded @ ..,
        ] = bytes
        else {
            return Err(HashError::Prefix);
        };
        let cost = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
        if !(4..=31).contains(&cost) {
            return Err(HashError::Cost);
        }
        let (mut salt, mut digest) = ([0; 16], [0; 23]);
        for (encoded, decoded) in [(&encoded[..22], &mut salt[..]), (&encoded[22..], &mut digest[..])] {
            BASE64.decode_slice(encoded, decoded).map_err(|_| HashError::Encoding)?;
        }
        Ok(Self { cost, salt, digest })
    }
}

/// Shows the cost only: who has the digest can guess passwords.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// Why a text is not a bcrypt hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashError {
    /// It is not 60 bytes long.
    Length,
    /// It does not begin with `$2a$`, `$2b$` or `$2y$` and a cost of two digits.
    Prefix,
    /// The cost is not between 4 and 31.
    Cost,
    /// The salt or the digest is not in bcrypt's Base64.
    Encoding,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a bcrypt hash is 60 bytes long",
            Self::Prefix => "a bcrypt hash begins with $2a$, $2b$ or $2y$, two digits of cost and $",
            Self::Cost => "the cost of a bcrypt hash is between 4 and 31",
            Self::Encoding => "the salt or the digest is not in bcrypt's Base64",
        })
    }
}

impl Error for HashError {}
