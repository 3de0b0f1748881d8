//! The message in an error's body. The manual shows four forms of bodies; unknown ones yield no message.

use serde_json::Value;
use smartshape_webhook::escape_for_log;

use crate::secret::SecretString;

/// Longer texts are truncated.
const MAX_CHARS: usize = 200;

/// Title, detail, code and inner status of the error on one line, as far as present. A field that may hold a secret is
/// redacted.
pub(crate) fn problem(body: &Value, http_status: u16, secrets: &[SecretString]) -> Option<String> {
    let error = body
        .get("errors")
        .and_then(|errors| errors.get(0))
        .or_else(|| body.get("error").filter(|error| !error.is_boolean()))
        .unwrap_or(body);
    if let Some(text) = error.as_str() {
        return Some(for_display(text, secrets)).filter(|text| !text.is_empty());
    }
    let field = |name: &str| {
        let value = error.get(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(redacted(&text, secrets).to_owned()).filter(|_| value.is_string() || value.is_number())
    };
    let mut parts: Vec<String> = Vec::new();
    for name in ["title", "detail", "message"] {
        parts.extend(field(name).filter(|text| !text.is_empty()));
    }
    let mut text = parts.join(": ");
    let status = field("status").filter(|status| *status != http_status.to_string());
    let code = field("code").filter(|code| !parts.contains(code));
    for (name, value) in [("code", code), ("status", status)] {
        if let Some(value) = value {
            let gap = if text.is_empty() { "" } else { " " };
            text += &format!("{gap}({name} {value})");
        }
    }
    Some(escape_and_truncate(&text)).filter(|text| !text.is_empty())
}

/// A text from the server, redacted, escaped and truncated for display.
pub(crate) fn for_display(text: &str, secrets: &[SecretString]) -> String {
    escape_and_truncate(redacted(text, secrets))
}

/// Escapes unprintable characters and truncates to [`MAX_CHARS`].
pub(crate) fn escape_and_truncate(text: &str) -> String {
    escape_for_log(text).max_chars(MAX_CHARS).to_string()
}

/// The text, unless it holds a secret. A text with a backslash is taken to hold one: JSON encoders escape the same
/// secret in different ways, and in nested JSON several times.
fn redacted<'a>(text: &'a str, secrets: &[SecretString]) -> &'a str {
    let is_in_text = |secret: &SecretString| !secret.expose().is_empty() && text.contains(secret.expose());
    if text.contains('\\') || secrets.iter().any(is_in_text) { "[redacted]" } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_error_form_is_parsed() {
        let plain = json!({"status": 401, "title": "Unauthorized", "detail": "log in first", "code": "E1"});
        let expected = Some("Unauthorized: log in first (code E1) (status 401)".to_owned());
        for body in [plain.clone(), json!({"error": plain}), json!({"errors": [plain, {"title": "more"}]})] {
            assert_eq!(problem(&body, 503, &[]), expected, "{body}");
        }
        for (body, text) in [
            (json!({"status": 503, "title": "No"}), Some("No")),
            (json!({"status": "503", "title": "No", "code": "No"}), Some("No")),
            (json!({"error": "in words"}), Some("in words")),
            (json!({"errors": ["in words"]}), Some("in words")),
            (json!({"success": false, "error": true, "message": "no"}), Some("no")),
            (json!({"code": 7}), Some("(code 7)")),
            (json!({"errors": []}), None),
            (json!({"error": {"title": {"not": "a text"}, "detail": null}}), None),
            (json!({}), None),
            (json!([1, 2]), None),
            (json!(null), None),
        ] {
            assert_eq!(problem(&body, 503, &[]).as_deref(), text, "{body}");
        }
    }

    #[test]
    fn fields_that_hold_a_secret_are_redacted() {
        let encoded = |text: &str| json!(text).to_string();
        let secrets = ["", "hunter2", "MY\"SECRET", "a/é"].map(SecretString::new);
        for spelling in [
            "no hunter2\nhere".to_owned(),
            "no a/é".to_owned(),
            r"no a\/é, a/\u00e9 or a/\u00E9".to_owned(),
            encoded("MY\"SECRET"),
            encoded(&encoded("MY\"SECRET")),
            json!({"secretToken": "hunter2"}).to_string(),
        ] {
            let error = json!({"title": "No", "detail": spelling});
            let shown = problem(&error, 400, &secrets);
            assert_eq!(shown.as_deref(), Some("No: [redacted]"), "{spelling}");
            assert_eq!(problem(&json!(spelling), 400, &secrets).as_deref(), Some("[redacted]"), "{spelling}");
        }
        let long =
            problem(&json!({"title": "two\nlines", "detail": "x".repeat(500)}), 400, &secrets).unwrap();
        assert!(long.starts_with("two\\nlines: xxx") && long.len() < 250, "{long}");
    }
}
