//! The receive path without a framework.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    BoxHandler, ClaimState, ConfigError, DedupStore, Delivery, DeliveryKey, Event, EventKind, EventRouter,
    FileOptimized, FileUploaded, Handler, HandlerError, LeaseToken, NamedSecret, Received, Receiver,
    ReceiverBuilder, RejectionKind, RequestHead, Secret, StoreError, StoreFuture, WebhookResponse,
};
use tokio::time::Instant;

use crate::until::until;

const SECRET: &str = "the secret of these tests";

fn body(event: &str, data: &str) -> String {
    format!(r#"{{"file":"5c6f","event":"{event}","data":{data},"owner":"o","runTimestamp":1,"uuid":"u"}}"#)
}

fn builder() -> ReceiverBuilder {
    Receiver::builder().secret(Secret::new(SECRET).unwrap()).verify_timeout(Duration::from_secs(60))
}

async fn serve(receiver: &Receiver, body: String, handler: impl Handler) -> WebhookResponse {
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    receiver.serve(&head, body, Arc::new(handler)).await
}

async fn nothing(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

/// A store that several receivers share, as several processes would.
#[derive(Clone, Default)]
struct SharedStore {
    states: Arc<Mutex<HashMap<DeliveryKey, (LeaseToken, bool)>>>,
    broken: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl SharedStore {
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HashMap<DeliveryKey, (LeaseToken, bool)>) -> T,
    ) -> StoreFuture<'_, T> {
        let broken = self.broken.load(Ordering::SeqCst);
        let outcome =
            if broken { Err(StoreError::new("gone")) } else { Ok(work(&mut self.states.lock().unwrap())) };
        Box::pin(async move {
            tokio::task::yield_now().await;
            outcome
        })
    }
}

const TTL: Duration = Duration::from_secs(600);

impl DedupStore for SharedStore {
    fn claim(&self, key: DeliveryKey, holder: LeaseToken, _: Duration) -> StoreFuture<'_, ClaimState> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.run(|states| match states.get(&key) {
            None => {
                states.insert(key, (holder, false));
                ClaimState::New
            }
            Some((_, true)) => ClaimState::Done,
            Some((_, false)) => ClaimState::InFlight,
        })
    }

    fn complete(&self, key: DeliveryKey, holder: LeaseToken) -> StoreFuture<'_, ()> {
        self.run(|states| {
            states.insert(key, (holder, true));
        })
    }

    fn release(&self, key: DeliveryKey, holder: LeaseToken) -> StoreFuture<'_, ()> {
        self.run(|states| {
            if states.get(&key).is_some_and(|(current, done)| *current == holder && !done) {
                states.remove(&key);
            }
        })
    }
}

#[tokio::test]
async fn two_receivers_of_one_store_handle_an_event_once() {
    let store = SharedStore::default();
    let (one, two) = (
        builder().dedup_store(store.clone(), TTL).build().unwrap(),
        builder().dedup_store(store, TTL).build().unwrap(),
    );
    let calls = Arc::new(AtomicUsize::new(0));
    for receiver in [&one, &two, &one] {
        let calls = Arc::clone(&calls);
        let handler = move |_: Delivery| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        };
        assert_eq!(serve(receiver, body("file_uploaded", "{}"), handler).await.status(), 200);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// An extractor's sender may leave while the store records the completion.
#[tokio::test]
async fn an_acknowledgement_that_is_called_off_counts_as_failed() {
    let receiver = builder().dedup_store(SharedStore::default(), TTL).build().unwrap();
    let token = bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string();
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body("file_uploaded", "{}")))]);
    let Ok(Received::New(claimed)) = receiver.receive(&head, body).await else { panic!("it is new") };
    let mut acknowledging = Box::pin(claimed.acknowledge());
    let looked_at = poll_fn(|context| Poll::Ready(acknowledging.as_mut().poll(context))).await;
    assert!(looked_at.is_pending(), "the store takes a moment");
    drop(acknowledging);
    let stats = receiver.stats();
    assert_eq!((stats.failed, stats.acknowledged, stats.in_flight), (1, 0, 0));
}

#[tokio::test]
async fn a_claim_of_another_process_is_waited_for() {
    let store = SharedStore::default();
    let key = DeliveryKey::new("u", "file_uploaded", "o");
    let elsewhere = LeaseToken::new(1);
    store.claim(key, elsewhere, Duration::from_secs(60)).await.unwrap();
    let receiver = builder().dedup_store(store.clone(), TTL).build().unwrap();
    let waiting =
        tokio::spawn(async move { serve(&receiver, body("file_uploaded", "{}"), nothing).await.status() });
    until("the store was asked again", async || store.asked.load(Ordering::SeqCst) >= 3).await;
    store.complete(key, elsewhere).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 200);

    let impatient =
        builder().dedup_store(SharedStore::default(), TTL).duplicate_timeout(Duration::from_millis(1));
    let store = SharedStore::default();
    store.claim(key, elsewhere, Duration::from_secs(60)).await.unwrap();
    let receiver = impatient.dedup_store(store, TTL).build().unwrap();
    let answer = serve(&receiver, body("file_uploaded", "{}"), nothing).await;
    assert_eq!(answer.rejection().unwrap().kind(), RejectionKind::DuplicateUnfinished);
}

