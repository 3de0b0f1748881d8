//! Several webhooks at one receiver: none takes another's permits, memory or events.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use smartshape_webhook::{
    ClaimState, Delivery, DeliveryKey, HandlerError, NamedSecret, Receiver, ReceiverBuilder, RejectionKind,
    RequestHead, Secret,
};

use crate::common::{body_stream, head, long_timeouts, poll_once, poll_until, token_of};
use crate::store::{Store, StoreBehavior};

fn named(name: &str) -> NamedSecret {
    NamedSecret::new(name, Secret::new(format!("the secret of webhook {name}")).unwrap())
}

fn two() -> ReceiverBuilder {
    long_timeouts().named_secret(named("a")).named_secret(named("b"))
}

fn token(name: &str) -> &'static str {
    static TOKENS: LazyLock<[String; 2]> =
        LazyLock::new(|| ["a", "b"].map(|name| token_of(&format!("the secret of webhook {name}"), 7)));
    &TOKENS[usize::from(name == "b")]
}

fn event(uuid: &str, owner: impl Into<serde_json::Value>, name: &str) -> String {
    json!({"file": "5c6f", "event": "file_uploaded", "data": {"name": name}, "owner": owner.into(), "runTimestamp": 1,
        "uuid": uuid})
    .to_string()
}

/// The status, with whether the handler was called.
async fn deliver(receiver: &Receiver, token: &str, body: &str) -> (u16, bool) {
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let calls = Arc::clone(&calls);
        move |_: Delivery| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { Ok::<(), HandlerError>(()) }
        }
    };
    let length = body.len().to_string();
    let headers = [("x-smartshape-token", token.as_bytes()), ("content-length", length.as_bytes())];
    let body = body_stream(body.to_owned());
    let response = receiver.serve(&RequestHead::from_parts("POST", headers), body, Arc::new(handler)).await;
    (response.status(), calls.load(Ordering::SeqCst) == 1)
}

/// Uploads of `declared` bytes by webhook `a`, of which `sent` come and then nothing more, beside `deliveries` of `b`.
/// Returns how many uploads were let in.
async fn beside_stalled_uploads(receiver: &Receiver, uploads: usize, declared: usize, sent: usize) -> usize {
    // So that its token is known, and it stalls at its body and nowhere else.
    assert_eq!(
        deliver(receiver, token("a"), &event(&format!("{declared} {sent}"), json!("a"), "")).await.0,
        200
    );
    let length = declared.to_string();
    let headers = [("x-smartshape-token", token("a").as_bytes()), ("content-length", length.as_bytes())];
    let head = RequestHead::from_parts("POST", headers);
    let body = || {
        let begin = (sent > 0).then(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; sent])));
        stream::iter(begin).chain(stream::pending())
    };
    let mut stalled: Vec<_> = (0..uploads).map(|_| Box::pin(receiver.receive(&head, body()))).collect();
    let mut rejected = Vec::new();
    // A rejected body is polled a few times more, to be discarded.
    for _ in 0..8 {
        for (at, upload) in stalled.iter_mut().enumerate() {
            if rejected.contains(&at) {
                continue;
            }
            if let Poll::Ready(outcome) = poll_once(upload).await {
                let kind = outcome.unwrap_err().kind();
                assert!(
                    matches!(kind, RejectionKind::TooManyInFlight | RejectionKind::MemoryExhausted),
                    "{kind:?}"
                );
                rejected.push(at);
            }
        }
    }
    for number in 0..20 {
        let body = event(&format!("{declared} {sent} {number}"), json!("b"), &"x".repeat(1000));
        assert_eq!(deliver(receiver, token("b"), &body).await, (200, true), "{:?}", receiver.stats());
    }
    uploads - rejected.len()
}

#[tokio::test]
async fn endless_uploads_reject_no_other_webhook() {
    let receiver = two().build().unwrap();
    assert_eq!(beside_stalled_uploads(&receiver, 256, 200, 1).await, 192, "three quarters of the permits");
    assert_eq!(beside_stalled_uploads(&receiver, 256, 200, 0).await, 192);
    // A declared length reserves no memory.
    assert_eq!(beside_stalled_uploads(&receiver, 6, 50 << 20, 1).await, 6);
    assert!(receiver.stats().reserved_bytes < 1 << 20, "{:?}", receiver.stats());
    // Received bytes take three quarters of the memory at most.
    let small = two().max_body_bytes(1 << 20).memory_limit_bytes(4 << 20).build().unwrap();
    assert_eq!(beside_stalled_uploads(&small, 6, 1 << 20, (1 << 20) - 1).await, 3);
    assert_eq!((small.stats().reserved_bytes, small.stats().in_flight), (0, 0));
}

#[tokio::test]
async fn permit_share_survives_replaced_secrets() {
    let receiver = two().max_in_flight(4).build().unwrap();
    let (wait, body) = (token("a"), event("1", json!("a"), ""));
    assert_eq!(deliver(&receiver, wait, &body).await.0, 200);
    let head = head(token("a"));
    let endless = stream::pending::<Result<Bytes, std::io::Error>>;
    let mut stalled: Vec<_> = (0..3).map(|_| Box::pin(receiver.receive(&head, endless()))).collect();
    for upload in &mut stalled {
        assert!(poll_once(upload).await.is_pending());
    }
    let full = async || pin!(receiver.receive(&head, endless())).await.unwrap_err().kind();
    assert_eq!(full().await, RejectionKind::TooManyInFlight);
    receiver.replace_secrets(vec![named("b"), named("a")]).unwrap();
    assert_eq!(full().await, RejectionKind::TooManyInFlight, "it has its share already");
    // The only one, it may take all.
    receiver.replace_secrets(vec![named("a"), named("b").for_webhook("a")]).unwrap();
    let mut last = pin!(receiver.receive(&head, endless()));
    assert!(poll_once(&mut last).await.is_pending());
    assert_eq!(full().await, RejectionKind::TooManyInFlight);
}

