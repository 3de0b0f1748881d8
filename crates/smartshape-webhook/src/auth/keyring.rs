//! The current secrets. Each has an identity that survives a replacement of the set.

use std::ops::Deref;
use std::sync::Arc;

use super::secret::NamedSecret;
use crate::webhook_usage::WebhookUsage;

/// Identifies one plain secret for as long as it stays in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretId(u64);

/// A secret, and how much of the shared limits its webhook uses.
#[derive(Debug)]
pub(crate) struct KeyringEntry {
    named: NamedSecret,
    /// `None` if all secrets belong to the same webhook, which may then use everything.
    pub(crate) usage: Option<Arc<WebhookUsage>>,
}

impl Deref for KeyringEntry {
    type Target = NamedSecret;

    fn deref(&self) -> &NamedSecret {
        &self.named
    }
}

#[derive(Debug)]
pub(crate) struct Keyring {
    secrets: Vec<(SecretId, Arc<KeyringEntry>)>,
    next: u64,
}

impl Keyring {
    pub(crate) fn new(secrets: Vec<NamedSecret>) -> Self {
        Self { secrets: Vec::new(), next: 0 }.succeeded_by(secrets)
    }

    /// Makes the next set. A plain secret that stays keeps its identity, and so its cached tokens.
    pub(crate) fn succeeded_by(&self, secrets: Vec<NamedSecret>) -> Self {
        let mut next = self.next;
        let is_single_webhook = secrets.windows(2).all(|two| two[0].webhook_name() == two[1].webhook_name());
        let mut usages = Vec::<(Arc<str>, Arc<WebhookUsage>)>::new();
        // Secrets of one webhook share its usage, and a webhook that stays keeps it: deliveries in flight are counted
        // in the former one, so that with a new one the webhook could exceed its share until they end.
        let mut usage_for = |webhook: &Arc<str>| {
            let entry = self.secrets.iter().find(|(_, old)| old.webhook_name() == webhook);
            let before = entry.and_then(|(_, old)| old.usage.clone());
            let known = usages.iter().find(|(name, _)| name == webhook).map(|(_, usage)| Arc::clone(usage));
            let usage = known.or(before).unwrap_or_default();
            usages.push((Arc::clone(webhook), Arc::clone(&usage)));
            usage
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
                let usage = (!is_single_webhook).then(|| usage_for(named.webhook_name()));
                (id, Arc::new(KeyringEntry { named, usage }))
            })
            .collect();
        Self { secrets, next }
    }

    pub(crate) fn get(&self, id: SecretId) -> Option<&Arc<KeyringEntry>> {
        self.secrets.iter().find(|(known, _)| *known == id).map(|(_, named)| named)
    }

    /// The secret that is tried as this one in order, from 0 on.
    pub(crate) fn nth(&self, index: usize) -> Option<(SecretId, &Arc<KeyringEntry>)> {
        self.secrets.get(index).map(|(id, named)| (*id, named))
    }

    pub(crate) fn len(&self) -> usize {
        self.secrets.len()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.secrets.iter().map(|(_, named)| named.name().to_owned()).collect()
    }

    #[cfg(test)]
    pub(crate) fn ids(&self) -> impl Iterator<Item = SecretId> {
        self.secrets.iter().map(|(id, _)| *id)
    }
}
