//! Many requests with the same tokens while secrets are replaced: each outcome fits the secrets of that time, each token is
//! hashed once, and no request waits for ever.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{NamedSecret, Receiver, RejectionKind, RequestHead, Secret, TOKEN_HEADER};

use crate::random::Random;

const SECRETS: [&str; 3] = ["the first secret", "the second secret", "a secret of nobody"];

/// Which of the secrets are in place, at one time or another.
const SETS: [&[usize]; 3] = [&[0], &[0, 1], &[1]];

#[test]
fn every_token_is_hashed_once_for_whoever_asks() {
    for seed in 0..5 {
        run(async move {
            let world = World::new(seed);
            world.ask_all().await;
            // A hash continues after its request was dropped; one more request for each token waits for it.
            for token in 0..world.tokens.len() {
                assert_eq!(world.ask(token, u64::MAX).await, Some(world.tokens[token].0 == 0));
            }
            assert_eq!(world.receiver.stats().hashes, world.tokens.len() as u64, "with seed {seed}");
        });
    }
}

#[test]
fn outcomes_keep_up_with_the_secrets() {
    for seed in 0..5 {
        run(async move {
            let world = World::new(seed);
            let asking = Arc::clone(&world);
            let asked = tokio::spawn(async move { asking.ask_all().await });
            while !asked.is_finished() {
                world.replace();
                // A loop that kept the core busy would make the workers pause after each rejected token.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            asked.await.unwrap();
            for set in SETS {
                world.put(set);
                for (token, (secret, _)) in world.tokens.iter().enumerate() {
                    assert_eq!(
                        world.ask(token, u64::MAX).await,
                        Some(set.contains(secret)),
                        "with seed {seed}"
                    );
                }
            }
        });
    }
}

/// As in an application's own tests. An idle runtime's paused clock leaps to the end of each wait.
#[tokio::test(start_paused = true)]
async fn a_first_delivery_is_received_while_tokios_clock_is_paused() {
    let receiver = Receiver::builder().named_secret(named(0)).build().unwrap();
    let before = tokio::time::Instant::now();
    for salt in 1..4 {
        let token = bcrypt::hash_with_salt(SECRETS[0], 6, [salt; 16]).unwrap().to_string();
        let head = RequestHead::from_parts("POST", [(TOKEN_HEADER, token.as_bytes())]);
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))]);
        assert_eq!(receiver.receive(&head, body).await.unwrap_err().kind(), RejectionKind::EnvelopeInvalid);
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "the clock is the test's");
}

fn run(test: impl Future<Output = ()> + Send + 'static) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let stuck = Duration::from_secs(300);
        tokio::time::timeout(stuck, tokio::spawn(test)).await.expect("nobody waits for ever").unwrap();
    });
}

struct World {
    seed: u64,
    random: Random,
    receiver: Receiver,
    /// Each with the secret that it was made of.
    tokens: Vec<(usize, String)>,
    sets: Mutex<Sets>,
}

/// Those put in place so far; of the last ones it is not yet certain.
struct Sets {
    all: Vec<&'static [usize]>,
    certain: usize,
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        let builder = Receiver::builder()
            .named_secret(named(0))
            .verify_timeout(Duration::from_secs(120))
            .verify_threads(2);
        let token = |number: usize| {
            let (secret, salt) = (number % SECRETS.len(), number as u8);
            (secret, bcrypt::hash_with_salt(SECRETS[secret], 4, [salt; 16]).unwrap().to_string())
        };
        Arc::new(Self {
            seed,
            random: Random::new(seed),
            receiver: builder.build().unwrap(),
            tokens: (0..12).map(token).collect(),
            sets: Mutex::new(Sets { all: vec![SETS[0]], certain: 0 }),
        })
    }

    async fn ask_all(self: &Arc<Self>) {
        let askers: Vec<_> = (0..16).map(|_| tokio::spawn(Arc::clone(self).ask_often())).collect();
        for asker in askers {
            asker.await.unwrap();
        }
    }

    async fn ask_often(self: Arc<Self>) {
        for _ in 0..20 {
            let token = self.random.below(self.tokens.len() as u64) as usize;
            let patience = if self.random.one_in(4) { self.random.below(3) } else { u64::MAX };
            let before = self.sets.lock().unwrap().certain;
            let Some(accepted) = self.ask(token, patience).await else { continue };
            let sets = self.sets.lock().unwrap();
            let secret = self.tokens[token].0;
            let possible = sets.all[before..].iter().any(|set| set.contains(&secret) == accepted);
            assert!(possible, "secret {secret}, accepted: {accepted}, with seed {}", self.seed);
        }
    }

    /// Whether the token was accepted; `None` for an asker who left after so many looks.
    async fn ask(&self, token: usize, patience: u64) -> Option<bool> {
        let head = RequestHead::from_parts("POST", [(TOKEN_HEADER, self.tokens[token].1.as_bytes())]);
        // Whoever knows a secret is told that this is no event, and is not kept.
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))]);
        let mut received = pin!(self.receiver.receive(&head, body));
        let mut looks = 0;
        let received = poll_fn(|context| match received.as_mut().poll(context) {
            Poll::Pending if looks >= patience => Poll::Ready(None),
            outcome => {
                looks += 1;
                outcome.map(Some)
            }
        });
        match received.await?.unwrap_err().kind() {
            RejectionKind::EnvelopeInvalid => Some(true),
            RejectionKind::TokenUnmatched => Some(false),
            other => panic!("{other:?} with seed {}", self.seed),
        }
    }

    fn replace(&self) {
        self.put(self.random.pick(&SETS));
    }

    fn put(&self, set: &'static [usize]) {
        self.sets.lock().unwrap().all.push(set);
        self.receiver.replace_secrets(set.iter().map(|secret| named(*secret)).collect()).unwrap();
        let mut sets = self.sets.lock().unwrap();
        sets.certain = sets.all.len() - 1;
    }
}

fn named(secret: usize) -> NamedSecret {
    NamedSecret::new(SECRETS[secret], Secret::new(SECRETS[secret]).unwrap())
}