#[tokio::test]
async fn token_claims_no_event_of_another_webhook() {
    let receiver = two().build().unwrap();
    let (forged, genuine) = (event("1", json!("b"), "evil"), event("1", json!("b"), "good"));
    assert_eq!(deliver(&receiver, token("a"), &forged).await, (200, true));
    assert_eq!(deliver(&receiver, token("b"), &genuine).await, (200, true), "its own event");
    assert_eq!(deliver(&receiver, token("b"), &genuine).await, (200, false));
    assert_eq!(deliver(&receiver, token("a"), &forged).await, (200, false));
    assert_eq!((receiver.stats().duplicates, receiver.stats().differing_duplicates), (2, 0));
    assert_eq!(deliver(&receiver, token("a"), &genuine).await, (200, false));
    assert_eq!((receiver.stats().duplicates, receiver.stats().differing_duplicates), (3, 1));
}

#[tokio::test]
async fn two_secrets_of_one_webhook_share_keys() {
    let receiver =
        long_timeouts().named_secret(named("a")).named_secret(named("b").for_webhook("a")).build().unwrap();
    let body = event("1", json!("o"), "");
    assert_eq!(deliver(&receiver, token("a"), &body).await, (200, true));
    assert_eq!(deliver(&receiver, token("b"), &body).await, (200, false), "it came by the old secret");
    receiver.replace_secrets(vec![named("b").for_webhook("a")]).unwrap();
    assert_eq!(deliver(&receiver, token("b"), &body).await, (200, false));
}

/// Keys in existing stores and unique indexes were derived from three fields.
#[tokio::test]
async fn default_webhook_keeps_its_keys() {
    let secret = Secret::new("the secret of webhook a").unwrap();
    let renamed = named("a").for_webhook("default");
    for builder in [
        long_timeouts().secret(secret.clone()),
        long_timeouts().secret(secret).named_secret(named("b")),
        long_timeouts().named_secret(renamed),
    ] {
        let receiver = builder.build().unwrap();
        let head = head(token("a"));
        let body = body_stream(event("1", json!("o"), ""));
        let Ok(smartshape_webhook::Received::New(claimed)) = receiver.receive(&head, body).await else {
            panic!()
        };
        assert_eq!(claimed.key(), DeliveryKey::new("1", "file_uploaded", "o"));
    }
}

#[tokio::test]
async fn secret_scoped_to_owners_rejects_others() {
    let secret = named("a").scoped_to_owners(["ada@example.test", "5c6aeed079bf3f432d3c929e", "team"]);
    let receiver = long_timeouts().named_secret(secret).build().unwrap();
    for (number, (owner, allowed)) in [
        (json!("ada@example.test"), true),
        (json!("5c6aeed079bf3f432d3c929e"), true),
        (json!("team"), true),
        (json!({"id": "5c6aeed079bf3f432d3c929e", "email": "ada@example.test", "username": "x"}), true),
        (json!({"email": "ada@example.test"}), true),
        (json!("bob@example.test"), false),
        (json!("Ada@example.test"), false),
        (json!("other"), false),
        (json!({"id": "5c6aeed079bf3f432d3c929e", "email": "bob@example.test"}), false),
        (json!({"id": "5c", "email": "ada@example.test"}), false),
        (json!({"username": "ada@example.test"}), false),
        (json!({}), false),
    ]
    .into_iter()
    .enumerate()
    {
        let body = event(&number.to_string(), owner, "");
        let expected = if allowed { (200, true) } else { (401, false) };
        assert_eq!(deliver(&receiver, token("a"), &body).await, expected, "{body}");
    }
}

/// On both kinds of runtime: one drops tasks that have not started, the other may be running them.
#[test]
fn ended_runtime_leaves_nothing_in_flight() {
    let runtimes: [fn() -> tokio::runtime::Builder; 2] =
        [tokio::runtime::Builder::new_current_thread, tokio::runtime::Builder::new_multi_thread];
    for runtime in runtimes {
        let new = || runtime().worker_threads(1).enable_all().build().unwrap();
        let expired_claims = Store::default();
        let new_claim = StoreBehavior::Returns(ClaimState::New);
        expired_claims.set(new_claim, new_claim, new_claim);
        let stores = [long_timeouts(), long_timeouts().dedup_store(expired_claims, Duration::from_nanos(1))];
        for receiver in stores.map(|builder| builder.named_secret(named("a")).build().unwrap()) {
            let body = event("1", json!("o"), "");
            let first = new();
            first.spawn({
                let (receiver, body) = (receiver.clone(), body.clone());
                async move {
                    let handler = |_: Delivery| std::future::pending::<Result<(), HandlerError>>();
                    receiver.serve(&head(token("a")), body_stream(body), Arc::new(handler)).await
                }
            });
            first.block_on(poll_until(async || receiver.stats().in_flight == 1));
            drop(first);
            let again = new().block_on(async {
                let retry = deliver(&receiver, token("a"), &body);
                tokio::time::timeout(Duration::from_secs(60), retry).await.unwrap()
            });
            assert_eq!((again, receiver.stats().in_flight), ((200, true), 0));
        }
    }
}
