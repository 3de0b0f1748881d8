//! Sends events as SmartShape does: signed, judged strictly, and again when the answer will not do.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::http::{self, Target};
use crate::judge::{Fault, judge};
use crate::payload::EventPayload;
use crate::random;
use crate::token::{Prefix, token};

/// How many outcomes the log keeps.
const LOG_LENGTH: usize = 10_000;
/// How much of an answer's body an outcome keeps, in bytes.
const KEPT_BODY: usize = 1024;

/// How a [`Sender`] behaves. SmartShape documents neither the number of its attempts nor their
/// spacing nor its time limit: the defaults are for tests. Fields may be added: end a literal with
/// `..SenderSettings::default()`.
#[derive(Clone, Debug)]
pub struct SenderSettings {
    /// The token's cost. Default 10.
    pub cost: u32,
    /// The token's variant. Default `2b`.
    pub prefix: Prefix,
    /// A new salt, and so a new token, for each delivery. Default: one token for each secret.
    pub fresh_salt: bool,
    /// How long an answer may take. Default 10 s.
    pub time_limit: Duration,
    /// How often an event is sent at most. Default 5.
    pub max_attempts: u32,
    /// The wait before the second attempt, doubled before each further one. Default 200 ms.
    pub first_wait: Duration,
    /// The longest wait. Default 10 s.
    pub longest_wait: Duration,
    /// Lets events leave this machine. Default: they do not.
    pub allow_remote: bool,
}

impl Default for SenderSettings {
    fn default() -> Self {
        Self {
            cost: 10,
            prefix: Prefix::default(),
            fresh_salt: false,
            time_limit: Duration::from_secs(10),
            max_attempts: 5,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
            allow_remote: false,
        }
    }
}

impl SenderSettings {
    /// Settings for quick tests: tokens of the lowest cost, short waits between attempts.
    #[must_use]
    pub fn quick() -> Self {
        Self { cost: 4, first_wait: Duration::from_millis(5), ..Self::default() }
    }
}

