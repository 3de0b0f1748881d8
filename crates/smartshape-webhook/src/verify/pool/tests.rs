use futures_util::FutureExt as _;

use super::*;
use crate::secret::{NamedSecret, Secret};
use crate::verify::Verifier;

const UNIT: u64 = 900_000;

fn verifier(secrets: &[&str], threads: usize) -> Verifier {
    let named = |plain: &&str| NamedSecret::new(*plain, Secret::new_short(*plain).unwrap());
    let settings = Settings {
        hash_wait: Duration::from_secs(9),
        hash_threads: threads,
        known_tokens: 8,
        refused_tokens: 8,
    };
    Verifier::new(secrets.iter().map(named).collect(), &settings).unwrap()
}

impl Verifier {
    fn ask(&self, token: &Token) -> Result<Option<Waiting>, HashingBusy> {
        self.pool.ask(&self.known, token, None)
    }

    async fn hash(&self, token: &Token) -> Result<Verdict, HashingBusy> {
        let waiting = self.ask(token)?.expect("the token is not known yet");
        Ok(self.pool.wait(waiting).await?.verdict)
    }

    /// Nothing leaves the line.
    fn without_threads(self) -> Self {
        locked(&self.pool.queue.state).started_in = Some(std::process::id());
        self
    }
}

fn token(plain: &str, cost: u32) -> Token {
    // Only the form of a costly one matters.
    let hash = bcrypt::hash(plain, 4).unwrap().replacen("$04$", &format!("${cost:02}$"), 1);
    Token::parse(hash.as_bytes()).unwrap()
}

#[test]
fn a_token_is_charged_for_its_cost_and_every_secret() {
    for (secrets, cost, units) in [
        (&["a"][..], 4, 1),
        (&["a"], 5, 2),
        (&["a"], 10, 64),
        (&["a", "b", "c"], 4, 3),
        (&["a", "b"], 12, 512),
    ] {
        let verifier = verifier(secrets, 1);
        let charged = locked(&verifier.pool.queue.state).units(&token("x", cost));
        assert_eq!(charged, units, "{secrets:?} at {cost}");
    }
}

#[test]
fn the_line_is_as_long_as_all_threads_do_in_the_wait() {
    let one = verifier(&["a"], 1);
    assert_eq!(one.pool.queue.room(), 9_000_000_000 / UNIT);
    let two = verifier(&["a"], 2);
    let queue = &two.pool.queue;
    assert_eq!(queue.room(), 2 * one.pool.queue.room());
    // One token of 64 units that took twice as long as was assumed.
    queue.measured(Duration::from_nanos(64 * 2 * UNIT), 64);
    assert_eq!(queue.room(), 18_000_000_000 / (UNIT / 8 * 9));
    for _ in 0..100 {
        queue.measured(Duration::from_nanos(64 * 2 * UNIT), 64);
    }
    let (room, expected) = (queue.room(), 18_000_000_000 / (2 * UNIT));
    assert!((expected..expected + 10).contains(&room), "{room}, and {expected} was measured");
}

/// By which the time that a hash took is divided.
#[test]
fn a_keyring_tells_how_many_secrets_it_tried() {
    let verifier = verifier(&["a", "b", "c"], 1);
    let keyring = &locked(&verifier.known).keyring;
    for (plain, tried) in [("a", 1), ("b", 2), ("c", 3), ("of nobody", 3)] {
        assert_eq!(keyring.find(&token(plain, 4)).1, tried, "{plain}");
    }
}

#[test]
fn requests_and_threads_do_not_wait_for_each_other() {
    let verifier = verifier(&["a"], 1);
    let good = token("a", 4);
    let mut waiting = verifier.ask(&good).unwrap().unwrap();
    let known = locked(&verifier.known);
    let hashed = std::mem::replace(&mut waiting.verdict, oneshot::channel().1).blocking_recv();
    assert!(matches!(hashed.unwrap().verdict, Verdict::Matches(_)), "while requests look at known tokens");
    drop(known);
    assert!(verifier.pool.collect(&verifier.known));
    let queue = locked(&verifier.pool.queue.state);
    let verified = verifier.verify(&good, None).now_or_never();
    assert!(verified.is_some_and(|secret| secret.unwrap().is_some()), "while a thread looks for work");
    drop(queue);
}

#[test]
fn askers_are_bounded_for_each_token_and_in_all() {
    let verifier = verifier(&["a"], 1).without_threads();
    let tokens: Vec<_> = (0..6).map(|number| token(&number.to_string(), 4)).collect();
    let ask = |token: Token| -> Vec<_> {
        let asked = (0..300).map(|_| verifier.ask(&token));
        asked.filter_map(|asked| asked.ok().flatten()).collect()
    };
    let mut askers: Vec<_> = tokens.iter().map(|token| ask(*token)).collect();
    // Of 1,024 later ones four are left for the fifth. The first of each token is none of them.
    assert_eq!(askers.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 256, 256, 5, 1]);
    // Whoever leaves makes room, be it the first.
    askers[0].clear();
    let (sixth, first) = (ask(tokens[5]), ask(tokens[0]));
    assert_eq!([sixth.len(), first.len()], [255, 1]);
    askers[1].truncate(200);
    assert_eq!(ask(tokens[0]).len(), 56);
    assert_eq!(locked(&verifier.pool.queue.state).forget(&tokens[2]).len(), 256);
    assert_eq!(ask(tokens[1]).len(), 56);
    drop(askers);
    drop((sixth, first));
    assert_eq!(locked(&verifier.pool.queue.state).later, 0);
}

