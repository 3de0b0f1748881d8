//! Group commit for lines: the lines that arrive while one group is written form the next group.

use std::io;
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// Length in bytes from which on a group takes no further line.
const GROUP: usize = 1024 * 1024;
/// Capacity of the queue. Callers wait while it is full.
const QUEUE_CAPACITY: usize = 1024;

#[derive(Clone)]
pub(super) struct LineWriter(mpsc::Sender<Line>);

struct Line {
    text: String,
    written: oneshot::Sender<io::Result<()>>,
}

impl LineWriter {
    /// Calls `write` with each group, on a thread of its own, so that a slow reader blocks neither the runtime nor the
    /// exit of the process. The receiver resolves when that thread has ended, after the last clone of the writer was
    /// dropped.
    pub(super) fn start(
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let (sender, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let (ended, end) = oneshot::channel();
        let thread = thread::Builder::new().name("lines".to_owned());
        thread.spawn(move || {
            work(waiting, write);
            let _ = ended.send(());
        })?;
        Ok((Self(sender), end))
    }

    /// Returns once `write` has returned for the group of this line.
    pub(super) async fn write(&self, mut line: String) -> io::Result<()> {
        line.push('\n');
        let (written, outcome) = oneshot::channel();
        let gone = |_| io::Error::other("the thread that writes has ended");
        self.0.send(Line { text: line, written }).await.map_err(|_| gone(()))?;
        outcome.await.map_err(|_| gone(()))?
    }
}

fn work(mut waiting: mpsc::Receiver<Line>, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut outcome = Ok(());
    while let Some(Line { mut text, written }) = waiting.blocking_recv() {
        let mut waiting_lines = vec![written];
        while text.len() < GROUP
            && let Ok(next) = waiting.try_recv()
        {
            text.push_str(&next.text);
            waiting_lines.push(next.written);
        }
        // After an error nothing more is written: the output may end in half a line.
        if outcome.is_ok() {
            outcome = write(text.as_bytes());
        }
        for written in waiting_lines {
            let printed = match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            let _ = written.send(printed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn line_writer_groups_waiting_lines() {
        let groups = Arc::new(Mutex::new(Vec::new()));
        let (go, gate) = std::sync::mpsc::channel();
        let kept = Arc::clone(&groups);
        let (lines, _) = LineWriter::start(move |text| {
            gate.recv().map_err(io::Error::other)?;
            kept.lock().unwrap().push(String::from_utf8(text.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        let write = |line: &str| {
            let (lines, line) = (lines.clone(), line.to_owned());
            tokio::spawn(async move { lines.write(line).await })
        };
        let first = write("1");
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        let rest: Vec<_> = ["2", "3", "4"].map(write).into();
        // All are queued, and the thread has taken at most one of them.
        while lines.0.capacity() > QUEUE_CAPACITY - 2 {
            tokio::task::yield_now().await;
        }
        for _ in &rest {
            go.send(()).unwrap();
        }
        for one in rest {
            one.await.unwrap().unwrap();
        }
        let groups = groups.lock().unwrap();
        assert_eq!(groups.concat(), "1\n2\n3\n4\n");
        assert!(groups.len() < 4, "{groups:?}");
    }

    #[tokio::test]
    async fn line_writer_stops_after_an_error() {
        let mut calls = 0;
        let (lines, _) = LineWriter::start(move |_| {
            calls += 1;
            if calls == 1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        })
        .unwrap();
        for line in ["1", "2"] {
            let error = lines.write(line.to_owned()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
