//! Tokens whose verdict is known.

use siphasher::sip128::SipHasher24;

use super::Verdict;
use super::keyring::{Keyring, SecretId};
use crate::bounded::Bounded;
use crate::token::Token;

/// A token under a keyed hash: looking it up tells nothing, by its timing, about other tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u128);

/// Tokens that verified and tokens that were refused, apart: forgeries cannot push out a sender.
pub(crate) struct Memory {
    hasher: SipHasher24,
    known: Bounded<Digest, SecretId>,
    refused: Bounded<Digest, ()>,
}

impl Memory {
    pub(crate) fn new(key: [u8; 16], known: usize, refused: usize) -> Self {
        Self {
            hasher: SipHasher24::new_with_key(&key),
            known: Bounded::new(known),
            refused: Bounded::new(refused),
        }
    }

    pub(crate) fn digest(&self, token: &Token) -> Digest {
        Digest(self.hasher.hash(token.as_bytes()).as_u128())
    }

    /// The verdict, and how many tokens of the same verdict its use pushed out.
    pub(crate) fn recall(&mut self, token: &Token) -> Option<(Verdict, usize)> {
        let digest = self.digest(token);
        if let Some((id, pushed_out)) = self.known.get(&digest) {
            return Some((Verdict::Matches(id), pushed_out));
        }
        self.refused.get(&digest).map(|((), pushed_out)| (Verdict::MatchesNone, pushed_out))
    }

    /// Whether there is a verdict. Does not count as a use.
    pub(crate) fn knows(&self, token: &Token) -> bool {
        let digest = self.digest(token);
        self.known.peek(&digest).is_some() || self.refused.peek(&digest).is_some()
    }

    /// Returns how many tokens of the same verdict it pushed out.
    pub(crate) fn remember(&mut self, token: &Token, verdict: Verdict) -> usize {
        let digest = self.digest(token);
        match verdict {
            Verdict::Matches(id) => self.known.insert(digest, id),
            Verdict::MatchesNone => self.refused.insert(digest, ()),
        }
    }

    /// Forgets tokens of secrets that are gone, and every refusal, since a new secret may match.
    pub(crate) fn keep_only(&mut self, keyring: &Keyring) {
        self.known.retain(|id| keyring.get(*id).is_some());
        self.refused.retain(|()| false);
    }
}
