//! Output: results on standard output, notices and progress on standard error.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::escape::{escape, escape_unprintable_json};
use crate::failure::{CliResult, Failure, failed};

/// Prints a line of the result.
pub(crate) fn line(text: impl Display) -> CliResult {
    clear_progress();
    let mut stdout = anstream::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Prints a body: its exact bytes, unless it is for a terminal.
pub(crate) fn body(body: &[u8]) -> CliResult {
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        drop(stdout);
        return line(escape(&String::from_utf8_lossy(body)));
    }
    written(stdout.write_all(body).and_then(|()| stdout.flush()))
}

/// Whether the reader of standard output has gone.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// A closed pipe, as by `head`, is no failure: what a command does, and its exit code, depend on no reader.
fn written(result: std::io::Result<()>) -> CliResult {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            UNREAD.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(failed!("cannot write to standard output: {error}")),
        Ok(()) => Ok(()),
    }
}

/// Whether the reader of standard output has gone, so that a command that only prints may end.
pub(crate) fn is_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// Prints a result as one line of JSON.
pub(crate) fn json(value: &Value) -> CliResult {
    line(escape_unprintable_json(value.to_string()))
}

/// Prints a result: one line of JSON with `--json`, otherwise the text.
pub(crate) fn result(json: &Value, text: impl Display) -> CliResult {
    if JSON.load(Ordering::Relaxed) { self::json(json) } else { line(text) }
}

/// Prints what was done, which the failure says where it cannot be printed.
pub(crate) fn done(json: &Value, text: impl Display) -> CliResult {
    let text = text.to_string();
    result(json, &text).map_err(|failure| failure.and(&text))
}

/// Whether `--json` was given. Standard error is JSON lines too then.
static JSON: AtomicBool = AtomicBool::new(false);

pub(crate) fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Prints a notice on standard error.
pub(crate) fn print_notice(text: impl Display) {
    let text = if JSON.load(Ordering::Relaxed) {
        escape_unprintable_json(json!({"message": text.to_string()}).to_string())
    } else {
        format!("smartshape: {text}")
    };
    to_stderr(&text);
}

/// Prints the failure and its exit code, unless it was printed already.
pub(crate) fn print_failure(failure: &Failure) {
    let Failure { text, code } = failure;
    if text.is_empty() {
        return;
    }
    if JSON.load(Ordering::Relaxed) {
        to_stderr(&escape_unprintable_json(json!({"error": text, "exit_code": code}).to_string()));
    } else {
        print_notice(text);
    }
}

fn to_stderr(line: &str) {
    clear_progress();
    // Standard error may be closed.
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Starts the log on standard error.
pub(crate) fn start_log(levels: Targets) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if JSON.load(Ordering::Relaxed) {
        lines.json().boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry().with(lines).with(levels).init();
}

/// Whether standard error is a terminal, and not read by a program.
pub(crate) fn is_interactive() -> bool {
    !JSON.load(Ordering::Relaxed) && std::io::stderr().is_terminal()
}

/// Styles, dropped if the output is not a terminal or NO_COLOR is set.
pub(crate) const SUCCESS: Style = AnsiColor::Green.on_default();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();

pub(crate) fn styled(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// The operation in progress.
struct Progress {
    what: String,
    /// Time of the last output: progress is shown only after a pause.
    quiet_since: Instant,
    is_shown: bool,
}

static PROGRESS: Mutex<Option<Progress>> = Mutex::new(None);

fn progress() -> MutexGuard<'static, Option<Progress>> {
    PROGRESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts an operation; it is shown if it takes longer than a second.
pub(crate) fn start_progress(what: impl Display) {
    if is_interactive() {
        clear_progress();
        *progress() = Some(Progress { what: what.to_string(), quiet_since: Instant::now(), is_shown: false });
    }
}

/// Ends the operation.
pub(crate) fn end_progress() {
    clear_progress();
    *progress() = None;
}

fn clear_progress() {
    if let Some(progress) = &mut *progress() {
        if progress.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
        (progress.is_shown, progress.quiet_since) = (false, Instant::now());
    }
}

/// Runs the work, and shows operations that take long.
pub(crate) async fn with_progress<T>(work: impl Future<Output = T>) -> T {
    const SECOND: Duration = Duration::from_secs(1);
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(outcome) = tokio::time::timeout(SECOND, &mut work).await {
            end_progress();
            return outcome;
        }
        if let Some(progress) = &mut *progress()
            && progress.quiet_since.elapsed() >= SECOND
        {
            let (what, seconds) = (&progress.what, progress.quiet_since.elapsed().as_secs());
            let _ = write!(std::io::stderr(), "\r\x1b[2K{what} ({seconds} s)");
            progress.is_shown = true;
        }
    }
}

/// Prints a table; only its header if there are no rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> CliResult {
    let head = head.iter().map(|&name| name.to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..).map_while(width).collect();
    let line_of = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    line(rows.iter().map(line_of).collect::<Vec<_>>().join("\n"))
}
