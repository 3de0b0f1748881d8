//! What callers are told, and what the log says instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    Claimed, Delivery, EventKind, HandlerError, NamedSecret, Outcome, Received, Receiver, Rejection,
    RejectionKind, RequestHead, Secret, WebhookResponse,
};

const SECRET: &str = "the secret of these tests";

fn receiver() -> Receiver {
    let scoped =
        NamedSecret::new("uploads", Secret::new(SECRET).unwrap()).scoped_to([EventKind::FileUploaded]);
    Receiver::builder().named_secret(scoped).verify_timeout(Duration::from_secs(60)).build().unwrap()
}

fn token() -> String {
    bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string()
}

fn event(name: &str) -> String {
    format!(r#"{{"file":"5c6f","event":"{name}","data":{{}},"owner":"o","runTimestamp":1,"uuid":"u"}}"#)
}

async fn receive(receiver: &Receiver, token: &str, body: &str) -> Result<Received, Rejection> {
    let head = RequestHead::from_parts("POST", [("x-smartshape-token", token.as_bytes())]);
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body.to_owned()))]);
    receiver.receive(&head, body).await
}

fn headers(answer: &WebhookResponse) -> BTreeMap<&'static str, String> {
    answer.headers().map(|(name, value)| (name, value.into_owned())).collect()
}

#[test]
fn every_answer_has_the_headers_of_its_status() {
    let success = WebhookResponse::success();
    assert_eq!(success.body(), r#"{"success":true}"#);
    assert_eq!(headers(&success), BTreeMap::from([("content-type", "application/json".to_owned())]));
    for kind in RejectionKind::ALL {
        let answer = WebhookResponse::from(*kind);
        let body = serde_json::json!({"success": false, "error": kind.public_message()});
        assert_eq!(answer.status(), kind.status());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.body()).unwrap(), body);
        let mut headers = headers(&answer);
        assert_eq!(headers.remove("content-type").as_deref(), Some("application/json"));
        let retry = headers.remove("retry-after").map(|seconds| seconds.parse().unwrap());
        match kind.status() {
            503 => assert!(matches!(retry, Some(1..=3)), "{kind:?}: {retry:?}"),
            _ => assert_eq!(retry, None, "{kind:?}"),
        }
        let challenge = r#"SmartShape-Token realm="webhook""#;
        let expected = match kind.status() {
            405 => BTreeMap::from([("allow", "POST".to_owned())]),
            401 => BTreeMap::from([("www-authenticate", challenge.to_owned())]),
            _ => BTreeMap::new(),
        };
        assert_eq!(headers, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
    for (wait, told) in [
        (Duration::ZERO, "1"),
        (Duration::from_secs(7), "7"),
        (Duration::from_millis(7001), "8"),
        (Duration::from_secs(3601), "3600"),
        (Duration::MAX, "3600"),
    ] {
        let receiver = receiver();
        let Ok(Received::New(claimed)) = receive(&receiver, &token(), &event("file_uploaded")).await else {
            panic!("it is new");
        };
        let busy = move |_: Delivery| async move { Err(HandlerError::retry_after(wait, "busy")) };
        let answer = claimed.handle(Arc::new(busy)).await;
        assert_eq!((answer.status(), headers(&answer)["retry-after"].as_str()), (503, told), "{wait:?}");
    }
}

#[tokio::test]
async fn a_rejection_says_to_the_log_what_was_wrong() {
    let receiver = receiver();
    let good = token();
    let forged = bcrypt::hash_with_salt("another secret", 4, [8; 16]).unwrap().to_string();
    for (token, body, expected) in [
        ("letmein", String::new(), "the token is malformed (the token does not have 60 bytes)"),
        (
            &good.replacen("$2b$", "$2x$", 1),
            String::new(),
            "the token is malformed (the token does not begin with $2a$, $2b$ or $2y$)",
        ),
        (
            &good.replacen("$04$", "$32$", 1),
            String::new(),
            "the token is malformed (the token's cost is not two digits from 04 to 31)",
        ),
        (
            &good.replacen("$04$", "$04$=", 1)[..60],
            String::new(),
            "the token is malformed (the token's salt or hash is not in bcrypt's alphabet)",
        ),
        (
            &good.replacen("$04$", "$13$", 1),
            String::new(),
            "the token's cost is above max_cost (13 is above 12)",
        ),
        (&forged, String::new(), "the token is well formed but matches none of the secrets (uploads)"),
        (
            &good,
            event("file_optimized"),
            "the token's secret is not for this event (uploads is only for some events)",
        ),
        (
            &good,
            event(""),
            "the body is not a SmartShape event (the body is not a SmartShape event: `event` is empty)",
        ),
    ] {
        let rejection = receive(&receiver, token, &body).await.unwrap_err();
        assert_eq!(rejection.to_string(), expected);
        assert!(!rejection.kind().public_message().contains("secret"));
    }
    let unparsed = receive(&receiver, &good, "letmein").await.unwrap_err();
    assert_eq!(unparsed.kind(), RejectionKind::NotJson);
    assert!(unparsed.to_string().starts_with("the body is not JSON (the body is not JSON: "), "{unparsed}");
    assert_eq!(Rejection::from(RejectionKind::Draining).to_string(), "the receiver is being drained");
    assert_eq!(receiver.stats().rejected, 9);
}

#[tokio::test]
async fn a_claimed_delivery_that_is_dropped_counts_as_failed() {
    let receiver = receiver();
    let claimed: Claimed = match receive(&receiver, &token(), &event("file_uploaded")).await {
        Ok(Received::New(claimed)) => claimed,
        other => panic!("{other:?}"),
    };
    let shown = format!("{claimed:?}");
    assert!(shown.contains("file_uploaded") && shown.contains("5c6f"), "{shown}");
    assert_eq!((receiver.stats().in_flight, receiver.stats().failed), (1, 0));
    drop(claimed);
    assert_eq!((receiver.stats().in_flight, receiver.stats().failed), (0, 1));
    let Ok(Received::New(again)) = receive(&receiver, &token(), &event("file_uploaded")).await else {
        panic!("it was given back");
    };
    assert_eq!(again.acknowledge().await.status(), 200);
    let stats = receiver.stats();
    assert_eq!((stats.in_flight, stats.failed, stats.acknowledged), (0, 1, 1));
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_done_all_the_same() {
    let receiver = receiver();
    let Ok(Received::New(claimed)) = receive(&receiver, &token(), &event("file_uploaded")).await else {
        panic!("it is new");
    };
    let (tell, told) = tokio::sync::oneshot::channel();
    drop(claimed.run(async move {
        tell.send(()).unwrap();
        (Outcome::Acknowledged, ())
    }));
    told.await.unwrap();
    assert_eq!(receiver.drain(Duration::from_secs(30)).await, 0);
    assert_eq!((receiver.stats().acknowledged, receiver.stats().failed), (1, 0));
}
