//! Where deliveries go: a line on standard output, a record, another endpoint.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use smartshape_fake::judge;
use smartshape_webhook::{Delivery, Handler, HandlerError};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

use crate::output::{say, shown};
use crate::send;

/// How many events may wait for the endpoint that they are forwarded to.
const WAITING: usize = 1000;
const FORWARD_LIMIT: Duration = Duration::from_secs(30);
/// How long what waits is still forwarded at the end.
const GRACE: Duration = Duration::from_secs(10);

pub(super) struct Sink {
    /// One at a time, in the order of arrival: a reader that is slow takes one thread and not all.
    turn: Arc<Mutex<()>>,
    record: Option<Arc<File>>,
    forward: Option<mpsc::Sender<Bytes>>,
    closed: Arc<Notify>,
    failed: Arc<Notify>,
}

impl Sink {
    pub(super) fn new(
        record: Option<File>,
        forward: Option<mpsc::Sender<Bytes>>,
        closed: Arc<Notify>,
        failed: Arc<Notify>,
    ) -> Self {
        Self { turn: Arc::default(), record: record.map(Arc::new), forward, closed, failed }
    }
}

impl Handler for Sink {
    /// Acknowledged once the line was flushed, and the record synced.
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let turn = self.turn.lock().await;
        let mut line = delivery.to_json_line();
        line.push('\n');
        let record = self.record.clone();
        let written = tokio::task::spawn_blocking(move || {
            if let Some(mut record) = record.as_deref() {
                let recorded = record.write_all(line.as_bytes()).and_then(|()| record.sync_data());
                recorded.map_err(|error| io::Error::new(error.kind(), format!("--record: {error}")))?;
            }
            let mut stdout = io::stdout().lock();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
        });
        let written = written.await?;
        drop(turn);
        if let Err(error) = written {
            if error.kind() == ErrorKind::BrokenPipe {
                self.closed.notify_one();
            } else {
                say(format_args!("cannot write an event, which SmartShape is told to send again: {error}"));
                self.failed.notify_one();
            }
            return Err(error.into());
        }
        if let Some(forward) = &self.forward
            && forward.try_send(delivery.raw().clone()).is_err()
        {
            let uuid = shown(delivery.uuid());
            say(format_args!("not forwarded: {uuid}: {WAITING} events wait for that endpoint already"));
        }
        Ok(())
    }
}

/// Forwards one after the other.
pub(super) struct Forwarder(JoinHandle<()>);

impl Forwarder {
    pub(super) fn start(url: Uri, token: String) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let task = tokio::spawn(async move {
            while let Some(body) = waiting.recv().await {
                let faults = match send::post(&url, Some(&token), body, FORWARD_LIMIT).await {
                    Ok(answer) => judge(answer.status, answer.content_type.as_deref(), &answer.body),
                    Err(fault) => vec![fault],
                };
                for fault in faults {
                    say(format_args!(
                        "forwarded, but SmartShape would not accept it: {}",
                        shown(&fault.to_string())
                    ));
                }
            }
        });
        (sender, Self(task))
    }

    /// Waits for what is still to be sent, once all senders are gone.
    pub(super) async fn finish(self) {
        let abort = self.0.abort_handle();
        if tokio::time::timeout(GRACE, self.0).await.is_err() {
            abort.abort();
            say("not all events could be forwarded in time");
        }
    }
}
