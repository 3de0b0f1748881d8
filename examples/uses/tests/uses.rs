//! The uses, run against the fake sender.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use smartshape_fake::{EventPayload, Sender, SenderSettings};
use smartshape_webhook_tower::EventKind;
use sqlx::sqlite::SqlitePool;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const SECRET: &str = "the secret of all the uses";

/// A use as a process, which is killed when dropped.
struct Use {
    child: Child,
    url: String,
}

impl Use {
    async fn start(program: &str, setting: (&str, &str)) -> Self {
        Self::start_command(Command::new(program), setting).await
    }

    async fn start_command(mut command: Command, setting: (&str, &str)) -> Self {
        let mut child = command
            .env("LISTEN", "127.0.0.1:0")
            .env("SMARTSHAPE_WEBHOOK_SECRET", SECRET)
            .env_remove("SMARTSHAPE_WEBHOOK_SECRET_FILE")
            .env(setting.0, setting.1)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        Self { url: format!("{address}/callback"), child }
    }

    async fn receives(&self, event: &EventPayload) {
        let outcome = Sender::new(SECRET, SenderSettings::quick()).deliver(event, &self.url).await;
        assert!(outcome.accepted(), "{outcome}");
    }

    async fn accepts_at_once(&self, event: &EventPayload) -> bool {
        let settings = SenderSettings { max_attempts: 1, ..SenderSettings::quick() };
        Sender::new(SECRET, settings).deliver(event, &self.url).await.accepted()
    }
}

/// A folder that is deleted at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn update() -> EventPayload {
    let data = json!({"user": {"email": "a@example.com"}, "nodeIdToAttributes": {"n1": {"mass": 1.5}, "n2": {"mass": 2}}});
    EventPayload::sample(EventKind::AttributeUpdated).with_data(data)
}

#[tokio::test]
async fn database_is_updated_once_for_each_delivery() {
    let folder = Folder::new("database");
    let path = folder.file("parts.db");
    let event = update();
    for _ in 0..2 {
        // A new process remembers no delivery by itself.
        let database = Use::start(env!("CARGO_BIN_EXE_database"), ("DATABASE", &path)).await;
        database.receives(&event).await;
    }
    let pool = SqlitePool::connect(&format!("sqlite:{path}")).await.unwrap();
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT node, value, updates FROM attributes ORDER BY node")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(rows, [("n1".to_owned(), "1.5".to_owned(), 1), ("n2".to_owned(), "2".to_owned(), 1)]);
}

#[tokio::test]
async fn computation_prints_its_result() {
    let mut computation = Use::start(env!("CARGO_BIN_EXE_computation"), ("RUST_LOG", "warn")).await;
    computation.receives(&EventPayload::sample(EventKind::FileUploaded)).await;
    computation.receives(&update()).await;
    let mut lines = BufReader::new(computation.child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "total mass: 3.5");
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

    let notifications = Use::start(env!("CARGO_BIN_EXE_notifications"), ("NOTIFY_URL", &url)).await;
    notifications.receives(&EventPayload::sample(EventKind::AnnotationRemoved)).await;
    notifications.receives(&EventPayload::sample(EventKind::AnnotationCreated)).await;
    let notified = notified.lock().unwrap().clone();
    assert_eq!(notified.len(), 1);
    assert!(!notified[0].0.is_empty());
    assert!(notified[0].1["text"].as_str().unwrap().ends_with(": test1"), "{notified:?}");
}

#[tokio::test]
async fn notification_fails_if_the_chat_is_silent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let notifications = Use::start(env!("CARGO_BIN_EXE_notifications"), ("NOTIFY_URL", &url)).await;
    let settings =
        SenderSettings { max_attempts: 1, timeout: Duration::from_secs(30), ..SenderSettings::quick() };
    let event = EventPayload::sample(EventKind::AnnotationCreated);
    let outcome = Sender::new(SECRET, settings).deliver(&event, &notifications.url).await;
    assert_eq!(outcome.attempts[0].status, Some(500), "{outcome}");
}

#[tokio::test]
async fn activity_log_has_a_line_for_each_event() {
    let folder = Folder::new("activity_log");
    let path = folder.file("activity.jsonl");
    let log = Use::start(env!("CARGO_BIN_EXE_activity_log"), ("ACTIVITY_LOG", &path)).await;
    for kind in EventKind::ALL {
        tokio::time::timeout(Duration::from_secs(30), log.receives(&EventPayload::sample(kind)))
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
    let folder = Folder::new("full_disk");
    let path = folder.file("activity.jsonl");
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\"", env!("CARGO_BIN_EXE_activity_log")]);
    let log = Use::start_command(limited, ("ACTIVITY_LOG", &path)).await;
    let mut accepted = 0;
    let lost = loop {
        let event = EventPayload::sample(EventKind::FileUploaded);
        if !log.accepts_at_once(&event).await {
            break event;
        }
        accepted += 1;
        assert!(accepted < 1000, "the disk is not full");
    };
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(!before.ends_with('\n'), "half a line was written");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    log.receives(&lost).await;
    log.receives(&EventPayload::sample(EventKind::FileUploaded)).await;
    let text = before + &std::fs::read_to_string(&path).unwrap();
    assert_eq!(entries(&text), accepted + 2, "{text}");
}

#[tokio::test]
async fn activity_log_goes_on_after_half_a_line_of_a_former_process() {
    let folder = Folder::new("half_a_line");
    let path = folder.file("activity.jsonl");
    for (before, expected) in [("", 1), ("{}\n", 2), ("{\"half", 1)] {
        std::fs::write(&path, before).unwrap();
        let log = Use::start(env!("CARGO_BIN_EXE_activity_log"), ("ACTIVITY_LOG", &path)).await;
        log.receives(&EventPayload::sample(EventKind::FileUploaded)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(entries(&text), expected, "{text}");
    }
}

/// Number of whole lines.
fn entries(text: &str) -> usize {
    text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count()
}
