//! The log of every server in this process, searched for what must not be there.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

static STARTED: OnceLock<Vec<String>> = OnceLock::new();
static LEAKED: AtomicBool = AtomicBool::new(false);
static OUTCOMES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LINES: AtomicUsize = AtomicUsize::new(0);

/// From now on, everything that is logged at any level is searched for `hidden`.
pub fn watch_for(hidden: impl FnOnce() -> Vec<String>) {
    STARTED.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Search)
            .init();
        hidden()
    });
}

/// Whether something hidden was logged.
pub fn leaked() -> bool {
    LEAKED.load(Ordering::SeqCst)
}

/// How many lines were logged.
pub fn lines() -> usize {
    LINES.load(Ordering::SeqCst)
}

/// The outcomes of the deliveries of this uuid: each one's level, and the line.
pub fn outcomes(uuid: &str) -> Vec<(String, String)> {
    let uuid = format!("uuid={uuid} ");
    let outcomes = OUTCOMES.lock().unwrap();
    let matching = outcomes.iter().filter(|line| line.contains(&uuid));
    matching
        .map(|line| (line.split_whitespace().nth(1).unwrap_or_default().to_owned(), line.clone()))
        .collect()
}

/// Gets one line at a time, which is what the formatter writes.
#[derive(Debug)]
struct Search;

impl Write for Search {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.fetch_add(1, Ordering::SeqCst);
        let line = String::from_utf8_lossy(bytes);
        if STARTED.get().is_some_and(|hidden| hidden.iter().any(|text| line.contains(text))) {
            LEAKED.store(true, Ordering::SeqCst);
        }
        if line.contains("outcome=") {
            OUTCOMES.lock().unwrap().push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