/// Sends events of one webhook. Cheap to clone; clones share token and log.
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

    pub(crate) fn secret(&self) -> Arc<str> {
        Arc::clone(&self.secret)
    }

    /// Sends an event until the answer will do, or the attempts are used up.
    pub async fn deliver(&self, event: &EventPayload, url: &str) -> Outcome {
        self.deliver_body(Outcome::of(event, url), event.to_body()).await
    }

    async fn deliver_body(&self, mut outcome: Outcome, body: bytes::Bytes) -> Outcome {
        for number in 0..self.settings.max_attempts.max(1) {
            if number > 0 {
                tokio::time::sleep(self.wait_before(number)).await;
            }
            let begun = Instant::now();
            let attempt = self.attempt(&outcome.url, body.clone()).await;
            let hopeless = matches!(attempt.faults[..], [Fault::NotSent(_)]);
            outcome.attempts.push(Attempt { took: begun.elapsed(), ..attempt });
            if outcome.accepted() || hopeless {
                break;
            }
        }
        self.log.add(outcome.clone());
        outcome
    }

    /// Sends copies of an event, all at the same time.
    pub async fn deliver_copies(&self, event: &EventPayload, url: &str, copies: usize) -> Vec<Outcome> {
        // One body for all: a copy of 50 MB for each would not fit.
        let body = event.to_body();
        let sent: Vec<_> = (0..copies)
            .map(|_| {
                let (sender, outcome, body) = (self.clone(), Outcome::of(event, url), body.clone());
                tokio::spawn(async move { sender.deliver_body(outcome, body).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for one in sent {
            outcomes.extend(one.await);
        }
        outcomes
    }

    /// Sends events one after the other, in the order given or another, with a gap between them.
    pub async fn deliver_all(
        &self,
        events: &[EventPayload],
        url: &str,
        order: Order,
        gap: Duration,
    ) -> Vec<Outcome> {
        let mut events: Vec<&EventPayload> = events.iter().collect();
        match order {
            Order::AsGiven => {}
            Order::Reversed => events.reverse(),
            Order::Shuffled => {
                for last in (1..events.len()).rev() {
                    let other = random::below(last as u64 + 1);
                    events.swap(last, usize::try_from(other).unwrap_or(last));
                }
            }
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

    /// What was sent so far, oldest first; the last 10,000.
    #[must_use]
    pub fn log(&self) -> Vec<Outcome> {
        self.log.entries()
    }

    async fn attempt(&self, url: &str, body: bytes::Bytes) -> Attempt {
        let limit = self.settings.time_limit;
        let sent = async {
            let target = Target::resolve(url, self.settings.allow_remote).await?;
            let token = self.token().await?;
            tokio::time::timeout(limit, http::post(&target, &token, body))
                .await
                .unwrap_or(Err(Fault::TooSlow(limit)))
        };
        match sent.await {
            Ok(answer) => Attempt {
                status: Some(answer.status),
                faults: judge(answer.status, answer.content_type.as_deref(), &answer.body),
                body: String::from_utf8_lossy(&answer.body[..answer.body.len().min(KEPT_BODY)]).into_owned(),
                took: Duration::ZERO,
            },
            Err(fault) => {
                Attempt { status: None, faults: vec![fault], body: String::new(), took: Duration::ZERO }
            }
        }
    }

    async fn token(&self) -> Result<String, Fault> {
        if self.settings.fresh_salt {
            return self.new_token().await;
        }
        self.token.get_or_try_init(|| self.new_token()).await.cloned()
    }

    async fn new_token(&self) -> Result<String, Fault> {
        let (secret, cost, prefix) = (Arc::clone(&self.secret), self.settings.cost, self.settings.prefix);
        let made = tokio::task::spawn_blocking(move || token(&secret, cost, prefix)).await;
        made.map_err(|error| Fault::NotSent(error.to_string()))?
            .map_err(|error| Fault::NotSent(error.to_string()))
    }

    /// Doubled each time, capped, and spread over the upper half.
    fn wait_before(&self, attempt: u32) -> Duration {
        let doubled = self.settings.first_wait.saturating_mul(1 << (attempt - 1).min(20));
        let wait = doubled.min(self.settings.longest_wait);
        let half = u64::try_from(wait.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half + random::below(half + 1))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The order in which [`Sender::deliver_all`] sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// As given.
    #[default]
    AsGiven,
    /// The last one first.
    Reversed,
    /// At random.
    Shuffled,
}

/// What became of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The event's name.
    pub event: String,
    /// The event's unique id; every attempt repeats it.
    pub uuid: String,
    /// Where it was sent to.
    pub url: String,
    /// The attempts, oldest first; at least one.
    pub attempts: Vec<Attempt>,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// What was wrong; empty when the answer will do.
    pub faults: Vec<Fault>,
    /// The first 1024 bytes of the answer's body.
    pub body: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    fn of(event: &EventPayload, url: &str) -> Self {
        Self {
            event: event.event().to_owned(),
            uuid: event.uuid().to_owned(),
            url: url.to_owned(),
            attempts: Vec::new(),
        }
    }

    /// Whether the last answer will do.
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

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.accepted() { "accepted" } else { "not accepted" };
        write!(f, "{} {verdict} after {} attempt(s)", self.event, self.attempts.len())?;
        for fault in self.attempts.last().into_iter().flat_map(|attempt| &attempt.faults) {
            write!(f, "; {fault}")?;
        }
        Ok(())
    }
}

/// What was sent, bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<Outcome>>>);

impl Log {
    fn add(&self, outcome: Outcome) {
        let mut log = self.locked();
        if log.len() >= LOG_LENGTH {
            log.pop_front();
        }
        log.push_back(outcome);
    }

    pub(crate) fn entries(&self) -> Vec<Outcome> {
        self.locked().iter().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
