//! The receiver's settings, each with its default.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Receiver;
use crate::body::BodyLimits;
use crate::claims::{ClaimSettings, Store};
use crate::secret::{NamedSecret, Secret};
use crate::seen::{FOREVER, MemoryStore, SeenStore};
use crate::verify;

const MIB: u64 = 1024 * 1024;
const MAX_SECRETS: usize = 8;
const MAX_PLACES: usize = 1_000_000;
const MAX_HASH_THREADS: usize = 1000;

/// What a typed door does with an event that it does not take (another event, or undecodable
/// data). Handlers that take any [`Event`](crate::Event) never meet this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMismatch {
    /// Answer 422, so that SmartShape retries. Nothing is lost, and the fault is seen.
    #[default]
    Refuse,
    /// Acknowledge, so that SmartShape forgets the event.
    Acknowledge,
}

/// Builds a [`Receiver`]. Each method names its default. `Duration::MAX` is no limit of time.
///
/// ```
/// use std::time::Duration;
/// use smartshape_webhook::{ConfigError, EventKind, NamedSecret, Receiver, Secret};
///
/// let receiver = Receiver::builder()
///     .named_secret(NamedSecret::new("uploads", Secret::generate()?).only_for([EventKind::FileUploaded]))
///     .named_secret(NamedSecret::new("annotations", Secret::generate()?))
///     .body_limit_bytes(5 * 1024 * 1024)
///     .duplicate_wait(Duration::from_secs(5))
///     .build()?;
/// assert_eq!(receiver.secret_names(), ["uploads", "annotations"]);
///
/// assert_eq!(Receiver::builder().build().unwrap_err(), ConfigError::NoSecret);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct ReceiverBuilder {
    pub(super) secrets: Vec<NamedSecret>,
    pub(super) min_cost: u32,
    pub(super) max_cost: u32,
    pub(super) body: BodyLimits,
    pub(super) byte_budget: u64,
    pub(super) max_at_work: usize,
    pub(super) verify: verify::Settings,
    pub(super) claims: ClaimSettings,
    pub(super) store: Store,
    pub(super) on_mismatch: OnMismatch,
}

impl ReceiverBuilder {
    pub(super) fn new() -> Self {
        Self {
            secrets: Vec::new(),
            min_cost: 4,
            max_cost: 12,
            body: BodyLimits {
                bytes: 50 * MIB,
                stall: Duration::from_secs(10),
                whole: Duration::from_secs(120),
            },
            byte_budget: 256 * MIB,
            max_at_work: 256,
            verify: verify::Settings {
                hash_wait: Duration::from_secs(2),
                hash_threads: std::thread::available_parallelism().map_or(1, usize::from),
                known_tokens: 1024,
                refused_tokens: 1024,
            },
            claims: ClaimSettings {
                lease: Duration::from_secs(10 * 60),
                wait: Duration::from_secs(10),
                waiting_per_key: 8,
                waiting_in_all: 1024,
                store_wait: Duration::from_secs(5),
            },
            store: Store::Memory(MemoryStore::default()),
            on_mismatch: OnMismatch::default(),
        }
    }

    /// Adds a secret of the name `default`, for every event.
    pub fn secret(self, secret: Secret) -> Self {
        self.named_secret(NamedSecret::new("default", secret))
    }

