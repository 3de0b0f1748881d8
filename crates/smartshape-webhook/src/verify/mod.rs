//! Whether a token belongs to one of the secrets: answered from memory, or by the hashing pool.

mod keyring;
mod line;
mod memory;
mod pool;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) use keyring::{Keyring, PlacedSecret, SecretId};
use memory::Memory;
pub(crate) use pool::HashingBusy;
use pool::Pool;

use crate::lock::locked;
use crate::measure;
use crate::secret::NamedSecret;
use crate::source::Source;
use crate::token::Token;

/// What the secrets say about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Matches(SecretId),
    MatchesNone,
}

pub(crate) struct Settings {
    pub(crate) hash_wait: Duration,
    pub(crate) hash_threads: usize,
    pub(crate) known_tokens: usize,
    pub(crate) refused_tokens: usize,
}

/// Verifies tokens against a replaceable set of secrets.
pub(crate) struct Verifier {
    /// What every request looks at. No thread that hashes ever takes this lock.
    known: Mutex<Known>,
    pool: Pool,
}

pub(crate) struct Known {
    keyring: Arc<Keyring>,
    memory: Memory,
}

impl Verifier {
    pub(crate) fn new(secrets: Vec<NamedSecret>, settings: &Settings) -> Result<Self, getrandom::Error> {
        let mut key = [0_u8; 16];
        getrandom::fill(&mut key)?;
        let keyring = Arc::new(Keyring::new(secrets));
        let pool = Pool::new(Arc::clone(&keyring), settings);
        let memory = Memory::new(key, settings.known_tokens, settings.refused_tokens);
        Ok(Self { known: Mutex::new(Known { keyring, memory }), pool })
    }

    /// The secret that the token belongs to, if any.
    pub(crate) async fn verify(
        &self,
        token: &Token,
        source: Option<Source>,
    ) -> Result<Option<Arc<PlacedSecret>>, HashingBusy> {
        loop {
            if let Some(secret) = self.recall(token) {
                return Ok(secret);
            }
            if self.pool.collect(&self.known) {
                continue;
            }
            let Some(waiting) = self.pool.ask(&self.known, token, source)? else { continue };
            let hashed = Box::pin(self.pool.wait(waiting)).await?;
            self.pool.collect(&self.known);
            // The verdict counts for the secrets that are in place when it is reached.
            let known = locked(&self.known);
            if Arc::ptr_eq(&hashed.keyring, &known.keyring) {
                return Ok(known.secret(hashed.verdict));
            }
        }
    }

    /// Puts another set of secrets in place. Tokens of removed secrets are forgotten at once, and
    /// refused ones may try again.
    pub(crate) fn replace(&self, secrets: Vec<NamedSecret>) {
        self.pool.replace(&self.known, |keyring| keyring.succeeded_by(secrets));
    }

    pub(crate) fn names(&self) -> Vec<String> {
        locked(&self.known).keyring.names()
    }

    pub(crate) fn hashes(&self) -> u64 {
        self.pool.hashes()
    }

    /// The secret that a remembered token belongs to, if any; `None` if it is not remembered.
    fn recall(&self, token: &Token) -> Option<Option<Arc<PlacedSecret>>> {
        let mut known = locked(&self.known);
        let (verdict, pushed_out) = known.memory.recall(token)?;
        let secret = known.secret(verdict);
        drop(known);
        measure::tokens_evicted(verdict, pushed_out);
        Some(secret)
    }
}

impl Known {
    fn secret(&self, verdict: Verdict) -> Option<Arc<PlacedSecret>> {
        match verdict {
            Verdict::Matches(id) => self.keyring.get(id).cloned(),
            Verdict::MatchesNone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn named(name: &str, plain: &str) -> NamedSecret {
        NamedSecret::new(name, Secret::new_short(plain).unwrap())
    }

    fn token(plain: &str) -> Token {
        Token::parse(bcrypt::hash(plain, 4).unwrap().as_bytes()).unwrap()
    }

    fn verifier(secrets: Vec<NamedSecret>) -> Verifier {
        let settings = Settings {
            hash_wait: Duration::from_secs(30),
            hash_threads: 2,
            known_tokens: 8,
            refused_tokens: 8,
        };
        Verifier::new(secrets, &settings).unwrap()
    }

    async fn name(verifier: &Verifier, token: Token) -> Option<String> {
        verifier.verify(&token, None).await.unwrap().map(|secret| secret.name().to_owned())
    }

    #[tokio::test]
    async fn hashes_each_token_once_whatever_the_verdict() {
        let verifier = verifier(vec![named("a", "first"), named("b", "second")]);
        let (good, bad) = (token("second"), token("third"));
        for _ in 0..3 {
            assert_eq!(name(&verifier, good).await.as_deref(), Some("b"));
            assert_eq!(name(&verifier, bad).await, None);
        }
        assert_eq!(verifier.hashes(), 2);
    }

    #[tokio::test]
    async fn equal_tokens_in_flight_share_one_hash_even_when_the_first_asker_leaves() {
        let verifier = Arc::new(verifier(vec![named("a", "first")]));
        let good = token("first");
        drop(verifier.pool.ask(&verifier.known, &good, None));
        let asked: Vec<_> = (0..200)
            .map(|_| {
                let verifier = Arc::clone(&verifier);
                tokio::spawn(async move { name(&verifier, good).await })
            })
            .collect();
        for one in asked {
            assert_eq!(one.await.unwrap().as_deref(), Some("a"));
        }
        assert_eq!(verifier.hashes(), 1);
    }

    #[tokio::test]
    async fn replacing_secrets_takes_effect_at_once() {
        let verifier = verifier(vec![named("old", "first")]);
        let (first, second) = (token("first"), token("second"));
        assert_eq!(name(&verifier, first).await.as_deref(), Some("old"));
        assert_eq!(name(&verifier, second).await, None);

        verifier.replace(vec![named("old", "first"), named("new", "second")]);
        assert_eq!(name(&verifier, second).await.as_deref(), Some("new"), "a refused token may try again");
        let before = verifier.hashes();
        assert_eq!(name(&verifier, first).await.as_deref(), Some("old"));
        assert_eq!(verifier.hashes(), before, "a secret that stays keeps its known tokens");

        verifier.replace(vec![named("new", "second")]);
        assert_eq!(name(&verifier, first).await, None, "a removed secret's tokens are forgotten");
    }

    #[tokio::test]
    async fn forgeries_do_not_push_out_a_known_sender() {
        let verifier = verifier(vec![named("a", "first")]);
        let good = token("first");
        assert_eq!(name(&verifier, good).await.as_deref(), Some("a"));
        for _ in 0..40 {
            assert_eq!(name(&verifier, token("forged")).await, None);
        }
        let before = verifier.hashes();
        assert_eq!(name(&verifier, good).await.as_deref(), Some("a"));
        assert_eq!(verifier.hashes(), before);
    }
}
