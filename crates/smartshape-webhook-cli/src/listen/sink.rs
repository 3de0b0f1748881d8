//! Where deliveries go: a line on standard output, a record, another endpoint.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use http::HeaderMap;
use smartshape_webhook::{Delivery, Handler, HandlerError};
use tokio::sync::Notify;

use super::forward::Forward;
use super::lines::Lines;
use crate::output::say;

pub(super) struct Sink {
    output: Lines,
    record: Option<Lines>,
    forward: Option<Forward>,
    closed: Arc<Notify>,
    failed: Arc<Notify>,
}

impl Sink {
    pub(super) fn new(
        record: Option<File>,
        forward: Option<Forward>,
        closed: Arc<Notify>,
        failed: Arc<Notify>,
    ) -> io::Result<Self> {
        let record = record.map(|mut file| {
            Lines::start(move |text| {
                let written = file.write_all(text).and_then(|()| file.sync_data());
                written.map_err(|error| io::Error::new(error.kind(), format!("--record: {error}")))
            })
        });
        let output = Lines::start(|text| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text).and_then(|()| stdout.flush())
        })?;
        Ok(Self { output, record: record.transpose()?, forward, closed, failed })
    }

    async fn write(&self, delivery: &Delivery) -> io::Result<()> {
        let line = delivery.to_json_line();
        if let Some(record) = &self.record {
            record.write(line.clone()).await?;
        }
        self.output.write(line).await
    }
}

/// One request's way to the sink.
pub(super) struct Arrival {
    pub(super) sink: Arc<Sink>,
    pub(super) headers: HeaderMap,
}

impl Handler for Arrival {
    /// Acknowledged once the line was flushed, and the record synced.
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let sink = &self.sink;
        if let Err(error) = sink.write(&delivery).await {
            if error.kind() == ErrorKind::BrokenPipe {
                sink.closed.notify_one();
            } else {
                say(format_args!("cannot write an event, which SmartShape is told to send again: {error}"));
                sink.failed.notify_one();
            }
            return Err(error.into());
        }
        if let Some(forward) = &sink.forward {
            forward.push(&delivery, &self.headers);
        }
        Ok(())
    }
}
