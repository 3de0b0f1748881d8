//! Handles deliveries: prints a line on standard output, and forwards.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use smartshape_webhook::{Delivery, Handler, HandlerError};
use smartshape_webhook_ui::ForwardOutcome;
use tokio::sync::Notify;

use super::forward::Forward;
use super::line_writer::LineWriter;
use crate::escape::{escape, escape_unprintable_json};
use crate::output::print_notice;

pub(super) struct Sink {
    output: LineWriter,
    /// Number of deliveries that are still to fail.
    fail_first: AtomicU32,
    forward: Option<Forward>,
    failures: OutputFailures,
}

/// Notifications of failed writes, which end the listener.
#[derive(Clone, Default)]
pub(super) struct OutputFailures {
    /// The reader of standard output has closed the pipe.
    pub(super) closed: Arc<Notify>,
    /// A write failed for another reason, which has been printed.
    pub(super) failed: Arc<Notify>,
}

impl OutputFailures {
    /// Ends the listener because of a failed write. Prints the error unless the pipe was closed.
    pub(super) fn report(&self, error: &io::Error) {
        if error.kind() == ErrorKind::BrokenPipe {
            self.closed.notify_one();
        } else {
            print_notice(format_args!(
                "cannot write an event, which SmartShape is told to send again: {error}"
            ));
            self.failed.notify_one();
        }
    }
}

impl Sink {
    pub(super) fn new(
        fail_first: u32,
        forward: Option<Forward>,
        failures: OutputFailures,
    ) -> io::Result<Self> {
        let (output, _) = LineWriter::start(|text| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text).and_then(|()| stdout.flush())
        })?;
        Ok(Self { output, fail_first: AtomicU32::new(fail_first), forward, failures })
    }

    fn take_forced_failure(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.fail_first.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// The handler of one request.
pub(super) struct RequestHandler {
    pub(super) sink: Arc<Sink>,
    pub(super) headers: HeaderMap,
    /// Event, file and uuid, once the delivery is parsed.
    pub(super) name: Arc<OnceLock<String>>,
    /// Set once the event was forwarded.
    pub(super) forwarded: ForwardOutcome,
}

impl Handler for RequestHandler {
    /// Succeeds once the line is flushed.
    async fn handle(&self, delivery: Delivery) -> Result<(), HandlerError> {
        let sink = &self.sink;
        let (event, file, uuid) = (delivery.event_name(), delivery.file(), delivery.uuid());
        let _ = self.name.set(format!("{} of {} ({})", escape(event), escape(file.as_str()), escape(uuid)));
        if sink.take_forced_failure() {
            print_notice(format_args!("rejected {}, as --fail-first asks", escape(delivery.uuid())));
            return Err("--fail-first".into());
        }
        if let Err(error) = sink.output.write(escape_unprintable_json(delivery.to_json_line())).await {
            sink.failures.report(&error);
            return Err(error.into());
        }
        if let Some(forward) = &sink.forward {
            forward.push(&delivery, &self.headers, self.forwarded.clone());
        }
        Ok(())
    }
}
