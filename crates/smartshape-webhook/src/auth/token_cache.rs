//! The token cache: the status of tokens that were hashed before.

use siphasher::sip128::SipHasher24;

use super::TokenStatus;
use super::keyring::{Keyring, SecretId};
use super::token::Token;
use crate::cache::GenerationalCache;
use crate::metrics::{Evicted, Eviction};

/// A hash of a token under a random key. Without the key nobody can construct a token that collides with a verified
/// one, nor learn from the timing of a lookup how close a token is to a cached one. The tokens themselves are not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Digest(u128);

/// Holds verified and rejected tokens in separate caches, so that forgeries cannot evict a sender's token.
pub(crate) struct TokenCache {
    hasher: SipHasher24,
    verified: GenerationalCache<Digest, SecretId>,
    rejected: GenerationalCache<Digest, ()>,
}

impl TokenCache {
    pub(crate) fn new(key: [u8; 16], verified: usize, rejected: usize) -> Self {
        Self {
            hasher: SipHasher24::new_with_key(&key),
            verified: GenerationalCache::new(verified),
            rejected: GenerationalCache::new(rejected),
        }
    }

    fn digest(&self, token: &Token) -> Digest {
        Digest(self.hasher.hash(token.as_bytes()).as_u128())
    }

    /// Returns the token's status, and how many tokens its use evicted: a use moves a token into the hot generation,
    /// and when that is full the cold one is dropped.
    pub(crate) fn get(&mut self, token: &Token) -> Option<(TokenStatus, Eviction)> {
        let digest = self.digest(token);
        if let Some((id, count)) = self.verified.get(&digest) {
            return Some((TokenStatus::Verified(id), Eviction { what: Evicted::VerifiedToken, count }));
        }
        let ((), count) = self.rejected.get(&digest)?;
        Some((TokenStatus::Rejected, Eviction { what: Evicted::RejectedToken, count }))
    }

    /// Whether the token's status is known. Does not count as a use.
    pub(crate) fn contains(&self, token: &Token) -> bool {
        let digest = self.digest(token);
        self.verified.peek(&digest).is_some() || self.rejected.peek(&digest).is_some()
    }

    pub(crate) fn insert(&mut self, token: &Token, status: TokenStatus) -> Eviction {
        let digest = self.digest(token);
        let (what, count) = match status {
            TokenStatus::Verified(id) => (Evicted::VerifiedToken, self.verified.insert(digest, id)),
            TokenStatus::Rejected => (Evicted::RejectedToken, self.rejected.insert(digest, ())),
        };
        Eviction { what, count }
    }

    /// Evicts the tokens of removed secrets, and every rejected one, since a new secret may match it.
    pub(crate) fn retain_secrets(&mut self, keyring: &Keyring) {
        self.verified.retain(|id| keyring.get(*id).is_some());
        self.rejected.retain(|()| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::secret::{NamedSecret, Secret};

    #[test]
    fn token_cache_keeps_a_verified_token_under_a_flood_of_rejected_ones() {
        let keyring = Keyring::new(vec![NamedSecret::new("a", Secret::generate().unwrap())]);
        let token = |salt: u32| {
            Token::parse(format!("$2b$10${salt:021}uvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG").as_bytes()).unwrap()
        };
        let verified = TokenStatus::Verified(keyring.ids().next().unwrap());
        let mut cache = TokenCache::new([0; 16], 8, 8);
        let nothing = Eviction { what: Evicted::VerifiedToken, count: 0 };
        assert_eq!(cache.insert(&token(0), verified), nothing);
        let evictions = (1..=40).map(|salt| cache.insert(&token(salt), TokenStatus::Rejected));
        let rejected = evictions.filter(|eviction| eviction.what == Evicted::RejectedToken);
        let count = rejected.map(|eviction| eviction.count).sum::<usize>();
        assert_eq!(count, 24, "those that are no longer there");
        assert_eq!(cache.get(&token(0)).map(|(status, _)| status), Some(verified));
        assert_eq!(cache.get(&token(40)).map(|(status, _)| status), Some(TokenStatus::Rejected));
        assert_eq!(cache.get(&token(1)).map(|(status, _)| status), None);
    }
}
