use futures_util::FutureExt as _;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;
use crate::auth::Verifier;
use crate::auth::secret::{NamedSecret, Secret};

const UNIT: u64 = 900_000;

pub(super) fn verifier(secrets: &[&str], verify_timeout: Duration, verify_threads: usize) -> Verifier {
    let named = |plain: &&str| NamedSecret::new(*plain, Secret::danger_new_short(*plain).unwrap());
    let settings = Settings { verify_timeout, verify_threads };
    Verifier::new(secrets.iter().map(named).collect(), &settings).unwrap()
}

/// A verifier of the secret `a` that waits for nine seconds.
fn with_threads(threads: usize) -> Verifier {
    verifier(&["a"], Duration::from_secs(9), threads)
}

pub(super) fn client(last: u8) -> Option<ClientAddr> {
    Some(std::net::IpAddr::from([127, 0, 0, last]).into())
}

impl Verifier {
    fn submit(&self, token: &Token) -> Result<Option<PendingRequest>, VerifyBusy> {
        self.workers.submit(&self.current, token, None)
    }

    async fn hash(&self, token: &Token) -> Result<TokenStatus, VerifyBusy> {
        let waiting = self.submit(token)?.expect("the token is not cached yet");
        Ok(self.workers.wait(waiting).await?.status)
    }

    /// Nothing leaves the queue.
    pub(super) fn without_threads(self) -> Self {
        let shared = &self.workers.shared;
        locked(&shared.state).started = shared.threads;
        self
    }
}

pub(super) fn token(plain: &str, cost: u32) -> Token {
    // Only the form of a costly one matters.
    let hash = bcrypt::hash(plain, 4).unwrap().replacen("$04$", &format!("${cost:02}$"), 1);
    Token::parse(hash.as_bytes()).unwrap()
}

#[test]
fn workers_count_the_work_of_a_token_by_its_cost_and_every_secret() {
    for (secrets, cost, expected) in [
        (&["a"][..], 4, 1),
        (&["a"], 5, 2),
        (&["a"], 10, 64),
        (&["a", "b", "c"], 4, 3),
        (&["a", "b"], 12, 512),
    ] {
        let verifier = verifier(secrets, Duration::from_secs(9), 1);
        let charged = locked(&verifier.workers.shared.state).work(&token("x", cost));
        assert_eq!(charged, expected, "{secrets:?} at {cost}");
    }
}

#[test]
fn workers_have_capacity_for_what_they_hash_within_the_timeout() {
    let one = with_threads(1);
    assert_eq!(one.workers.shared.capacity(), 9_000_000_000 / UNIT);
    let two = with_threads(2);
    let shared = &two.workers.shared;
    assert_eq!(shared.capacity(), 2 * one.workers.shared.capacity());
    // A token of 64 units that took twice as long as was assumed.
    shared.record_time_per_unit(Duration::from_nanos(64 * 2 * UNIT), 64);
    assert_eq!(shared.capacity(), 18_000_000_000 / (UNIT / 8 * 9));
    for _ in 0..100 {
        shared.record_time_per_unit(Duration::from_nanos(64 * 2 * UNIT), 64);
    }
    let (capacity, expected) = (shared.capacity(), 18_000_000_000 / (2 * UNIT));
    assert!((expected..expected + 10).contains(&capacity), "{capacity}, and {expected} was measured");
}

#[test]
fn workers_and_requests_do_not_wait_for_each_other() {
    let verifier = with_threads(1);
    let good = token("a", 4);
    let mut waiting = verifier.submit(&good).unwrap().unwrap();
    let current = locked(&verifier.current);
    let hashed = std::mem::replace(&mut waiting.result, oneshot::channel().1).blocking_recv();
    assert!(
        matches!(hashed.unwrap().status, TokenStatus::Verified(_)),
        "while a request holds the cache's lock"
    );
    drop(current);
    assert!(verifier.workers.collect(&verifier.current));
    let queue = locked(&verifier.workers.shared.state);
    let verified = verifier.verify(&good, None).now_or_never();
    assert!(verified.is_some_and(|secret| secret.unwrap().is_some()), "while a thread looks for work");
    drop(queue);
}

