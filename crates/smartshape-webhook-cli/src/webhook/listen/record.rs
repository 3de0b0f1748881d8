//! `--record`: writes each delivery with a verified token, retries and rejected ones included. See `recording`.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::Serialize;
use smartshape_webhook::{TOKEN_HEADER, WebhookResponse};
use tokio::sync::oneshot;

use super::line_writer::LineWriter;
use crate::failure::{CliResult, usage};
use crate::files;
use crate::recording::{Entry, EventFields, Fingerprinter, RecordingHeader, TokenFingerprints};

pub(super) struct Recorder {
    lines: LineWriter,
    fingerprinter: Fingerprinter,
    started_at: Instant,
    began_ms: u64,
}

/// A delivery in flight.
pub(super) struct Recorded {
    recorder: Arc<Recorder>,
    received: Instant,
    token: TokenFingerprints,
}

/// The part of a body that the receiver has read.
#[derive(Clone, Default)]
pub(super) struct BodyCopy(Arc<Mutex<Vec<u8>>>);

impl BodyCopy {
    /// Copies the body while it is read.
    pub(super) fn copying(&self, body: Body) -> Body {
        let copied = self.clone();
        Body::new(body.map_frame(move |frame| {
            if let Some(bytes) = frame.data_ref() {
                copied.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            }
            frame
        }))
    }

    /// What was copied so far.
    pub(super) fn take_bytes(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Recorder {
    /// Opens the file and writes the start of the listener. The receiver resolves once all deliveries are written.
    pub(super) async fn start(path: &str) -> CliResult<(Arc<Self>, oneshot::Receiver<()>)> {
        let failed = |error: io::Error| usage!("cannot write --record {path}: {error}");
        // Private, because events hold texts of users.
        let mut file = files::append(Path::new(path)).map_err(failed)?;
        // Nobody could tell the deliveries of two listeners apart. Some file systems have no locks, and those of
        // Windows would keep readers out.
        let is_locked = cfg!(unix) && file.metadata().is_ok_and(|metadata| metadata.is_file());
        if is_locked && let Err(TryLockError::WouldBlock) = file.try_lock() {
            let error = io::Error::other("another listener writes it: name another file");
            return Err(failed(error));
        }
        let (lines, ended) = LineWriter::start(move |text| write(&mut file, text)).map_err(failed)?;
        let began_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let recorder =
            Self { lines, fingerprinter: Fingerprinter::new()?, started_at: Instant::now(), began_ms };
        recorder.append(&RecordingHeader::new(began_ms)).await.map_err(failed)?;
        Ok((Arc::new(recorder), ended))
    }

    /// Starts recording a delivery; `None` without a well-formed token, since the receiver rejects it.
    pub(super) fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Option<Recorded> {
        let token = self.fingerprinter.token(headers.get(TOKEN_HEADER)?.as_bytes())?;
        let (recorder, received) = (Arc::clone(self), Instant::now());
        Some(Recorded { recorder, received, token })
    }

    async fn append(&self, line: &impl Serialize) -> io::Result<()> {
        self.lines.write(serde_json::to_string(line)?).await
    }
}

impl Recorded {
    /// Appends the delivery and syncs. An empty copy means that the receiver read no body, so nothing is recorded.
    pub(super) async fn end(self, response: &WebhookResponse, body: Bytes) -> io::Result<()> {
        if body.is_empty() {
            return Ok(());
        }
        let recorder = &self.recorder;
        let milliseconds =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry {
            received_ms: recorder.began_ms + milliseconds(self.received - recorder.started_at),
            took_ms: milliseconds(self.received.elapsed()),
            status: response.status(),
            rejection: response.rejection().map(|rejection| rejection.kind().name().to_owned()),
            token: self.token,
            event: EventFields::read(body, &recorder.fingerprinter).ok(),
        };
        recorder.append(&entry).await
    }
}

fn write(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    match file.sync_data() {
        // A pipe or a device cannot be synced.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}
