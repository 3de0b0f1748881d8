//! Sending, checking responses and retrying.

use std::time::Duration;

use serde_json::{Value, json};
use smartshape_fake::{
    DeliveryOutcome, EventPayload, Fault, Order, Prefix, Sender, SenderSettings, check_response, sample_text,
};
use smartshape_webhook::{Envelope, EventKind};

use crate::endpoint::{Endpoint, GOOD};

const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn sender(max_attempts: u32) -> Sender {
    Sender::new("a long and random string", SenderSettings { max_attempts, ..SenderSettings::quick() })
}

/// Sends a sample.
async fn deliver(attempts: u32, url: &str) -> DeliveryOutcome {
    sender(attempts).deliver(&EventPayload::sample(EventKind::FileUploaded), url).await
}

#[tokio::test]
async fn deliveries_have_smartshapes_form() {
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    let event = EventPayload::sample(EventKind::FileUploaded);
    let outcome = sender(1).deliver(&event, &endpoint.url).await;
    assert!(outcome.accepted(), "{outcome}");
    let request = &endpoint.requests()[0];
    assert!(request.starts_with("POST /callback HTTP/1.1\r\n"), "{request}");
    for header in ["content-type: application/json\r\n", "x-smartshape-fake: 1\r\n"] {
        assert!(request.contains(header), "{request}");
    }
    assert!(bcrypt::verify("a long and random string", &endpoint.tokens()[0]).unwrap());
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.as_bytes(), event.to_body());
    assert_eq!(Envelope::parse(body.as_bytes()).unwrap().uuid(), outcome.uuid);
}

#[test]
fn faults_are_reported_by_rule() {
    let (json, success) = (Some("application/json"), r#"{"success": true}"#);
    for (status, content_type, body, fault) in [
        (503, json, success, Fault::Status(503)),
        (202, json, success, Fault::Status(202)),
        (200, Some("text/plain"), success, Fault::ContentType(Some("text/plain".to_owned()))),
        (200, json, r#"{"success": false}"#, Fault::SuccessNotTrue),
        (200, json, "{}", Fault::SuccessMissing),
        (200, json, "ok", Fault::NotJson),
    ] {
        assert_eq!(check_response(status, content_type, body.as_bytes()), [fault]);
    }
}

#[tokio::test]
async fn failed_attempts_report_the_fault() {
    let endpoint = Endpoint::responding_with(&[BUSY, ""]).await;
    let attempts = deliver(2, &endpoint.url).await.attempts;
    assert_eq!(attempts[0].faults[0], Fault::Status(503));
    assert!(matches!(attempts[1].faults[..], [Fault::Connection(_)]), "{attempts:?}");
}

#[test]
fn costly_token_does_not_hold_up_the_end_of_the_runtime() {
    let (dropped, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // This cost takes days.
        let settings = SenderSettings { cost: 31, ..SenderSettings::quick() };
        let sender = Sender::new("a long and random string", settings);
        let event = EventPayload::sample(EventKind::FileUploaded);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let delivery = sender.deliver(&event, "http://127.0.0.1:1/");
            tokio::time::timeout(Duration::from_millis(200), delivery).await.unwrap_err();
        });
        drop(runtime);
        dropped.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[tokio::test]
async fn silent_endpoint_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let limit = Duration::from_millis(50);
    let settings = SenderSettings { timeout: limit, max_attempts: 1, ..SenderSettings::quick() };
    let outcome = Sender::new("secret of the test", settings)
        .deliver(&EventPayload::sample(EventKind::FileUploaded), &url)
        .await;
    assert_eq!(outcome.attempts[0].faults, [Fault::TimedOut(limit)]);
}

#[tokio::test]
async fn retries_repeat_body_and_token() {
    let endpoint = Endpoint::responding_with(&[BUSY, "", GOOD]).await;
    let sender = sender(5);
    let outcome = sender.deliver(&EventPayload::sample(EventKind::AnnotationCreated), &endpoint.url).await;
    assert!(outcome.accepted(), "{outcome}");
    let requests = endpoint.requests();
    assert_eq!((requests.len(), outcome.attempts.len()), (3, 3));
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert_eq!(sender.log().len(), 1);
}

#[tokio::test]
async fn attempts_end_at_the_maximum() {
    let endpoint = Endpoint::responding_with(&[BUSY]).await;
    let outcome = deliver(3, &endpoint.url).await;
    assert_eq!((outcome.accepted(), endpoint.requests().len()), (false, 3));
}

#[tokio::test]
async fn tokens_have_the_configured_salt_and_prefix() {
    for (fresh_salt, distinct) in [(false, 1), (true, 3)] {
        let endpoint = Endpoint::responding_with(&[GOOD]).await;
        let settings = SenderSettings { fresh_salt, prefix: Prefix::TwoY, ..SenderSettings::quick() };
        let sender = Sender::new("secret of the test", settings);
        for _ in 0..3 {
            sender.deliver(&EventPayload::sample(EventKind::FileUploaded), &endpoint.url).await;
        }
        let mut tokens = endpoint.tokens();
        assert!(tokens.iter().all(|token| token.starts_with("$2y$04$")), "{tokens:?}");
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), distinct);
    }
}

