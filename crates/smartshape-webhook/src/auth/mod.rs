//! Token verification: from the token cache, or by the workers that hash.

pub(crate) mod client_addr;
mod fair_queue;
mod keyring;
pub(crate) mod secret;
pub(crate) mod token;
mod token_cache;
mod workers;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) use keyring::{Keyring, KeyringEntry, SecretId};
use token_cache::TokenCache;
pub(crate) use workers::VerifyBusy;
use workers::Workers;

use self::client_addr::ClientAddr;
use self::secret::NamedSecret;
use self::token::Token;
use crate::lock::locked;
use crate::metrics::record_eviction;

/// Verified tokens that are always kept. A SmartShape webhook sends one token, or a few while it is rotated.
const VERIFIED_TOKENS: usize = 1024;
/// Rejected tokens that are always kept, so that a sender with a wrong token is hashed once and not at every attempt.
const REJECTED_TOKENS: usize = 1024;

/// Whether a token matches one of the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenStatus {
    Verified(SecretId),
    Rejected,
}

pub(crate) struct Settings {
    pub(crate) verify_timeout: Duration,
    pub(crate) verify_threads: usize,
}

/// Verifies tokens against a replaceable set of secrets.
pub(crate) struct Verifier {
    /// Taken by every request, and never by a worker.
    current: Mutex<Current>,
    workers: Workers,
}

pub(crate) struct Current {
    keyring: Arc<Keyring>,
    tokens: TokenCache,
}

impl Verifier {
    pub(crate) fn new(secrets: Vec<NamedSecret>, settings: &Settings) -> Result<Self, getrandom::Error> {
        let mut key = [0_u8; 16];
        getrandom::fill(&mut key)?;
        let keyring = Arc::new(Keyring::new(secrets));
        let workers = Workers::new(Arc::clone(&keyring), settings);
        let tokens = TokenCache::new(key, VERIFIED_TOKENS, REJECTED_TOKENS);
        Ok(Self { current: Mutex::new(Current { keyring, tokens }), workers })
    }

    /// Returns the secret that the token matches, if any.
    pub(crate) async fn verify(
        &self,
        token: &Token,
        client: Option<ClientAddr>,
    ) -> Result<Option<Arc<KeyringEntry>>, VerifyBusy> {
        loop {
            if let Some(secret) = self.cached(token) {
                return Ok(secret);
            }
            if self.workers.collect(&self.current) {
                continue;
            }
            let Some(waiting) = self.workers.submit(&self.current, token, client)? else { continue };
            let hashed = Box::pin(self.workers.wait(waiting)).await?;
            self.workers.collect(&self.current);
            // A status is valid for the secrets that it was found with. If they were replaced meanwhile, start again.
            let current = locked(&self.current);
            if Arc::ptr_eq(&hashed.keyring, &current.keyring) {
                return Ok(current.secret(hashed.status));
            }
        }
    }

    /// Replaces the secrets. Tokens of removed secrets are evicted at once, and so are all rejected ones.
    pub(crate) fn replace(&self, secrets: Vec<NamedSecret>) {
        self.workers.replace(&self.current, |keyring| keyring.succeeded_by(secrets));
    }

    pub(crate) fn names(&self) -> Vec<String> {
        locked(&self.current).keyring.names()
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.workers.hashes()
    }

    /// Returns the secret that a cached token matches, if any; `None` if the token is not cached.
    fn cached(&self, token: &Token) -> Option<Option<Arc<KeyringEntry>>> {
        let mut current = locked(&self.current);
        let (status, eviction) = current.tokens.get(token)?;
        let secret = current.secret(status);
        drop(current);
        record_eviction(eviction);
        Some(secret)
    }
}

impl Current {
    fn secret(&self, status: TokenStatus) -> Option<Arc<KeyringEntry>> {
        match status {
            TokenStatus::Verified(id) => self.keyring.get(id).cloned(),
            TokenStatus::Rejected => None,
        }
    }
}
