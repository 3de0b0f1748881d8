//! What SmartShape says about an error. Four forms of bodies occur; none of them is relied on.

use serde_json::Value;

use crate::hidden::Hidden;
use crate::redact::redacted;
use crate::text::shown;

/// The error's title, detail, code and inner status in one line, as far as they are there, without
/// what is hidden.
pub(crate) fn problem(body: &Value, http_status: u16, hidden: &[Hidden]) -> Option<String> {
    let error = body
        .get("errors")
        .and_then(|errors| errors.get(0))
        .or_else(|| body.get("error").filter(|error| !error.is_boolean()))
        .unwrap_or(body);
    if let Some(text) = error.as_str() {
        return Some(without(text, hidden)).filter(|text| !text.is_empty());
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
    Some(without(&text, hidden)).filter(|text| !text.is_empty())
}

/// A text of the server's, fit to be shown.
pub(crate) fn without(text: &str, hidden: &[Hidden]) -> String {
    shown(&redacted(text, hidden))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_is_read() {
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
    fn what_is_hidden_is_not_repeated() {
        let hidden = [Hidden::new("hunter2"), Hidden::new("")];
        let body = json!({"title": "hunter2\nis wrong", "detail": "x".repeat(500)});
        let text = problem(&body, 400, &hidden).unwrap();
        assert!(text.starts_with("[redacted]\\nis wrong: xxx") && text.len() < 250, "{text}");
        assert_eq!(problem(&json!("no hunter2"), 400, &hidden).as_deref(), Some("no [redacted]"));

        // The webhook's secret is a part of the auth token.
        let hidden = [Hidden::new("MY\"SECRET"), Hidden::new("eyMY\"SECRETxyz")];
        let request = json!({"secretToken": "MY\"SECRET", "auth": "eyMY\"SECRETxyz"}).to_string();
        for repeated in [json!(request).to_string(), request] {
            let text = problem(&json!({"title": "cannot read", "detail": repeated}), 400, &hidden).unwrap();
            assert!(text.starts_with("cannot read: ") && text.matches("[redacted]").count() == 2, "{text}");
            assert!(!["MY", "SECRET", "ey", "xyz"].iter().any(|part| text.contains(part)), "{text}");
        }
    }
}