#[tokio::test]
async fn copies_are_sent_and_orders_are_kept() {
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    let events = [EventKind::FileUploaded, EventKind::FileOptimized].map(EventPayload::sample);
    let outcomes = sender(1).deliver_copies(&events[0], &endpoint.url, 4).await;
    assert!(outcomes.len() == 4 && outcomes.iter().all(|one| one.accepted() && one.uuid == events[0].uuid()));
    let outcomes = sender(1).deliver_all(&events, &endpoint.url, Order::Reversed, Duration::ZERO).await;
    assert_eq!(
        outcomes.iter().map(|one| one.event.as_str()).collect::<Vec<_>>(),
        ["file_optimized", "file_uploaded"]
    );
    let outcomes = sender(1).deliver_all(&events, &endpoint.url, Order::Shuffled, Duration::ZERO).await;
    assert_eq!(outcomes.len(), 2);
}

#[tokio::test]
async fn remote_urls_are_rejected_by_default() {
    for url in ["http://192.0.2.1/", "https://127.0.0.1/", "ftp://127.0.0.1/", "nonsense", "/callback"] {
        let outcome = deliver(5, url).await;
        assert!(matches!(outcome.attempts[..], [_]), "{url}: tried once");
        assert!(matches!(outcome.attempts[0].faults[..], [Fault::NotSent(_)]), "{url}: {outcome}");
    }
    let bad_cost = SenderSettings { cost: 3, ..SenderSettings::quick() };
    let outcome = Sender::new("s", bad_cost)
        .deliver(&EventPayload::sample(EventKind::FileUploaded), "http://127.0.0.1:1/")
        .await;
    assert!(matches!(outcome.attempts[0].faults[..], [Fault::NotSent(_)]), "{outcome}");
}

#[test]
fn payloads_start_from_the_samples() {
    for kind in EventKind::ALL {
        let exact = EventPayload::exact_sample(kind);
        assert_eq!(exact.to_body(), sample_text(kind));
        let mut fresh: Value = serde_json::from_slice(&EventPayload::sample(kind).to_body()).unwrap();
        let mut sample: Value = serde_json::from_str(sample_text(kind)).unwrap();
        assert_ne!(fresh["uuid"], sample["uuid"]);
        for value in [&mut fresh, &mut sample] {
            value["uuid"] = json!(null);
            value["runTimestamp"] = json!(null);
        }
        assert_eq!(fresh, sample);
    }
    let changed = EventPayload::sample(EventKind::FileUploaded).with_raw_data("{\"size\": 1e2}").unwrap();
    let changed = changed.with_file("f \"quoted\"").with_owner("Zoé");
    let body = changed.to_body();
    let envelope = Envelope::parse(&body).unwrap();
    assert_eq!((envelope.file(), envelope.data()), ("f \"quoted\"", "{\"size\": 1e2}"));
    assert!(EventPayload::sample(EventKind::FileUploaded).with_raw_data("{").is_err());
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", sender(1)).contains("random"));
}

#[tokio::test]
async fn passwords_in_urls_are_neither_sent_nor_shown() {
    let endpoint = Endpoint::responding_with(&[GOOD]).await;
    for scheme in ["http", "https"] {
        let url = endpoint.url.replace("http://", &format!("{scheme}://ada:hunter2@"));
        let outcome = deliver(5, &url).await;
        assert!(matches!(outcome.attempts[0].faults[..], [Fault::NotSent(_)]), "{outcome}");
        assert!(!outcome.to_string().contains("hunter2"), "{outcome}");
    }
    assert!(endpoint.requests().is_empty());
}

#[tokio::test]
async fn log_keeps_the_start_of_long_bodies() {
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 50016\r\n\r\n{{\"success\":true}}{}",
        " ".repeat(50_000)
    );
    let endpoint = Endpoint::responding_with(vec![&*response.leak()].leak()).await;
    let outcome = deliver(1, &endpoint.url).await;
    assert!(outcome.accepted(), "checked against the whole body: {outcome}");
    assert_eq!(outcome.attempts[0].body.len(), 1024);
}
