//! The secrets in place, each with an identity that survives a replacement of the set.

use std::ops::Deref;
use std::sync::Arc;

use crate::budget::Taken;
use crate::secret::NamedSecret;
use crate::token::Token;

/// Identifies one plain secret for as long as it stays in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretId(u64);

/// A secret in place.
#[derive(Debug)]
pub(crate) struct PlacedSecret {
    named: NamedSecret,
    /// What its webhook has taken; `None` where there is no other webhook to leave anything to.
    pub(crate) taken: Option<Arc<Taken>>,
}

impl Deref for PlacedSecret {
    type Target = NamedSecret;

    fn deref(&self) -> &NamedSecret {
        &self.named
    }
}

#[derive(Debug)]
pub(crate) struct Keyring {
    secrets: Vec<(SecretId, Arc<PlacedSecret>)>,
    next: u64,
}

impl Keyring {
    pub(crate) fn new(secrets: Vec<NamedSecret>) -> Self {
        Self { secrets: Vec::new(), next: 0 }.succeeded_by(secrets)
    }

    /// The set that follows: a plain secret that stays keeps its identity, and so its known tokens.
    pub(crate) fn succeeded_by(&self, secrets: Vec<NamedSecret>) -> Self {
        let mut next = self.next;
        let alone = secrets.windows(2).all(|two| two[0].webhook_name() == two[1].webhook_name());
        let mut taken = Vec::<(Arc<str>, Arc<Taken>)>::new();
        let mut taken_by = |webhook: &Arc<str>| {
            let placed = self.secrets.iter().find(|(_, old)| old.webhook_name() == webhook);
            let before = placed.and_then(|(_, old)| old.taken.clone());
            let known = taken.iter().find(|(name, _)| name == webhook).map(|(_, taken)| Arc::clone(taken));
            let taken_now = known.or(before).unwrap_or_default();
            taken.push((Arc::clone(webhook), Arc::clone(&taken_now)));
            taken_now
        };
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
                let taken = (!alone).then(|| taken_by(named.webhook_name()));
                (id, Arc::new(PlacedSecret { named, taken }))
            })
            .collect();
        Self { secrets, next }
    }

    pub(crate) fn get(&self, id: SecretId) -> Option<&Arc<PlacedSecret>> {
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
