//! Sends signed events as SmartShape does, checks the responses and retries.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, oneshot};

use crate::http::{self, Target};
use crate::payload::EventPayload;
use crate::response::{Fault, check_response};
use crate::token::{Prefix, token};

/// Capacity of the log.
const MAX_LOG_ENTRIES: usize = 10_000;
/// Maximum number of tokens that are made concurrently, each in a thread of its own.
const MAX_TOKEN_THREADS: usize = 64;
/// Prefix of a response body that an attempt keeps.
const MAX_KEPT_BODY_BYTES: usize = 1024;

/// Settings of a [`Sender`]. SmartShape documents neither its number of attempts, nor their backoff, nor its timeout:
/// the defaults are chosen for tests. Fields may be added, so end a literal with `..SenderSettings::default()`.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// bcrypt cost of the token. Defaults to 10.
    pub cost: u32,
    /// bcrypt variant of the token. Defaults to `2b`.
    pub prefix: Prefix,
    /// Whether each delivery gets a token with a new salt. Defaults to `false`: one token per secret.
    pub fresh_salt: bool,
    /// Maximum time of an attempt, from connecting to the end of the response. Defaults to 10 seconds.
    pub timeout: Duration,
    /// Maximum number of attempts per event. Defaults to 5.
    pub max_attempts: u32,
    /// Delay before the second attempt, doubled for each further one. Jitter adds up to as much again. Defaults to 200
    /// milliseconds.
    pub min_backoff: Duration,
    /// Maximum delay between attempts, to which jitter adds up to as much again. Defaults to 10 seconds.
    pub max_backoff: Duration,
    /// Allows sending to other hosts than loopback addresses. Defaults to `false`.
    pub allow_remote: bool,
}

impl Default for SenderSettings {
    fn default() -> Self {
        Self {
            cost: 10,
            prefix: Prefix::default(),
            fresh_salt: false,
            timeout: Duration::from_secs(10),
            max_attempts: 5,
            min_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            allow_remote: false,
        }
    }
}

impl SenderSettings {
    /// Settings for fast tests: tokens of the minimum cost 4, delays of 5 milliseconds and more.
    #[must_use]
    pub fn quick() -> Self {
        Self { cost: 4, min_backoff: Duration::from_millis(5), ..Self::default() }
    }
}

/// Sends the events of a webhook. Cheap to clone; clones share token and log.
///
/// ```no_run
/// use smartshape_fake::{EventPayload, Sender, SenderSettings};
/// use smartshape_webhook::EventKind;
///
/// # async fn test(url: &str) {
/// let sender = Sender::new("a long and random string", SenderSettings::quick());
/// let outcome = sender.deliver(&EventPayload::sample(EventKind::FileUploaded), url).await;
/// assert!(outcome.accepted(), "{outcome}");
/// # }
/// ```
#[derive(Clone)]
pub struct Sender {
    secret: Arc<str>,
    settings: Arc<SenderSettings>,
    token: Arc<OnceCell<String>>,
    log: Log,
}

impl Sender {
    /// A sender that signs with `secret`.
    #[must_use]
    pub fn new(secret: impl Into<String>, settings: SenderSettings) -> Self {
        Self::logging_to(secret.into(), Arc::new(settings), Log::default())
    }