#[tokio::test]
async fn the_log_tells_a_long_line_from_cores_that_are_busy() {
    let settings =
        Settings { hash_wait: Duration::from_millis(1), hash_threads: 1, known_tokens: 8, refused_tokens: 8 };
    let secrets = vec![NamedSecret::new("a", Secret::new_short("a").unwrap())];
    let verifier = Verifier::new(secrets, &settings).unwrap().without_threads();
    assert_eq!(verifier.hash(&token("a", 4)).await.unwrap_err().why, TOO_LATE);
    let other = token("b", 4);
    let _askers: Vec<_> = (0..ASKERS_PER_TOKEN).map(|_| verifier.ask(&other)).collect();
    assert_eq!(verifier.hash(&other).await.unwrap_err().why, TOO_MANY);
}

/// A `fork` leaves the threads behind, and with them the tokens that they had in their hands.
#[tokio::test]
async fn a_forked_process_checks_tokens_with_threads_of_its_own() {
    let verifier = verifier(&["a"], 1);
    locked(&verifier.pool.queue.state).started_in = Some(std::process::id() + 1);
    let at_the_fork = token("a", 4);
    let (asker, _) = oneshot::channel();
    locked(&verifier.pool.queue.state).asked.insert(*at_the_fork.as_bytes(), vec![asker]);
    assert!(matches!(verifier.hash(&at_the_fork).await, Ok(Verdict::Matches(_))));
}

#[test]
fn forgeries_wait_for_others_who_want_the_core_and_for_nobody_else() {
    let milliseconds = Duration::from_millis;
    assert_eq!(pause(milliseconds(60), Some(milliseconds(60))), Duration::ZERO);
    // Others had a third of it, and half of it less a little.
    assert_eq!(pause(milliseconds(90), Some(milliseconds(60))), Duration::ZERO);
    assert_eq!(pause(milliseconds(110), Some(milliseconds(60))), milliseconds(40) * PAUSE);
    // However many others there are, it is no more than its share of the core.
    for took in [120, 600] {
        assert_eq!(pause(milliseconds(took), Some(milliseconds(60))), milliseconds(60) * PAUSE);
    }
    assert_eq!(pause(milliseconds(120), None), milliseconds(60) * PAUSE);
}

/// A recorder is somebody else's code: it may be slow, or come back to the receiver.
#[cfg(feature = "metrics")]
#[tokio::test]
async fn recorders_are_not_called_under_the_lock() {
    let verifier = verifier(&["a"], 1);
    let looking = recorder::Looking(Arc::clone(&verifier.pool.queue));
    let _installed = metrics::set_default_local_recorder(&looking);
    assert!(verifier.verify(&token("a", 4), None).await.unwrap().is_some());
}

#[cfg(feature = "metrics")]
mod recorder {
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::{Arc, Queue};

    pub(super) struct Looking(pub(super) Arc<Queue>);

    impl Looking {
        fn look(&self) {
            assert!(self.0.state.try_lock().is_ok());
        }
    }

    impl Recorder for Looking {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            self.look();
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            self.look();
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            self.look();
            Histogram::noop()
        }
    }
}

#[tokio::test]
async fn threads_end_with_their_receiver() {
    let verifier = verifier(&["a"], 2);
    assert!(verifier.hash(&token("a", 4)).await.is_ok());
    let queue = Arc::downgrade(&verifier.pool.queue);
    drop(verifier);
    let begun = Instant::now();
    while queue.strong_count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "a thread goes on without its receiver");
        std::thread::yield_now();
    }
}

#[test]
fn a_pause_has_a_bound_and_ends_for_a_token_of_another_source() {
    let settings = Settings {
        hash_wait: Duration::from_millis(40),
        hash_threads: 1,
        known_tokens: 8,
        refused_tokens: 8,
    };
    let pool = Pool::new(Arc::new(Keyring::new(Vec::new())), &settings);
    let queue = &pool.queue;
    let [forger, other] = [1, 2].map(|last| Some(Source::from(std::net::IpAddr::from([127, 0, 0, last]))));
    let hour = Duration::from_secs(3600);
    let enter = |source| {
        let token = token("any", 4);
        let item = (token, WaitingToken::new(), source);
        locked(&queue.state).line.enter(token.as_bytes(), source, 1, item, u64::MAX);
    };
    assert_eq!(queue.pause(Duration::ZERO, forger), Duration::ZERO);
    enter(forger);
    assert_eq!(queue.pause(hour, forger), settings.hash_wait * LONGEST_PAUSE, "its own tokens wait");
    enter(other);
    // With a wait that a busy machine does not take for the end of the pause.
    let patient = Settings { hash_wait: Duration::from_secs(8), ..settings };
    let pool = Pool::new(Arc::new(Keyring::new(Vec::new())), &patient);
    std::mem::swap(&mut locked(&pool.queue.state).line, &mut locked(&queue.state).line);
    assert!(pool.queue.pause(hour, forger) < patient.hash_wait * LONGEST_PAUSE);
}
