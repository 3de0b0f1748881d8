//! The receiver's settings, each with its default.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Receiver;
use crate::auth;
use crate::auth::secret::{NamedSecret, Secret};
use crate::dedup::in_flight::DedupSettings;
use crate::dedup::store::DedupStore;
use crate::request::body::BodyLimits;

const MIB: u64 = 1024 * 1024;
/// SmartShape has nine events, each of which may have a webhook with a secret of its own, and seven of these can be
/// rotated at the same time. A forged token costs a hash per secret.
const MAX_SECRETS: usize = 16;
const MAX_IN_FLIGHT: usize = 1_000_000;
const MAX_VERIFY_THREADS: usize = 1000;
/// A century, which stands for every longer time: a clock panics when `Duration::MAX` is added to it.
const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a typed extractor does with an event that it does not take: another event, or one with undecodable data. A
/// handler that takes any [`Event`](crate::Event) is never affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnexpectedEvent {
    /// Respond with 422, so that SmartShape retries. Nothing is lost, and the mistake is noticed.
    #[default]
    Reject,
    /// Acknowledge, so that SmartShape does not retry.
    Acknowledge,
}

/// Builds a [`Receiver`]. A `Duration::MAX` means no limit.
///
/// ```
/// use std::time::Duration;
/// use smartshape_webhook::{ConfigError, EventKind, NamedSecret, Receiver, Secret};
///
/// let receiver = Receiver::builder()
///     .named_secret(NamedSecret::new("uploads", Secret::generate()?).scoped_to([EventKind::FileUploaded]))
///     .named_secret(NamedSecret::new("annotations", Secret::generate()?))
///     .max_body_bytes(5 * 1024 * 1024)
///     .duplicate_timeout(Duration::from_secs(5))
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
    pub(super) memory_limit: u64,
    pub(super) max_in_flight: usize,
    pub(super) verify: auth::Settings,
    pub(super) dedup: DedupSettings,
    pub(super) dedup_store: Option<Arc<dyn DedupStore>>,
    pub(super) on_unexpected_event: OnUnexpectedEvent,
}

impl ReceiverBuilder {
    pub(super) fn new() -> Self {
        Self {
            secrets: Vec::new(),
            min_cost: 4,
            max_cost: 12,
            body: BodyLimits {
                max_bytes: 50 * MIB,
                idle_timeout: Duration::from_secs(10),
                timeout: Duration::from_secs(120),
            },
            memory_limit: 256 * MIB,
            max_in_flight: 256,
            verify: auth::Settings {
                verify_timeout: Duration::from_secs(2),
                verify_threads: std::thread::available_parallelism().map_or(1, usize::from),
            },
            dedup: DedupSettings {
                claim_ttl: Duration::from_secs(10 * 60),
                duplicate_timeout: Duration::from_secs(10),
                capacity: 100_000,
                ttl: Duration::from_secs(24 * 60 * 60),
            },
            dedup_store: None,
            on_unexpected_event: OnUnexpectedEvent::default(),
        }
    }

    /// Adds a secret named `default`, for all events.
    pub fn secret(self, secret: Secret) -> Self {
        self.named_secret(NamedSecret::new("default", secret))
    }

    /// Adds a named secret. At most 16, since an unknown token is tried with each of them.
    pub fn named_secret(mut self, secret: NamedSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Minimum bcrypt cost of a token; a token with a lower cost is rejected without hashing. Defaults to 4, the lowest
    /// cost that bcrypt has; at most `max_cost`. An attacker can have 2,000 to 3,000 guesses at a secret checked per
    /// second and core at cost 4, and a sixty-fourth of that at cost 10. The cost that SmartShape uses is not
    /// documented: set it here once you have seen it, for example with `smartshape token inspect`.
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

    /// Maximum bcrypt cost of a token; a token with a higher cost is rejected without hashing. Defaults to 12; from 4
    /// to 31. Each step doubles the work that an attacker can cause. The cost that SmartShape uses is not documented;
    /// it is probably 10.
    pub fn max_cost(mut self, cost: u32) -> Self {
        self.max_cost = cost;
        self
    }

    /// Maximum length of a body. Defaults to 50 MiB, like the example in SmartShape's manual.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.body.max_bytes = bytes;
        self
    }

    /// Memory that all bodies together may take, until their handlers are done. Defaults to 256 MiB. It is reserved as
    /// bytes arrive. If the secrets belong to several webhooks, each webhook may take three quarters of it, and at
    /// least one body of the maximum length.
    ///
    /// The process may hold more: glibc keeps part of the long bodies that it has freed, unless
    /// `MALLOC_MMAP_THRESHOLD_=131072` is in the environment.
    pub fn memory_limit_bytes(mut self, bytes: u64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Maximum time to wait for the next chunk of the body. Defaults to 10 seconds. After that time, the body must also
    /// have arrived at a rate of 1 KiB per second or more.
    pub fn body_idle_timeout(mut self, timeout: Duration) -> Self {
        self.body.idle_timeout = timeout;
        self
    }

    /// Maximum time to receive the whole body. Defaults to 120 seconds.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body.timeout = timeout;
        self
    }

