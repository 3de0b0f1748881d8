//! The message in an error's body. The manual shows four forms of bodies; unknown ones yield no message.

use serde_json::Value;

use crate::escape::escape_and_truncate;
use crate::redact::redacted;
use crate::secret::SecretString;

/// Title, detail, code and inner status of the error on one line, as far as present, with secrets redacted.
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
        Some(text).filter(|_| value.is_string() || value.is_number())
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
    Some(for_display(&text, secrets)).filter(|text| !text.is_empty())
}

/// A text from the server, redacted, escaped and truncated for display.
pub(crate) fn for_display(text: &str, secrets: &[SecretString]) -> String {
    escape_and_truncate(&redacted(text, secrets))
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
    fn secrets_are_redacted() {
        let secrets = [SecretString::new("hunter2"), SecretString::new("")];
        let body = json!({"title": "hunter2\nis wrong", "detail": "x".repeat(500)});
        let text = problem(&body, 400, &secrets).unwrap();
        assert!(text.starts_with("[redacted]\\nis wrong: xxx") && text.len() < 250, "{text}");
        assert_eq!(problem(&json!("no hunter2"), 400, &secrets).as_deref(), Some("no [redacted]"));

        // The webhook's secret is a part of the auth token.
        let secrets = [SecretString::new("MY\"SECRET"), SecretString::new("eyMY\"SECRETxyz")];
        let request = json!({"secretToken": "MY\"SECRET", "auth": "eyMY\"SECRETxyz"}).to_string();
        for repeated in [json!(request).to_string(), request] {
            let text = problem(&json!({"title": "cannot read", "detail": repeated}), 400, &secrets).unwrap();
            assert!(text.starts_with("cannot read: ") && text.matches("[redacted]").count() == 2, "{text}");
            assert!(!["MY", "SECRET", "ey", "xyz"].iter().any(|part| text.contains(part)), "{text}");
        }
    }
}
