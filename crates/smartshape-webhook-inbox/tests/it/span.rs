//! A worker under the subscriber that most programs have.
use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::Inbox;
use smartshape_webhook::{Delivery, Handler as _};
use sqlx::{Connection as _, SqliteConnection};
use tracing::subscriber::DefaultGuard;

use crate::it::fixture::{Folder, all_settled, delivery};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Records what this thread logs while the guard lives.
    fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// On one thread, since the subscriber is this thread's.
#[tokio::test]
async fn handler_logs_within_delivery_and_attempt_spans() {
    let (log, _mine) = Log::listen();

    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let worker = inbox.worker(|_: Delivery| async {
        tracing::info!("at work");
        Ok(())
    });
    let worker = worker.spawn();
    all_settled(&inbox).await;
    worker.shutdown().await.unwrap();

    let log = log.text();
    let line = log.lines().find(|line| line.contains("at work")).unwrap();
    for part in ["webhook{", "uuid=uuid-1", ":attempt{number=1}"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// The warning about a growing write-ahead log names the cause, a reader's open transaction.
#[tokio::test]
async fn growing_wal_is_logged_with_cause() {
    let (log, _mine) = Log::listen();
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    assert!(inbox.handle(delivery(0)).await.is_ok());
    let mut reader = SqliteConnection::connect(&folder.inbox()).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM events").execute(&mut reader).await.unwrap();
    let filler = "z".repeat(2 << 20);
    for number in 0..20 {
        let body = format!(
            r#"{{"file":"f","event":"file_uploaded","data":"{filler}","owner":"o","runTimestamp":1,"uuid":"{number}"}}"#
        );
        assert!(inbox.handle(Delivery::for_test(body).unwrap()).await.is_ok());
        inbox.stats().await.unwrap();
    }
    let log = log.text();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("a reader keeps a transaction open")).collect();
    assert!(lines.len() == 1 && lines[0].contains("inbox.db-wal"), "{log}");
}
