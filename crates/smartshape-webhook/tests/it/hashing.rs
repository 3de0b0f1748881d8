//! Many requests with the same tokens while secrets are replaced: each outcome fits the secrets of that time, each
//! token is hashed once, and no request waits forever.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smartshape_webhook::{NamedSecret, Receiver, RejectionKind, Secret};

use crate::common::{body_stream, head, poll_at_most, token_of};
use crate::random::Random;

const SECRETS: [&str; 3] = ["the first secret", "the second secret", "a secret of nobody"];

/// The sets of secrets that replace one another.
const SETS: [&[usize]; 3] = [&[0], &[0, 1], &[1]];

#[test]
fn each_token_is_hashed_once_for_all_requests() {
    for seed in 0..5 {
        run(async move {
            let simulation = Simulation::new(seed);
            simulation.request_all().await;
            // A hash continues after its request was dropped; one more request for each token waits for it.
            for token in 0..simulation.tokens.len() {
                assert_eq!(simulation.request(token, u64::MAX).await, Some(simulation.tokens[token].0 == 0));
            }
            assert_eq!(
                simulation.receiver.stats().hashes,
                simulation.tokens.len() as u64,
                "with seed {seed}"
            );
        });
    }
}

#[test]
fn outcomes_follow_replaced_secrets() {
    for seed in 0..5 {
        run(async move {
            let simulation = Simulation::new(seed);
            let requesting = Arc::clone(&simulation);
            let requests = tokio::spawn(async move { requesting.request_all().await });
            while !requests.is_finished() {
                simulation.replace_at_random();
                // A loop that kept the core busy would make the workers pause after each rejected token.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            requests.await.unwrap();
            for set in SETS {
                simulation.replace(set);
                for (token, (secret, _)) in simulation.tokens.iter().enumerate() {
                    assert_eq!(
                        simulation.request(token, u64::MAX).await,
                        Some(set.contains(secret)),
                        "with seed {seed}"
                    );
                }
            }
            let hashes = simulation.receiver.stats().hashes;
            simulation.replace(SETS[1]);
            let kept = simulation.tokens.iter().position(|(secret, _)| *secret == 1).unwrap();
            assert_eq!(simulation.request(kept, u64::MAX).await, Some(true));
            assert_eq!(simulation.receiver.stats().hashes, hashes, "a secret that stays keeps its tokens");
        });
    }
}

/// An application's own tests may pause the clock. While the runtime is idle, a paused clock leaps to the end of each
/// wait.
#[tokio::test(start_paused = true)]
async fn first_delivery_is_received_while_tokios_clock_is_paused() {
    let receiver = Receiver::builder().named_secret(named(0)).build().unwrap();
    let before = tokio::time::Instant::now();
    for salt in 1..4 {
        let token = bcrypt::hash_with_salt(SECRETS[0], 6, [salt; 16]).unwrap().to_string();
        let received = receiver.receive(&head(&token), body_stream("{}")).await;
        assert_eq!(received.unwrap_err().kind(), RejectionKind::EnvelopeInvalid);
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "the clock is the test's");
}

fn run(test: impl Future<Output = ()> + Send + 'static) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let stuck = Duration::from_secs(300);
        tokio::time::timeout(stuck, tokio::spawn(test)).await.expect("a request waits forever").unwrap();
    });
}

struct Simulation {
    seed: u64,
    random: Random,
    receiver: Receiver,
    /// Each with the index of its secret.
    tokens: Vec<(usize, String)>,
    sets: Mutex<Sets>,
}

/// The sets so far. Those after `certain` may not be in effect yet.
struct Sets {
    all: Vec<&'static [usize]>,
    certain: usize,
}

impl Simulation {
    fn new(seed: u64) -> Arc<Self> {
        let builder = Receiver::builder()
            .named_secret(named(0))
            .verify_timeout(Duration::from_secs(120))
            .verify_threads(2);
        let token = |number: usize| {
            let (secret, salt) = (number % SECRETS.len(), number as u8);
            (secret, token_of(SECRETS[secret], salt))
        };
        Arc::new(Self {
            seed,
            random: Random::new(seed),
            receiver: builder.build().unwrap(),
            tokens: (0..12).map(token).collect(),
            sets: Mutex::new(Sets { all: vec![SETS[0]], certain: 0 }),
        })
    }

    async fn request_all(self: &Arc<Self>) {
        let clients: Vec<_> = (0..16).map(|_| tokio::spawn(Arc::clone(self).request_often())).collect();
        for client in clients {
            client.await.unwrap();
        }
    }

    async fn request_often(self: Arc<Self>) {
        for _ in 0..20 {
            let token = self.random.below(self.tokens.len() as u64) as usize;
            let max_polls = if self.random.one_in(4) { self.random.below(3) } else { u64::MAX };
            let before = self.sets.lock().unwrap().certain;
            let Some(accepted) = self.request(token, max_polls).await else { continue };
            let sets = self.sets.lock().unwrap();
            let secret = self.tokens[token].0;
            let possible = sets.all[before..].iter().any(|set| set.contains(&secret) == accepted);
            assert!(possible, "secret {secret}, accepted: {accepted}, with seed {}", self.seed);
        }
    }

    /// Whether the token was accepted; `None` if the request was dropped after so many polls.
    async fn request(&self, token: usize, max_polls: u64) -> Option<bool> {
        // A body that is no event: the rejection of a verified token differs, and nothing is claimed.
        let head = head(&self.tokens[token].1);
        let received = pin!(self.receiver.receive(&head, body_stream("{}")));
        match poll_at_most(max_polls, received).await?.unwrap_err().kind() {
            RejectionKind::EnvelopeInvalid => Some(true),
            RejectionKind::TokenUnmatched => Some(false),
            other => panic!("{other:?} with seed {}", self.seed),
        }
    }

    fn replace_at_random(&self) {
        self.replace(self.random.pick(&SETS));
    }

    fn replace(&self, set: &'static [usize]) {
        self.sets.lock().unwrap().all.push(set);
        self.receiver.replace_secrets(set.iter().map(|secret| named(*secret)).collect()).unwrap();
        let mut sets = self.sets.lock().unwrap();
        sets.certain = sets.all.len() - 1;
    }
}

fn named(secret: usize) -> NamedSecret {
    NamedSecret::new(SECRETS[secret], Secret::new(SECRETS[secret]).unwrap())
}
