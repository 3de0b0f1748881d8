//! What is written, and where: results to standard output, words for people to standard error.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use smartshape_webhook::escape_for_log;

use crate::failure::{Failure, Outcome};

/// A line of the result.
pub(crate) fn line(text: impl Display) -> Outcome {
    clear_progress();
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| Failure::of_stdout(&error))
}

/// A result for programs: one line of JSON.
pub(crate) fn json(value: &Value) -> Outcome {
    line(json_shown(value.to_string()))
}

/// With `--json`, standard error is lines of JSON too.
static JSON: AtomicBool = AtomicBool::new(false);

pub(crate) fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// A line for a person who looks on.
pub(crate) fn say(text: impl Display) {
    let text = if JSON.load(Ordering::Relaxed) {
        json_shown(json!({"message": text.to_string()}).to_string())
    } else {
        format!("smartshape: {text}")
    };
    to_stderr(&text);
}

/// Why the program ends with this exit code.
pub(crate) fn say_error(text: &str, code: u8) {
    if JSON.load(Ordering::Relaxed) {
        to_stderr(&json_shown(json!({"error": text, "exit_code": code}).to_string()));
    } else {
        say(text);
    }
}

fn to_stderr(line: &str) {
    clear_progress();
    // Nobody reads: nothing to be done about it.
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Whether a person looks at what is said, and not a program.
pub(crate) fn is_looked_at() -> bool {
    !JSON.load(Ordering::Relaxed) && std::io::stderr().is_terminal()
}

/// Good, on a terminal that shows colours; elsewhere they are left out, and where NO_COLOR says so.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

pub(crate) fn coloured(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// What takes long, for whoever looks on.
struct Progress {
    what: String,
    /// The time of the last line: nothing is shown while others tell how it goes.
    quiet_since: Instant,
    is_shown: bool,
}

static PROGRESS: Mutex<Option<Progress>> = Mutex::new(None);

fn progress() -> MutexGuard<'static, Option<Progress>> {
    PROGRESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what begins now; it is shown if it takes longer than a second.
pub(crate) fn doing(what: impl Display) {
    if is_looked_at() {
        clear_progress();
        *progress() = Some(Progress { what: what.to_string(), quiet_since: Instant::now(), is_shown: false });
    }
}

/// It has ended.
pub(crate) fn done() {
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

/// Does the work, and shows what is done while it takes long.
pub(crate) async fn showing_progress<T>(work: impl Future<Output = T>) -> T {
    const SECOND: Duration = Duration::from_secs(1);
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(outcome) = tokio::time::timeout(SECOND, &mut work).await {
            done();
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

/// A table for people. Nothing but its head is shown when there are no rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Outcome {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(&rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    line(text.trim_end())
}

/// A text of somebody else's, which must not move a terminal's cursor, nor hide or turn round what it shows.
pub(crate) fn shown(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, character| {
        if is_printable(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
        shown
    })
}

/// The same JSON with nothing in it that `shown` would not show, but for white space between its parts: programs read
/// it, but people look on.
pub(crate) fn json_shown(json: String) -> String {
    let stays = |character| is_printable(character) || matches!(character, '\n' | '\r' | '\t');
    if json.chars().all(stays) { json } else { json_escaped(&json, stays) }
}

/// The same JSON, with escapes in its strings for all but what `stays`, which has to hold escape_for_log ASCII.
pub(crate) fn json_escaped(json: &str, stays: impl Fn(char) -> bool) -> String {
    let mut units = [0; 2];
    json.chars().fold(String::new(), |mut escaped, character| {
        if stays(character) {
            escaped.push(character);
        } else {
            let units = character.encode_utf16(&mut units);
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
        escaped
    })
}

/// Whether the receiver's log shows it as it is; and the backslash, which may be an escape's already.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    escape_for_log(character.encode_utf8(&mut [0; 4])).to_string().starts_with(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Controls, and what turns text round, parts it or cannot be seen.
    const UNPRINTABLE: &str =
        "\n\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200e}\u{2028}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0001}";

    #[test]
    fn what_cannot_be_printed_is_escaped_and_nothing_else() {
        let text = r#"C:\"é'“”日本😀"#;
        assert_eq!(shown(text), text);
        for character in UNPRINTABLE.chars() {
            assert_eq!(shown(&character.to_string()), character.escape_default().to_string());
        }
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = json!({UNPRINTABLE: ["é😀", UNPRINTABLE, 1.5, null], "a\\": "\""});
        let text = json_shown(document.to_string());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
        assert!(
            text.contains("é😀") && !text.contains(|character| UNPRINTABLE.contains(character)),
            "{text}"
        );
        assert!(text.contains(r"\u009b") && text.contains(r"\udb40\udc01"), "{text}");
    }
}
