//! The secrets in place, each with an identity that survives a replacement of the set.

use std::sync::Arc;

use crate::secret::NamedSecret;
use crate::token::Token;

/// Identifies one plain secret for as long as it stays in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretId(u64);

#[derive(Debug)]
pub(crate) struct Keyring {
    secrets: Vec<(SecretId, Arc<NamedSecret>)>,
    next: u64,
}

impl Keyring {
    pub(crate) fn new(secrets: Vec<NamedSecret>) -> Self {
        Self { secrets: Vec::new(), next: 0 }.succeeded_by(secrets)
    }

    /// The set that follows: a plain secret that stays keeps its identity, and so its known tokens.
    pub(crate) fn succeeded_by(&self, secrets: Vec<NamedSecret>) -> Self {
        let mut next = self.next;
        let secrets = secrets
            .into_iter()
            .map(|named| {
                let kept =
                    self.secrets.iter().find(|(_, old)| old.secret().expose() == named.secret().expose());
                let id = kept.map_or_else(
                    || {
                        next += 1;
                        SecretId(next)
                    },
                    |(id, _)| *id,
                );
                (id, Arc::new(named))
            })
            .collect();
        Self { secrets, next }
    }

    pub(crate) fn get(&self, id: SecretId) -> Option<&Arc<NamedSecret>> {
        self.secrets.iter().find(|(known, _)| *known == id).map(|(_, named)| named)
    }

    pub(crate) fn len(&self) -> usize {
        self.secrets.len()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.secrets.iter().map(|(_, named)| named.name().to_owned()).collect()
    }

    /// Hashes with one secret after the other, and tells how many it tried. Expensive.
    pub(crate) fn find(&self, token: &Token) -> (Option<SecretId>, u64) {
        let mut tried = 0;
        let found = self.secrets.iter().find(|(_, named)| {
            tried += 1;
            token.matches(named.secret().expose())
        });
        (found.map(|(id, _)| *id), tried)
    }
}
