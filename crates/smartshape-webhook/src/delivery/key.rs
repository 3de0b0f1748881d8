//! The key that identifies a delivery.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The webhook of a secret that was given without a name.
pub(crate) const DEFAULT_WEBHOOK: &str = "default";

/// Identifies a delivery: a hash of its uuid, event name and owner, and of the webhook that it came by.
///
/// SmartShape's manual documents `uuid` as unique per event, and does not say whether a retry
/// repeats it; no other field could serve. The same fields give the same key in every version of
/// this crate, so its text form is fit for a unique index.
///
/// ```
/// use smartshape_webhook::DeliveryKey;
///
/// let key = DeliveryKey::new("43a57abb", "file_uploaded", "test@smartshape.io");
/// assert_eq!(key.to_string(), "b767e0fe6dc96a0aafb9392a8f1a5772");
/// assert_ne!(key, DeliveryKey::new("43a57ab", "bfile_uploaded", "test@smartshape.io"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey([u8; 16]);

impl DeliveryKey {
    /// Hashes the three fields, each with its length before it: the key of a delivery that came by the webhook
    /// `default`.
    #[must_use]
    pub fn new(uuid: &str, event: &str, owner: &str) -> Self {
        Self::hash_fields([uuid, event, owner].into_iter())
    }

    /// The key of a delivery that came by this webhook: that of the secret's name, unless
    /// [`NamedSecret::for_webhook`](crate::NamedSecret::for_webhook) named another one. For `default` it is that of
    /// [`new`](Self::new).
    ///
    /// ```
    /// use smartshape_webhook::DeliveryKey;
    ///
    /// let key = DeliveryKey::for_webhook("uploads", "43a57abb", "file_uploaded", "test@smartshape.io");
    /// assert_eq!(key.to_string(), "20f2590068e5bc5f83dcf4b4750b3d59");
    /// let default = DeliveryKey::for_webhook("default", "43a57abb", "file_uploaded", "test@smartshape.io");
    /// assert_eq!(default, DeliveryKey::new("43a57abb", "file_uploaded", "test@smartshape.io"));
    /// ```
    #[must_use]
    pub fn for_webhook(webhook: &str, uuid: &str, event: &str, owner: &str) -> Self {
        let webhook = Some(webhook).filter(|webhook| *webhook != DEFAULT_WEBHOOK);
        Self::hash_fields([uuid, event, owner].into_iter().chain(webhook))
    }

    fn hash_fields<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for field in fields {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }

    /// The key of these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key's 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryKey({self})")
    }
}

/// Reads 32 hexadecimal digits.
///
/// ```
/// use smartshape_webhook::DeliveryKey;
///
/// let key: DeliveryKey = "b767e0fe6dc96a0aafb9392a8f1a5772".parse()?;
/// assert_eq!(key.to_string(), "b767e0fe6dc96a0aafb9392a8f1a5772");
/// assert!("b767".parse::<DeliveryKey>().is_err());
/// # Ok::<(), smartshape_webhook::KeyError>(())
/// ```
impl std::str::FromStr for DeliveryKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| KeyError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// The text is not the key of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delivery's key has 32 hexadecimal digits")
    }
}

impl std::error::Error for KeyError {}
