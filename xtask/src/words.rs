//! Identifiers in the words of the field: names that were given up do not come back.

use std::fs;
use std::path::Path;

use heck::ToSnakeCase as _;

use crate::{Result, cargo};

/// Each with the field's word. CONTRIBUTING.md says why.
const GIVEN_UP: [&str; 10] = [
    "answer=response answered=responded answers=responses asker=waiter askers=waiters at_work=in_flight",
    "buried=dead_lettered carried_out=after_effect chores=maintenance disturbance=fault_injection",
    "door=extractor drift=undecodable drifted=undecodable duplicate_wait=duplicate_timeout",
    "given_back=released harsh=destructive hash_wait=verify_timeout intake=batcher judge=verify",
    "mismatch=unexpected_event only_for=scoped_to pulse=heartbeat pushed_out=evicted put_aside=defer",
    "recall=get refusal=rejection refuse=reject refused=rejected retry_waits=backoff",
    "seen_store=dedup_store settlement=attempt_result store_wait=store_timeout suite=tests tidy=checkpoint",
    "tombstone=dedup_retention tombstones=dedup_retention trouble=retry_reason",
    "trust_pem=add_root_certificate unsure=ambiguous unusual=slow_path",
    "verdict=status",
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
                let given_up = given_up(line).into_iter();
                found.extend(given_up.map(|pair| format!("{}:{}: {pair}", path.display(), number + 1)));
            }
        }
    }
    Ok(())
}

/// Looks at identifiers only: comments and texts may use the words of the language.
fn given_up(line: &str) -> Vec<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    let code: String = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let identifiers = code.split(|character: char| !character.is_alphanumeric() && character != '_');
    // The one refusal that is the operating system's.
    let identifiers: Vec<_> = identifiers
        .map(|name| format!("_{}_", name.to_snake_case().replace("connection_refused", "")))
        .collect();
    let is_used = |word: &str| identifiers.iter().any(|name| name.contains(&format!("_{word}_")));
    let pairs = GIVEN_UP.iter().flat_map(|pairs| pairs.split(' '));
    pairs.filter(|pair| pair.split_once('=').is_some_and(|(word, _)| is_used(word))).collect()
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