#[tokio::test]
async fn a_claim_of_another_process_is_asked_for_seldom_and_not_for_ever() {
    let store = SharedStore::default();
    let receiver = builder().dedup_store(store.clone(), TTL).build().unwrap();
    // Tokens are hashed on threads of their own, which a clock that stands still does not wait for.
    assert_eq!(serve(&receiver, body("file_optimized", "{}"), nothing).await.status(), 200);
    let key = DeliveryKey::new("u", "file_uploaded", "o");
    store.claim(key, LeaseToken::new(1), Duration::from_secs(60)).await.unwrap();
    tokio::time::pause();
    let (begun, asked) = (Instant::now(), store.asked.load(Ordering::SeqCst));
    let answer = serve(&receiver, body("file_uploaded", "{}"), nothing).await;
    assert_eq!(answer.rejection().unwrap().kind(), RejectionKind::DuplicateUnfinished);
    let asked = store.asked.load(Ordering::SeqCst) - asked;
    assert!((10..=20).contains(&asked), "{asked} times");
    let waited = begun.elapsed();
    assert!((9..=10).contains(&waited.as_secs()), "{waited:?} of 10 s");
}

#[tokio::test]
async fn no_two_claims_have_one_holder() {
    let store = SharedStore::default();
    let receivers = [(); 2].map(|()| builder().dedup_store(store.clone(), TTL).build().unwrap());
    for (receiver, event) in [(0, "file_uploaded"), (0, "file_optimized"), (1, "a"), (1, "b")] {
        assert_eq!(serve(&receivers[receiver], body(event, "{}"), nothing).await.status(), 200);
    }
    let states = store.states.lock().unwrap();
    let holders: HashSet<_> = states.values().map(|(holder, _)| holder.number()).collect();
    assert_eq!(holders.len(), 4);
}

#[tokio::test]
async fn a_broken_store_is_no_success_and_a_failed_handler_gives_back() {
    let store = SharedStore::default();
    let receiver = builder().dedup_store(store.clone(), TTL).build().unwrap();
    store.broken.store(true, Ordering::SeqCst);
    let answer = serve(&receiver, body("file_uploaded", "{}"), nothing).await;
    assert_eq!(answer.rejection().unwrap().kind(), RejectionKind::StoreUnavailable);
    store.broken.store(false, Ordering::SeqCst);

    let failing = |_: Delivery| async { Err("failed".into()) };
    // Claims are released after the response.
    until("the claim that could not be made was released", async || {
        serve(&receiver, body("file_uploaded", "{}"), failing).await.status() == 500
    })
    .await;
    until("the failed handler's claim was given back", async || store.states.lock().unwrap().is_empty())
        .await;
    until("the event was handled", async || {
        serve(&receiver, body("file_uploaded", "{}"), nothing).await.status() == 200
    })
    .await;
    assert_eq!(store.states.lock().unwrap().values().filter(|(_, done)| *done).count(), 1);
}