    /// Adds a named secret. At most 8, since a token of unknown origin is tried with each.
    pub fn named_secret(mut self, secret: NamedSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Refuses tokens of a lower cost without hashing them. Default 4, bcrypt's least; up to `max_cost`. A stranger can have
    /// some 1,000 guesses at a secret of cost 4 checked each second and core, and at cost 10 some 15. SmartShape's own cost
    /// is not documented: once you have seen it (`smartshape token inspect`), set it here.
    ///
    /// ```
    /// use smartshape_webhook::{ConfigError, Receiver, Secret};
    ///
    /// assert!(Receiver::builder().secret(Secret::generate()?).min_cost(10).build().is_ok());
    /// let impossible = Receiver::builder().secret(Secret::generate()?).min_cost(11).max_cost(10);
    /// assert_eq!(impossible.build().unwrap_err(), ConfigError::MinCost(11));
    /// # Ok::<(), smartshape_webhook::SecretError>(())
    /// ```
    pub fn min_cost(mut self, cost: u32) -> Self {
        self.min_cost = cost;
        self
    }

    /// Refuses tokens of a higher cost without hashing them. Default 12, from 4 to 31. Each step
    /// doubles the work that a stranger can cause; SmartShape's own cost is not documented, and
    /// likely 10.
    pub fn max_cost(mut self, cost: u32) -> Self {
        self.max_cost = cost;
        self
    }

    /// The longest body. Default 50 MiB, as in the sample of SmartShape's manual.
    pub fn body_limit_bytes(mut self, bytes: u64) -> Self {
        self.body.bytes = bytes;
        self
    }

    /// The memory that all bodies together may take, until their last handler is done. Default 256 MiB. It is reserved as
    /// bytes come. Where the secrets are of several webhooks, those of one may take three quarters of it, and one body of
    /// the longest at least.
    pub fn byte_budget_bytes(mut self, bytes: u64) -> Self {
        self.byte_budget = bytes;
        self
    }

    /// How long a body may bring no byte. Default 10 s. After that time it must also have come at 1 KiB a second or better.
    pub fn body_stall(mut self, limit: Duration) -> Self {
        self.body.stall = limit;
        self
    }

    /// How long a whole body may take. Default 120 s.
    pub fn body_deadline(mut self, limit: Duration) -> Self {
        self.body.whole = limit;
        self
    }

    /// How many deliveries may be at work, those included whose sender has hung up. Default 256. Where the secrets are of
    /// several webhooks, those of one may take three quarters of them.
    pub fn max_at_work(mut self, deliveries: usize) -> Self {
        self.max_at_work = deliveries;
        self
    }

    /// How long a delivery may wait for its token to be checked; when the queue is longer, it is
    /// refused at once. Default 2 s.
    pub fn hash_wait(mut self, limit: Duration) -> Self {
        self.verify.hash_wait = limit;
        self
    }

    /// Threads that check tokens, 1000 at most. Default: one for each core.
    pub fn hash_threads(mut self, threads: usize) -> Self {
        self.verify.hash_threads = threads;
        self
    }

    /// How many verified tokens are remembered for certain: those used last. Up to as many older ones
    /// may be. Default 1024.
    pub fn known_tokens(mut self, tokens: usize) -> Self {
        self.verify.known_tokens = tokens;
        self
    }

    /// How many refused tokens are remembered for certain, as with [`known_tokens`](Self::known_tokens).
    /// Default 1024.
    pub fn refused_tokens(mut self, tokens: usize) -> Self {
        self.verify.refused_tokens = tokens;
        self
    }

    /// How long a duplicate waits for the delivery at work. Default 10 s.
    pub fn duplicate_wait(mut self, limit: Duration) -> Self {
        self.claims.wait = limit;
        self
    }

    /// How many duplicates may wait for one delivery. Default 8.
    pub fn duplicates_per_delivery(mut self, duplicates: usize) -> Self {
        self.claims.waiting_per_key = duplicates;
        self
    }

    /// How many duplicates may wait in all. Default 1024.
    pub fn duplicates_in_all(mut self, duplicates: usize) -> Self {
        self.claims.waiting_in_all = duplicates;
        self
    }

    /// After this time a claim in a shared store ends, should its holder have crashed. A handler
    /// that takes longer may be run a second time by another process. Default 10 min.
    pub fn claim_lease(mut self, lease: Duration) -> Self {
        self.claims.lease = lease;
        self
    }

    /// How long the store of [`seen_store`](Self::seen_store) may take for an answer. After that a delivery to be
    /// claimed is refused with 503, and one that was handled is acknowledged without being recorded. Default 5 s.
    pub fn store_wait(mut self, limit: Duration) -> Self {
        self.claims.store_wait = limit;
        self
    }

    /// Remembers in `store` which deliveries were handled. Default: a [`MemoryStore`] of 100,000
    /// deliveries for 24 hours, which forgets at a restart.
    pub fn seen_store(mut self, store: impl SeenStore) -> Self {
        self.store = Store::Shared(Arc::new(store));
        self
    }

    /// Remembers in memory, with another capacity than the default's.
    pub fn memory_store(mut self, store: MemoryStore) -> Self {
        self.store = Store::Memory(store);
        self
    }

    /// What typed doors do with events that they do not take. Default: refuse.
    pub fn on_mismatch(mut self, policy: OnMismatch) -> Self {
        self.on_mismatch = policy;
        self
    }

    /// Builds the receiver.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting that cannot be.
    pub fn build(mut self) -> Result<Receiver, ConfigError> {
        check_secrets(&self.secrets)?;
        if !(4..=31).contains(&self.max_cost) {
            return Err(ConfigError::MaxCost(self.max_cost));
        }
        if !(4..=self.max_cost).contains(&self.min_cost) {
            return Err(ConfigError::MinCost(self.min_cost));
        }
        if self.body.bytes > self.byte_budget || isize::try_from(self.body.bytes).is_err() {
            return Err(ConfigError::BodyLimitOverBudget);
        }
        if self.verify.hash_threads > MAX_HASH_THREADS {
            return Err(ConfigError::TooManyThreads);
        }
        if self.max_at_work > MAX_PLACES {
            return Err(ConfigError::TooManyPlaces);
        }
        for (name, zero) in [
            ("body_limit_bytes", self.body.bytes == 0),
            ("body_stall", self.body.stall.is_zero()),
            ("body_deadline", self.body.whole.is_zero()),
            ("max_at_work", self.max_at_work == 0),
            ("hash_wait", self.verify.hash_wait.is_zero()),
            ("hash_threads", self.verify.hash_threads == 0),
            ("claim_lease", self.claims.lease.is_zero()),
            ("store_wait", self.claims.store_wait.is_zero()),
        ] {
            if zero {
                return Err(ConfigError::Zero(name));
            }
        }
        for limit in [
            &mut self.body.stall,
            &mut self.body.whole,
            &mut self.verify.hash_wait,
            &mut self.claims.wait,
            &mut self.claims.lease,
            &mut self.claims.store_wait,
        ] {
            *limit = (*limit).min(FOREVER);
        }
        Receiver::from_builder(self)
    }
}

pub(super) fn check_secrets(secrets: &[NamedSecret]) -> Result<(), ConfigError> {
    if secrets.is_empty() {
        return Err(ConfigError::NoSecret);
    }
    if secrets.len() > MAX_SECRETS {
        return Err(ConfigError::TooManySecrets(secrets.len()));
    }
    for (index, one) in secrets.iter().enumerate() {
        for other in &secrets[..index] {
            if one.name() == other.name() {
                return Err(ConfigError::SameName(one.name().to_owned()));
            }
            if one.secret().expose() == other.secret().expose() {
                return Err(ConfigError::SameSecret(other.name().to_owned(), one.name().to_owned()));
            }
        }
        if one.secret().is_short() {
            tracing::warn!(
                name = one.name(),
                "a webhook secret is shorter than 16 bytes: whoever sees one token can guess it"
            );
        }
    }
    Ok(())
}

impl fmt::Debug for ReceiverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverBuilder").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// No secret was given.
    NoSecret,
    /// This many secrets were given.
    TooManySecrets(usize),
    /// Two secrets have this name.
    SameName(String),
    /// The secrets of these two names are equal.
    SameSecret(String, String),
    /// `max_cost` is not a cost of bcrypt.
    MaxCost(u32),
    /// `min_cost` is not a cost of bcrypt, or is above `max_cost`.
    MinCost(u32),
    /// One body of the allowed length would not fit into the byte budget.
    BodyLimitOverBudget,
    /// `max_at_work` is above a million.
    TooManyPlaces,
    /// `hash_threads` is above a thousand.
    TooManyThreads,
    /// This setting is zero.
    Zero(&'static str),
    /// The system gave no random bytes.
    NoRandomness,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSecret => {
                f.write_str("a receiver needs a secret: add the one that the webhook was registered with")
            }
            Self::TooManySecrets(count) => {
                write!(f, "{count} secrets were given, and at most {MAX_SECRETS} are allowed")
            }
            Self::SameName(name) => write!(f, "two secrets have the name {name:?}: name them apart"),
            Self::SameSecret(one, other) => {
                write!(f, "the secrets {one:?} and {other:?} are equal: give each webhook its own")
            }
            Self::MaxCost(cost) => write!(f, "max_cost is {cost}, and bcrypt's costs go from 4 to 31"),
            Self::MinCost(cost) => write!(f, "min_cost is {cost}, and must be from 4 to max_cost"),
            Self::BodyLimitOverBudget => f.write_str(
                "body_limit_bytes is more than byte_budget_bytes, or than this machine can address",
            ),
            Self::TooManyPlaces => write!(f, "max_at_work is above {MAX_PLACES}"),
            Self::TooManyThreads => write!(f, "hash_threads is above {MAX_HASH_THREADS}"),
            Self::Zero(name) => write!(f, "{name} must not be zero"),
            Self::NoRandomness => f.write_str("the system gave no random bytes"),
        }
    }
}

impl std::error::Error for ConfigError {}
