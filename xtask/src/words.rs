//! Identifiers in the words of the field: names that were given up do not come back.

use std::fs;
use std::path::Path;

use crate::{Result, cargo};

/// Each with the field's word. CONTRIBUTING.md says why.
const GIVEN_UP: [(&str, &str); 41] = [
    ("refusal", "rejection"),
    ("refused", "rejected"),
    ("refuse", "reject"),
    ("answer", "response"),
    ("answers", "responses"),
    ("answered", "responded"),
    ("at_work", "in_flight, running"),
    ("asker", "waiter"),
    ("askers", "waiters"),
    ("judge", "verify, check"),
    ("verdict", "status, outcome"),
    ("recall", "get"),
    ("hash_wait", "verify_timeout"),
    ("pushed_out", "evicted"),
    ("only_for", "scoped_to"),
    ("seen_store", "dedup_store"),
    ("store_wait", "store_timeout"),
    ("duplicate_wait", "duplicate_timeout"),
    ("door", "extractor"),
    ("mismatch", "unexpected_event"),
    ("drift", "unrecognized, undecodable"),
    ("drifted", "unrecognized, undecodable"),
    ("unusual", "slow_path"),
    ("intake", "batcher"),
    ("buried", "dead_lettered"),
    ("given_back", "released"),
    ("settlement", "attempt result"),
    ("tidy", "checkpoint"),
    ("tombstone", "dedup_retention"),
    ("tombstones", "dedup_retention"),
    ("pulse", "heartbeat"),
    ("chores", "maintenance"),
    ("put_aside", "defer"),
    ("suite", "tests"),
    ("trouble", "retry_reason"),
    ("unsure", "ambiguous"),
    ("retry_waits", "backoff"),
    ("trust_pem", "add_root_certificate"),
    ("harsh", "destructive"),
    ("disturbance", "fault_injection"),
    ("carried_out", "after_effect"),
];

pub(crate) fn run() -> Result {
    let mut found = Vec::new();
    for folder in ["crates", "examples", "tests", "xtask"] {
        visit(&cargo::root().join(folder), &mut found)?;
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(format!("identifiers that were given up:\n{}", found.join("\n")).into())
}

fn visit(path: &Path, found: &mut Vec<String>) -> Result {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            visit(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for (number, line) in fs::read_to_string(&path)?.lines().enumerate() {
                for (given_up, instead) in given_up(line) {
                    found.push(format!("{}:{}: {given_up}: {instead}", path.display(), number + 1));
                }
            }
        }
    }
    Ok(())
}

/// Looks at identifiers only: comments and texts may use the words of the language.
fn given_up(line: &str) -> Vec<(&'static str, &'static str)> {
    let code = line.split("//").next().unwrap_or_default();
    let code: String = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let identifiers = code.split(|character: char| !character.is_alphanumeric() && character != '_');
    // The one refusal that is the operating system's.
    let identifiers: Vec<String> =
        identifiers.map(|name| format!("_{}_", snake_case(name).replace("connection_refused", ""))).collect();
    let is_used = |word: &str| identifiers.iter().any(|name| name.contains(&format!("_{word}_")));
    GIVEN_UP.into_iter().filter(|(word, _)| is_used(word)).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut before = '_';
    for character in name.chars() {
        if character.is_uppercase() && before.is_lowercase() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
        before = character;
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_identifiers_only() {
        for line in ["let refusal = 1;", "enum RefusalKind {", "max_at_work: usize", "const AT_WORK: &str"] {
            assert_eq!(given_up(line).len(), 1, "{line}");
        }
        for line in ["// a refusal", "\"the refusal\"", "replace(it)", "let placeholder = 1;"] {
            assert!(given_up(line).is_empty(), "{line}");
        }
    }
}
