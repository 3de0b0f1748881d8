//! A worker under the subscriber that most programs have.
use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::Inbox;
use smartshape_webhook::{Delivery, Handler as _};
use sqlx::{Connection as _, SqliteConnection};

use crate::it::fixture::{Folder, delivery};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

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
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _mine = tracing::subscriber::set_default(subscriber);

    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let (done, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let worker = inbox.worker(move |_: Delivery| {
        let done = done.clone();
        async move {
            tracing::info!("at work");
            done.send(())?;
            Ok(())
        }
    });
    let worker = worker.spawn();
    tokio::time::timeout(std::time::Duration::from_secs(60), handled.recv()).await.unwrap().unwrap();
    worker.shutdown().await.unwrap();

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("at work")).unwrap();
    for part in ["webhook{", "uuid=uuid-1", ":attempt{number=1}"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// The warning about a growing write-ahead log names the cause, a reader's open transaction.
#[tokio::test]
async fn growing_wal_is_logged_with_cause() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _mine = tracing::subscriber::set_default(subscriber);
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
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("a reader keeps a transaction open")).collect();
    assert!(lines.len() == 1 && lines[0].contains("inbox.db-wal"), "{log}");
}
