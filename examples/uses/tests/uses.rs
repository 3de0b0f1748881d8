//! The uses, run against the fake sender.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::ffi::OsStr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use smartshape_fake::{DeliveryOutcome, EventPayload, Sender, SenderSettings};
use smartshape_webhook_tower::EventKind;
use sqlx::sqlite::SqlitePool;
use test_process::{Server, configure, show};

const SECRET: &str = "the secret of all the uses";

fn start(program: &str, setting: (&str, impl AsRef<OsStr>)) -> Server {
    start_command(&mut Command::new(program), setting)
}

fn start_command(command: &mut Command, (name, value): (&str, impl AsRef<OsStr>)) -> Server {
    Server::start(configure(command, SECRET).env(name, value), show).unwrap()
}

async fn deliver(server: &Server, event: &EventPayload) {
    let outcome = send(server, event, SenderSettings::quick()).await;
    assert!(outcome.accepted(), "{outcome}");
}

async fn send(server: &Server, event: &EventPayload, settings: SenderSettings) -> DeliveryOutcome {
    Sender::new(SECRET, settings).deliver(event, &format!("http://{}/callback", server.address)).await
}

fn update() -> EventPayload {
    let data = json!({"user": {"email": "a@example.com"}, "nodeIdToAttributes": {"n1": {"mass": 1.5}, "n2": {"mass": 2}}});
    EventPayload::sample(EventKind::AttributeUpdated).with_data(data)
}

#[tokio::test]
async fn database_is_updated_once_for_each_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parts.db");
    let event = update();
    for _ in 0..2 {
        // A new process remembers no delivery by itself.
        let database = start(env!("CARGO_BIN_EXE_database"), ("DATABASE", &path));
        deliver(&database, &event).await;
    }
    let pool = SqlitePool::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT node, value, updates FROM attributes ORDER BY node")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(rows, [("n1".to_owned(), "1.5".to_owned(), 1), ("n2".to_owned(), "2".to_owned(), 1)]);
}

#[tokio::test]
async fn computation_prints_its_result() {
    let computation = start(env!("CARGO_BIN_EXE_computation"), ("RUST_LOG", "warn"));
    deliver(&computation, &EventPayload::sample(EventKind::FileUploaded)).await;
    deliver(&computation, &update()).await;
    assert_eq!(computation.next_line().unwrap(), "total mass: 3.5");
}

#[tokio::test]
async fn notification_has_the_delivery_key() {
    let notified: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let seen = Arc::clone(&notified);
    let chat = move |headers: HeaderMap, body: String| async move {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        seen.lock().unwrap().push((key, serde_json::from_str(&body).unwrap()));
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(chat))).await });

    let notifications = start(env!("CARGO_BIN_EXE_notifications"), ("NOTIFY_URL", &url));
    deliver(&notifications, &EventPayload::sample(EventKind::AnnotationRemoved)).await;
    deliver(&notifications, &EventPayload::sample(EventKind::AnnotationCreated)).await;
    let notified = notified.lock().unwrap().clone();
    assert_eq!(notified.len(), 1);
    assert!(!notified[0].0.is_empty());
    assert!(notified[0].1["text"].as_str().unwrap().ends_with(": test1"), "{notified:?}");
}

#[tokio::test]
async fn notification_fails_if_the_chat_is_silent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let notifications = start(env!("CARGO_BIN_EXE_notifications"), ("NOTIFY_URL", &url));
    let settings =
        SenderSettings { max_attempts: 1, timeout: Duration::from_secs(30), ..SenderSettings::quick() };
    let event = EventPayload::sample(EventKind::AnnotationCreated);
    let outcome = send(&notifications, &event, settings).await;
    assert_eq!(outcome.attempts[0].status, Some(500), "{outcome}");
}

#[tokio::test]
async fn activity_log_has_a_line_for_each_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("activity.jsonl");
    let log = start(env!("CARGO_BIN_EXE_activity_log"), ("ACTIVITY_LOG", &path));
    for kind in EventKind::ALL {
        tokio::time::timeout(Duration::from_secs(30), deliver(&log, &EventPayload::sample(kind)))
            .await
            .unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect();
    assert_eq!(events, EventKind::ALL.map(|kind| json!(kind.as_str())));
}

/// The log has a limited length, as if its disk were full, until it is emptied.
#[tokio::test]
async fn activity_log_goes_on_after_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("activity.jsonl");
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\"", env!("CARGO_BIN_EXE_activity_log")]);
    let log = start_command(&mut limited, ("ACTIVITY_LOG", &path));
    let once = SenderSettings { max_attempts: 1, ..SenderSettings::quick() };
    let mut accepted = 0;
    let lost = loop {
        let event = EventPayload::sample(EventKind::FileUploaded);
        if !send(&log, &event, once.clone()).await.accepted() {
            break event;
        }
        accepted += 1;
        assert!(accepted < 1000, "the disk is not full");
    };
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(!before.ends_with('\n'), "half a line was written");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    deliver(&log, &lost).await;
    deliver(&log, &EventPayload::sample(EventKind::FileUploaded)).await;
    let text = before + &std::fs::read_to_string(&path).unwrap();
    assert_eq!(entries(&text), accepted + 2, "{text}");
}

#[tokio::test]
async fn activity_log_goes_on_after_half_a_line_of_a_former_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("activity.jsonl");
    for (before, expected) in [("", 1), ("{}\n", 2), ("{\"half", 1)] {
        std::fs::write(&path, before).unwrap();
        let log = start(env!("CARGO_BIN_EXE_activity_log"), ("ACTIVITY_LOG", &path));
        deliver(&log, &EventPayload::sample(EventKind::FileUploaded)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(entries(&text), expected, "{text}");
    }
}

/// Number of whole lines.
fn entries(text: &str) -> usize {
    text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count()
}
