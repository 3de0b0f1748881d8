//! Times, numbers, and texts from outside.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

/// How long ago a time is, with the time itself as a title.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let passed = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    // A list has no room for the minutes beside the hours.
    let hours = passed.as_secs() / 3600;
    let passed = if (1..24).contains(&hours) { format!("{hours} h") } else { duration(passed) };
    html! { time datetime=(at) title=(at) { (passed) " ago" } }
}

pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() > 0 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86400),
    }
}

/// The time of day in UTC, with the date unless that is today.
pub(super) fn clock(at: Timestamp) -> Markup {
    let is_today = at.strftime("%F").to_string() == Timestamp::now().strftime("%F").to_string();
    let shown = at.strftime(if is_today { "%H:%M:%S%.3f" } else { "%F %H:%M:%S" });
    html! { time datetime=(at) title=(at) { (shown) } }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{size:.1} {unit}") }
}

/// With narrow spaces between thousands.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

pub(super) fn plural(count: u64, one: &str, more: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { more })
}

/// A text from outside: characters that cannot be seen, or that turn the direction of writing, are shown as escapes.
pub(super) fn visible(text: &str) -> Markup {
    let mut parts: Vec<(bool, String)> = Vec::new();
    for character in text.chars() {
        let hidden = is_hidden(character);
        let shown = if hidden { format!("\\u{:04x}", u32::from(character)) } else { character.to_string() };
        match parts.last_mut() {
            Some((other, part)) if *other == hidden => part.push_str(&shown),
            _ => parts.push((hidden, shown)),
        }
    }
    html! { @for (hidden, part) in &parts { @if *hidden { mark { (part) } } @else { (part) } } }
}

/// Whether a text has characters that [`visible`] shows as escapes, tabs apart. A carriage return is one: HTML, and
/// Rust in its literals, turn it into a line feed.
pub(super) fn has_hidden(text: &str) -> bool {
    text.chars().any(|character| is_hidden(character) && character != '\t')
}

fn is_hidden(character: char) -> bool {
    let format = matches!(character, '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}');
    format || character.is_control() && character != '\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shows_hidden_characters_and_escapes_markup() {
        assert_eq!(visible("<b>\"a\" & 'b'</b>").into_string(), "&lt;b&gt;&quot;a&quot; &amp; 'b'&lt;/b&gt;");
        for hidden in ['\u{202e}', '\u{200b}', '\u{feff}', '\u{e0041}', '\0', '\u{1b}', '\u{85}', '\u{2066}']
        {
            let shown = visible(&format!("a{hidden}b")).into_string();
            assert_eq!(shown, format!("a<mark>\\u{:04x}</mark>b", u32::from(hidden)));
            assert!(has_hidden(&format!("a{hidden}b")));
        }
        assert!(has_hidden("a\r\n") && !has_hidden("a\t\n é"));
    }

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands).join(","),
            "0,999,1\u{202f}000,1\u{202f}234\u{202f}567"
        );
        assert_eq!([1023, 1024, 1 << 30].map(bytes), ["1023 B", "1.0 KiB", "1.0 GiB"]);
        let durations = [0, 59, 60, 3661, 90_000].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(durations, ["0 s", "59 s", "1 min", "1 h 1 min", "1 d"]);
        assert_eq!(duration(Duration::from_millis(7)), "7 ms");
        let long_ago = Timestamp::UNIX_EPOCH;
        let shown =
            |seconds| ago(long_ago, long_ago + jiff::SignedDuration::from_secs(seconds)).into_string();
        assert!(shown(59).ends_with(">59 s ago</time>") && shown(4380).ends_with(">1 h ago</time>"));
        assert!(clock(long_ago).into_string().ends_with(">1970-01-01 00:00:00</time>"), "not today");
    }
}
