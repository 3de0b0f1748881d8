//! Output that several commands share.

use serde_json::json;
use smartshape_api::{WebhookRecord, redact_url};

use crate::escape::escape;
use crate::failure::CliResult;
use crate::output;

/// Prints a webhook as a line of the result. `what` is what was done with it, such as `created`.
pub(crate) fn print_webhook(what: &str, webhook: &WebhookRecord) -> CliResult {
    let WebhookRecord { id, event, url, .. } = webhook;
    output::done(
        &json!({what: webhook}),
        format_args!("{what} {}: {event} at {}", escape(id), escape(&redact_url(url))),
    )
}

/// The command that deletes a webhook, to be copied to a shell: the server chose the id, which is one word there
/// whatever it holds.
pub(crate) fn delete_command(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let word = if !id.is_empty() && id.bytes().all(is_plain) {
        id.to_owned()
    } else {
        format!("'{}'", escape(id).replace('\'', r"'\''"))
    };
    let no_option = if id.starts_with('-') { "-- " } else { "" };
    format!("smartshape webhook delete {no_option}{word}")
}

/// Prints the id of a deleted webhook as a line of the result.
pub(crate) fn print_deleted(id: &str) -> CliResult {
    output::done(&json!({"deleted": id}), format_args!("deleted {}", escape(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delete_command_quotes_the_id() {
        for (id, word) in [
            ("5c6f_d-E", "5c6f_d-E"),
            ("5c6f$(touch PWNED)", "'5c6f$(touch PWNED)'"),
            ("a'b;`c`", r"'a'\''b;`c`'"),
            ("~", "'~'"),
            ("two\nlines", r"'two\nlines'"),
            ("", "''"),
            ("--help", "-- --help"),
            ("-a b", "-- '-a b'"),
        ] {
            assert_eq!(delete_command(id), format!("smartshape webhook delete {word}"));
        }
    }
}