#[tokio::test]
async fn event_router_calls_the_right_handler() {
    for (name, data, expected) in [
        ("file_uploaded", r#"{"name":"a"}"#, "uploaded a"),
        ("file_optimized", "{}", "optimized"),
        ("annotation_created", "{}", "otherwise annotation_created"),
        ("file_deleted", "{}", "otherwise file_deleted"),
        ("file_uploaded", "[]", "otherwise file_uploaded"),
    ] {
        let seen = Arc::new(Mutex::new(String::new()));
        let note = |seen: &Arc<Mutex<String>>| {
            let seen = Arc::clone(seen);
            move |text: String| seen.lock().unwrap().push_str(&text)
        };
        let (uploaded, optimized, otherwise) = (note(&seen), note(&seen), note(&seen));
        let handler = EventRouter::new()
            .on(move |file: FileUploaded, _| {
                uploaded(format!("uploaded {}", file.name.clone().unwrap_or_default()));
                async { Ok(()) }
            })
            .on(move |_: FileOptimized, _| {
                optimized("optimized".to_owned());
                async { Ok(()) }
            })
            .fallback(move |delivery: Delivery| {
                otherwise(format!("otherwise {}", delivery.event_name()));
                async { Ok(()) }
            });
        let receiver = builder().build().unwrap();
        assert_eq!(serve(&receiver, body(name, data), BoxHandler::new(handler)).await.status(), 200);
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn deliveries_know_their_circumstances() {
    let receiver = builder().build().unwrap();
    let exact = body("file_uploaded", "{ \"size\": 1e2 }");
    let expected = exact.clone();
    let handler = move |delivery: Delivery| {
        let expected = expected.clone();
        async move {
            assert_eq!(delivery.raw(), expected.as_bytes());
            assert_eq!(delivery.to_json_line(), expected.replace("{ \"size\": 1e2 }", "{\"size\":1e2}"));
            assert_eq!(serde_json::to_string(&delivery)?, expected);
            assert_eq!(delivery.data::<HashMap<String, f64>>()?["size"], 100.0);
            assert_eq!(delivery.raw_data().as_str(), "{ \"size\": 1e2 }");
            assert_eq!((delivery.secret_name(), delivery.attempt()), (Some("default"), 1));
            assert_eq!(delivery.key(), DeliveryKey::new("u", "file_uploaded", "o"));
            assert_eq!(delivery.kind(), Some(EventKind::FileUploaded));
            assert!(matches!(delivery.event(), Event::FileUploaded(file) if file.size == Some(100)));
            assert_eq!(delivery.triggered_at().map(|time| time.as_millisecond()), Some(1));
            Ok(())
        }
    };
    assert_eq!(serve(&receiver, exact, handler).await.status(), 200);
}

#[test]
fn impossible_settings_are_named() {
    let secret = |name: &str| NamedSecret::new(name, Secret::generate().unwrap());
    let error = |builder: ReceiverBuilder| builder.build().unwrap_err();
    assert_eq!(error(Receiver::builder()), ConfigError::NoSecret);
    let many =
        (0..9).fold(Receiver::builder(), |builder, number| builder.named_secret(secret(&number.to_string())));
    assert_eq!(error(many), ConfigError::TooManySecrets(9));
    assert_eq!(error(builder().named_secret(secret("default"))), ConfigError::SameName("default".to_owned()));
    let same = NamedSecret::new("other", Secret::new(SECRET).unwrap());
    assert_eq!(
        error(builder().named_secret(same)),
        ConfigError::SameSecret("default".to_owned(), "other".to_owned())
    );
    assert_eq!(error(builder().max_cost(3)), ConfigError::MaxCost(3));
    assert_eq!(error(builder().max_cost(32)), ConfigError::MaxCost(32));
    assert_eq!(error(builder().min_cost(3)), ConfigError::MinCost(3));
    assert_eq!(error(builder().min_cost(8).max_cost(7)), ConfigError::MinCost(8));
    assert_eq!(error(builder().max_body_bytes(2).memory_limit_bytes(1)), ConfigError::BodyLimitOverMemory);
    assert_eq!(error(builder().max_in_flight(0)), ConfigError::Zero("max_in_flight"));
    assert_eq!(error(builder().max_in_flight(1_000_001)), ConfigError::TooManyPermits);
    assert_eq!(error(builder().verify_threads(1001)), ConfigError::TooManyThreads);
    let endless = builder().max_body_bytes(u64::MAX).memory_limit_bytes(u64::MAX);
    assert_eq!(error(endless), ConfigError::BodyLimitOverMemory);
    assert_eq!(error(builder().verify_timeout(Duration::ZERO)), ConfigError::Zero("verify_timeout"));
}

#[test]
fn an_impossible_setting_is_told_with_what_is_possible() {
    for (error, expected) in [
        (ConfigError::NoSecret, "a receiver needs a secret"),
        (ConfigError::TooManySecrets(9), "9 secrets were given, and at most 8"),
        (ConfigError::SameName("a".to_owned()), "the name \"a\""),
        (ConfigError::SameSecret("a".to_owned(), "b".to_owned()), "\"a\" and \"b\" are equal"),
        (ConfigError::MaxCost(3), "max_cost is 3, and bcrypt's costs go from 4 to 31"),
        (ConfigError::MinCost(3), "min_cost is 3, and must be from 4 to max_cost"),
        (ConfigError::BodyLimitOverMemory, "max_body_bytes is more than memory_limit_bytes"),
        (ConfigError::TooManyPermits, "max_in_flight is above 1000000"),
        (ConfigError::TooManyThreads, "verify_threads is above 1000"),
        (ConfigError::Zero("verify_timeout"), "verify_timeout must not be zero"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_limit_of_time_may_be_none_at_all() {
    let endless = |builder: ReceiverBuilder| {
        builder
            .body_idle_timeout(Duration::MAX)
            .body_timeout(Duration::MAX)
            .verify_timeout(Duration::MAX)
            .duplicate_timeout(Duration::MAX)
            .build()
            .unwrap()
    };
    let shared = SharedStore::default();
    for receiver in [endless(builder()), endless(builder().dedup_store(shared, Duration::MAX))] {
        assert_eq!(serve(&receiver, body("file_uploaded", "{}"), nothing).await.status(), 200);
        assert_eq!(serve(&receiver, body("file_uploaded", "{}"), nothing).await.status(), 200, "a duplicate");
    }
}

#[test]
fn nothing_that_holds_a_secret_shows_it() {
    let named = NamedSecret::new("name", Secret::new(SECRET).unwrap());
    let builder = builder();
    let receiver = self::builder().build().unwrap();
    for shown in [format!("{named:?}"), format!("{builder:?}"), format!("{receiver:?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(shown.contains("\"name\"") || shown.contains("\"default\""), "{shown}");
    }
    assert_eq!(format!("{:?}", Secret::new(SECRET).unwrap()), "Secret(redacted)");
}