#[test]
fn workers_limit_waiters_per_token_and_in_all() {
    let verifier = with_threads(1).without_threads();
    let tokens: Vec<_> = (0..6).map(|number| token(&number.to_string(), 4)).collect();
    let submit = |token: Token| -> Vec<_> {
        let pending = (0..300).map(|_| verifier.submit(&token));
        pending.filter_map(|pending| pending.ok().flatten()).collect()
    };
    let mut waiters: Vec<_> = tokens.iter().map(|token| submit(*token)).collect();
    // The fifth token gets the last four of 1,024 extra waiters. The first waiter of each token is not extra.
    assert_eq!(waiters.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 256, 256, 5, 1]);
    // A waiter that leaves frees its slot, also if it is the first one.
    waiters[0].clear();
    let (sixth, first) = (submit(tokens[5]), submit(tokens[0]));
    assert_eq!([sixth.len(), first.len()], [255, 1]);
    waiters[1].truncate(200);
    assert_eq!(submit(tokens[0]).len(), 56);
    assert_eq!(locked(&verifier.workers.shared.state).take_waiters(&tokens[2]).len(), 256);
    assert_eq!(submit(tokens[1]).len(), 56);
    drop(waiters);
    drop((sixth, first));
    assert_eq!(locked(&verifier.workers.shared.state).extra_waiters, 0);
}

#[tokio::test]
async fn workers_tell_a_full_queue_from_busy_cores() {
    let verifier = verifier(&["a"], Duration::from_millis(1), 1).without_threads();
    assert_eq!(verifier.hash(&token("a", 4)).await.unwrap_err().why, TOO_LATE);
    let other = token("b", 4);
    let _waiters: Vec<_> = (0..WAITERS_PER_TOKEN).map(|_| verifier.submit(&other)).collect();
    assert_eq!(verifier.hash(&other).await.unwrap_err().why, TOO_MANY);
}

#[test]
fn workers_pause_only_on_a_contended_core() {
    let milliseconds = Duration::from_millis;
    assert_eq!(pause(milliseconds(60), Some(milliseconds(60))), Duration::ZERO);
    // Others had a third of the core, then a little less than half.
    assert_eq!(pause(milliseconds(90), Some(milliseconds(60))), Duration::ZERO);
    assert_eq!(pause(milliseconds(110), Some(milliseconds(60))), milliseconds(40) * PAUSE);
    // However many others there are, the pause keeps to the worker's share of the core.
    for took in [120, 600] {
        assert_eq!(pause(milliseconds(took), Some(milliseconds(60))), milliseconds(60) * PAUSE);
    }
    assert_eq!(pause(milliseconds(120), None), milliseconds(60) * PAUSE);
}

/// A metrics recorder is foreign code: it may be slow, or call the receiver.
#[tokio::test]
async fn workers_call_no_recorder_under_the_lock() {
    let verifier = with_threads(1);
    let recorder = LockCheckingRecorder(Arc::clone(&verifier.workers.shared));
    let _installed = metrics::set_default_local_recorder(&recorder);
    assert!(verifier.verify(&token("a", 4), None).await.unwrap().is_some());
}

struct LockCheckingRecorder(Arc<Shared>);

impl LockCheckingRecorder {
    fn assert_unlocked(&self) {
        assert!(self.0.state.try_lock().is_ok());
    }
}

impl Recorder for LockCheckingRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.assert_unlocked();
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.assert_unlocked();
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.assert_unlocked();
        Histogram::noop()
    }
}

#[tokio::test]
async fn workers_end_with_their_receiver() {
    let verifier = with_threads(2);
    assert!(verifier.hash(&token("a", 4)).await.is_ok());
    let shared = Arc::downgrade(&verifier.workers.shared);
    drop(verifier);
    let started_at = Instant::now();
    while shared.strong_count() > 0 {
        assert!(started_at.elapsed() < Duration::from_secs(60), "a worker outlives its receiver");
        std::thread::yield_now();
    }
}

#[test]
fn workers_bound_their_pause_and_end_it_for_another_client() {
    let settings = Settings { verify_timeout: Duration::from_millis(40), verify_threads: 1 };
    let workers = Workers::new(Arc::new(Keyring::new(Vec::new())), &settings);
    let shared = &workers.shared;
    let [forger, other] = [1, 2].map(client);
    let hour = Duration::from_secs(3600);
    let submit = |client| {
        let token = token("any", 4);
        let item = QueuedItem { token, gauge: QueuedTokenGauge::new(), client };
        locked(&shared.state).queue.push(token.as_bytes(), client, 1, item, u64::MAX);
    };
    assert_eq!(shared.pause(Duration::ZERO, &[forger]), Duration::ZERO);
    submit(forger);
    assert_eq!(shared.pause(hour, &[forger]), settings.verify_timeout * LONGEST_PAUSE, "its own tokens wait");
    submit(other);
    // With a timeout long enough that a busy machine does not reach the end of the pause.
    let longer = Settings { verify_timeout: Duration::from_secs(8), ..settings };
    let workers = Workers::new(Arc::new(Keyring::new(Vec::new())), &longer);
    std::mem::swap(&mut locked(&workers.shared.state).queue, &mut locked(&shared.state).queue);
    assert!(workers.shared.pause(hour, &[forger]) < longer.verify_timeout * LONGEST_PAUSE);
}