    pub(crate) fn logging_to(secret: String, settings: Arc<SenderSettings>, log: Log) -> Self {
        Self { secret: secret.into(), settings, token: Arc::default(), log }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Sends an event until the response is accepted or `max_attempts` is reached.
    pub async fn deliver(&self, event: &EventPayload, url: &str) -> DeliveryOutcome {
        self.deliver_body(DeliveryOutcome::new(event, url), event.to_body()).await
    }

    async fn deliver_body(&self, mut outcome: DeliveryOutcome, body: bytes::Bytes) -> DeliveryOutcome {
        let SenderSettings { max_attempts, min_backoff, max_backoff, .. } = *self.settings;
        let mut backoff = ExponentialBuilder::new()
            .with_max_times(usize::try_from(max_attempts.saturating_sub(1)).unwrap_or(usize::MAX))
            .with_min_delay(min_backoff.min(max_backoff))
            .with_max_delay(max_backoff)
            .with_jitter()
            .build();
        loop {
            let attempt = self.attempt(&outcome.url, body.clone()).await;
            let is_permanent = matches!(attempt.faults[..], [Fault::NotSent(_)]);
            outcome.attempts.push(attempt);
            if outcome.accepted() || is_permanent {
                break;
            }
            let Some(delay) = backoff.next() else { break };
            tokio::time::sleep(delay).await;
        }
        self.log.add(outcome.clone());
        outcome
    }

    /// Sends copies of an event concurrently, with the same body and uuid. Each has attempts of its own.
    pub async fn deliver_copies(
        &self,
        event: &EventPayload,
        url: &str,
        copies: usize,
    ) -> Vec<DeliveryOutcome> {
        // Shares the body: copies of 50 MB each would not fit into memory.
        let body = event.to_body();
        let sent: Vec<_> = (0..copies)
            .map(|_| {
                let (sender, outcome, body) = (self.clone(), DeliveryOutcome::new(event, url), body.clone());
                tokio::spawn(async move { sender.deliver_body(outcome, body).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for one in sent {
            outcomes.extend(one.await);
        }
        outcomes
    }

    /// Sends events sequentially in the given order, with a pause of `gap` between them.
    pub async fn deliver_all(
        &self,
        events: &[EventPayload],
        url: &str,
        order: Order,
        gap: Duration,
    ) -> Vec<DeliveryOutcome> {
        let mut events: Vec<&EventPayload> = events.iter().collect();
        match order {
            Order::AsGiven => {}
            Order::Reversed => events.reverse(),
            Order::Shuffled => fastrand::shuffle(&mut events),
        }
        let mut outcomes = Vec::new();
        for event in events {
            if !outcomes.is_empty() {
                tokio::time::sleep(gap).await;
            }
            outcomes.push(self.deliver(event, url).await);
        }
        outcomes
    }

    /// The last 10,000 deliveries of this sender and its clones, in the order in which their last attempts ended.
    #[must_use]
    pub fn log(&self) -> Vec<DeliveryOutcome> {
        self.log.entries()
    }

    async fn attempt(&self, url: &str, body: bytes::Bytes) -> DeliveryAttempt {
        let (limit, started_at) = (self.settings.timeout, Instant::now());
        let sent = async {
            let target = Target::resolve(url, self.settings.allow_remote).await?;
            let token = self.token().await?;
            tokio::time::timeout(limit, http::post(&target, &token, body))
                .await
                .unwrap_or(Err(Fault::TimedOut(limit)))
        };
        let (status, faults, body) = match sent.await {
            Ok(http::Response { status, content_type, body }) => {
                let faults = check_response(status, content_type.as_deref(), &body);
                (Some(status), faults, body.slice(..body.len().min(MAX_KEPT_BODY_BYTES)))
            }
            Err(fault) => (None, vec![fault], bytes::Bytes::new()),
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        DeliveryAttempt { status, faults, body, took: started_at.elapsed() }
    }

    async fn token(&self) -> Result<String, Fault> {
        if self.settings.fresh_salt {
            return self.new_token().await;
        }
        self.token.get_or_try_init(|| self.new_token()).await.cloned()
    }

    async fn new_token(&self) -> Result<String, Fault> {
        static THREADS: Semaphore = Semaphore::const_new(MAX_TOKEN_THREADS);
        let not_sent = |error: &dyn std::error::Error| Fault::NotSent(error.to_string());
        let (secret, cost, prefix) = (Arc::clone(&self.secret), self.settings.cost, self.settings.prefix);
        let permit = THREADS.acquire().await.map_err(|error| not_sent(&error))?;
        let (made, token_made) = oneshot::channel();
        // A runtime waits for its blocking tasks when it is dropped, and a token of a high cost takes days.
        std::thread::Builder::new()
            .spawn(move || {
                let _permit = permit;
                let _ = made.send(token(&secret, cost, prefix));
            })
            .map_err(|error| not_sent(&error))?;
        token_made.await.map_err(|error| not_sent(&error))?.map_err(|error| not_sent(&error))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The order of [`Sender::deliver_all`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The order in which the events were given.
    #[default]
    AsGiven,
    /// The last one first.
    Reversed,
    /// At random.
    Shuffled,
}

/// Result of delivering an event, with all attempts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryOutcome {
    /// The event's name.
    pub event: String,
    /// The event's unique id; every attempt repeats it.
    pub uuid: String,
    /// The endpoint.
    pub url: String,
    /// The attempts, oldest first; at least one.
    pub attempts: Vec<DeliveryAttempt>,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryAttempt {
    /// Status of the response; `None` if no response was received whole.
    pub status: Option<u16>,
    /// Reasons for failure; empty if the response is accepted.
    pub faults: Vec<Fault>,
    /// The first 1024 bytes of the response body. U+FFFD replaces what is not UTF-8.
    pub body: String,
    /// Duration of the attempt, including the making of a token that it had to wait for.
    pub took: Duration,
}

impl DeliveryOutcome {
    fn new(event: &EventPayload, url: &str) -> Self {
        Self {
            event: event.event().to_owned(),
            uuid: event.uuid().to_owned(),
            url: url.to_owned(),
            attempts: Vec::new(),
        }
    }

    /// Whether the last response was accepted.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.faults.is_empty())
    }

    pub(crate) fn to_json(&self) -> Value {
        let attempts = self.attempts.iter().map(|attempt| {
            json!({
                "status": attempt.status,
                "faults": attempt.faults.iter().map(Fault::to_string).collect::<Vec<_>>(),
                "body": attempt.body,
                "milliseconds": attempt.took.as_secs_f64() * 1000.0,
            })
        });
        json!({
            "event": self.event, "uuid": self.uuid, "url": self.url,
            "accepted": self.accepted(), "attempts": attempts.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for DeliveryOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.accepted() { "accepted" } else { "not accepted" };
        write!(f, "{} {outcome} after {} attempt(s)", self.event, self.attempts.len())?;
        for fault in self.attempts.last().into_iter().flat_map(|attempt| &attempt.faults) {
            write!(f, "; {fault}")?;
        }
        Ok(())
    }
}

/// A bounded log of deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<DeliveryOutcome>>>);

impl Log {
    fn add(&self, outcome: DeliveryOutcome) {
        let mut log = self.locked();
        if log.len() >= MAX_LOG_ENTRIES {
            log.pop_front();
        }
        log.push_back(outcome);
    }

    pub(crate) fn entries(&self) -> Vec<DeliveryOutcome> {
        self.locked().iter().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<DeliveryOutcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
