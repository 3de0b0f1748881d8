//! A worker under the subscriber that most programs have.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _};
use tracing::subscriber::DefaultGuard;

use crate::Inbox;
use crate::it::fixture::{Fixture as _, Folder, file_inbox, long_delivery, poll_until, succeed};

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
    let (_folder, inbox) = file_inbox().await;
    let handle = async |number| {
        inbox.store([number]).await;
        let worker = inbox.worker(|_: Delivery| async {
            tracing::info!("at work");
            Ok(())
        });
        inbox.drain_by(worker).await;
    };
    // Registers the spans: one that another thread registers while a subscriber is set may miss it.
    handle(0).await;
    let (log, _mine) = Log::listen();
    handle(1).await;

    let log = log.text();
    let line = log.lines().find(|line| line.contains("at work")).unwrap();
    for part in ["webhook{", "uuid=uuid-1", ":attempt{number=1}"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// `let _ = worker.spawn()` compiles without a warning, and no handler is ever called.
#[tokio::test]
async fn dropped_handle_is_logged() {
    let (log, _mine) = Log::listen();
    let (_folder, inbox) = file_inbox().await;
    let spawn = || inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    spawn().shutdown().await.unwrap();
    assert!(!log.text().contains("handle was dropped"), "{}", log.text());
    drop(spawn());
    poll_until(async || log.text().contains("handle was dropped")).await;
}

/// Otherwise a program that keeps the handle and does not wait for it stores events that nobody handles, without a
/// word.
#[tokio::test]
async fn worker_that_stops_by_itself_is_logged() {
    let (log, _mine) = Log::listen();
    let (folder, inbox) = file_inbox().await;
    let builder = Inbox::builder(&folder.url()).worker_lock_timeout(Duration::ZERO);
    let second = builder.open().await.unwrap();
    let worker = inbox.worker(succeed).spawn();
    poll_until(async || !inbox.workers().await.unwrap().is_empty()).await;
    let _idle = second.worker(succeed).spawn();
    poll_until(async || log.text().contains("a worker has stopped")).await;
    worker.shutdown().await.unwrap();
}

/// The warning about a growing write-ahead log names the cause, a reader's open transaction.
#[tokio::test]
async fn growing_wal_is_logged_with_cause() {
    let (log, _mine) = Log::listen();
    let (folder, inbox) = file_inbox().await;
    inbox.store([0]).await;
    let mut reader = folder.connect().await;
    Folder::run(&mut reader, "BEGIN; SELECT * FROM events").await;
    for number in 1..=20 {
        inbox.handle(long_delivery(number, 2 << 20)).await.unwrap();
        inbox.stats().await.unwrap();
    }
    let log = log.text();
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("a reader keeps a transaction open")).collect();
    assert!(lines.len() == 1 && lines[0].contains("inbox.db-wal"), "{log}");
}