    /// Maximum number of deliveries handled concurrently, including those whose client has disconnected. Defaults to
    /// 256. If the secrets belong to several webhooks, each webhook may take three quarters of them.
    pub fn max_in_flight(mut self, deliveries: usize) -> Self {
        self.max_in_flight = deliveries;
        self
    }

    /// Maximum time to wait for the verification of a token. A request that would wait longer is rejected at once.
    /// Defaults to 2 seconds.
    pub fn verify_timeout(mut self, timeout: Duration) -> Self {
        self.verify.verify_timeout = timeout;
        self
    }

    /// Number of threads that hash tokens, at most 1000. Defaults to the number of cores.
    pub fn verify_threads(mut self, threads: usize) -> Self {
        self.verify.verify_threads = threads;
        self
    }

    /// Maximum time that a duplicate waits for the delivery in flight. Defaults to 10 seconds.
    pub fn duplicate_timeout(mut self, timeout: Duration) -> Self {
        self.dedup.duplicate_timeout = timeout;
        self
    }

    /// Number of completed deliveries kept in memory to recognise duplicates. The most recent ones are always kept; up
    /// to twice as many may be. Defaults to 100,000, about 6 MB. A delivery in flight is never forgotten.
    pub fn dedup_capacity(mut self, deliveries: usize) -> Self {
        self.dedup.capacity = deliveries;
        self
    }

    /// How long completed deliveries are kept in memory, in whole seconds; at most twice as long. Defaults to 24 hours.
    /// They are lost at a restart: a delivery repeated afterwards is handled again.
    pub fn dedup_ttl(mut self, ttl: Duration) -> Self {
        self.dedup.ttl = ttl;
        self
    }

    /// Shares claims and completed deliveries with other processes through `store`, instead of keeping them in memory.
    /// A claim ends after `claim_ttl` if its process has crashed. A handler that takes longer may run a second time in
    /// another process; 10 minutes suit most.
    pub fn dedup_store(mut self, store: impl DedupStore, claim_ttl: Duration) -> Self {
        self.dedup_store = Some(Arc::new(store));
        self.dedup.claim_ttl = claim_ttl;
        self
    }

    /// What typed extractors do with events that they do not take. Defaults to [`OnUnexpectedEvent::Reject`].
    pub fn on_unexpected_event(mut self, policy: OnUnexpectedEvent) -> Self {
        self.on_unexpected_event = policy;
        self
    }

    /// Builds the receiver.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the invalid setting.
    pub fn build(mut self) -> Result<Receiver, ConfigError> {
        check_secrets(&self.secrets)?;
        if !(4..=31).contains(&self.max_cost) {
            return Err(ConfigError::MaxCost(self.max_cost));
        }
        if !(4..=self.max_cost).contains(&self.min_cost) {
            return Err(ConfigError::MinCost(self.min_cost));
        }
        if self.body.max_bytes > self.memory_limit || isize::try_from(self.body.max_bytes).is_err() {
            return Err(ConfigError::BodyLimitOverMemory);
        }
        if self.verify.verify_threads > MAX_VERIFY_THREADS {
            return Err(ConfigError::TooManyThreads);
        }
        if self.max_in_flight > MAX_IN_FLIGHT {
            return Err(ConfigError::MaxInFlight);
        }
        for (name, zero) in [
            ("max_body_bytes", self.body.max_bytes == 0),
            ("body_idle_timeout", self.body.idle_timeout.is_zero()),
            ("body_timeout", self.body.timeout.is_zero()),
            ("max_in_flight", self.max_in_flight == 0),
            ("verify_timeout", self.verify.verify_timeout.is_zero()),
            ("verify_threads", self.verify.verify_threads == 0),
            ("claim_ttl", self.dedup.claim_ttl.is_zero()),
        ] {
            if zero {
                return Err(ConfigError::Zero(name));
            }
        }
        for limit in [
            &mut self.body.idle_timeout,
            &mut self.body.timeout,
            &mut self.verify.verify_timeout,
            &mut self.dedup.duplicate_timeout,
            &mut self.dedup.claim_ttl,
        ] {
            *limit = (*limit).min(FAR_FUTURE);
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

/// An invalid setting.
#[derive(Clone, PartialEq, Eq)]
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
    /// `max_body_bytes` exceeds `memory_limit_bytes`, or the address space.
    BodyLimitOverMemory,
    /// `max_in_flight` is above a million.
    MaxInFlight,
    /// `verify_threads` is above a thousand.
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
            Self::BodyLimitOverMemory => f.write_str(
                "max_body_bytes is more than memory_limit_bytes, or than this machine can address",
            ),
            Self::MaxInFlight => write!(f, "max_in_flight is above {MAX_IN_FLIGHT}"),
            Self::TooManyThreads => write!(f, "verify_threads is above {MAX_VERIFY_THREADS}"),
            Self::Zero(name) => write!(f, "{name} must not be zero"),
            Self::NoRandomness => f.write_str("the system gave no random bytes"),
        }
    }
}

/// Prints the same text as `Display`, because a `main` that returns an error shows it with `Debug`.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}
