//! Secrets of webhooks: `[[secret]]`, and those of declared webhooks.

use std::collections::HashMap;

use smartshape_webhook::{EventKind, NamedSecret, Secret};

use super::events;
use super::file::Table;
use crate::failure::CliResult;
use crate::webhook::apply::{Apply, EventSecret};

pub(super) const KEYS: [&str; 5] = ["name", "env", "file", "events", "webhook"];

pub(super) fn parse(tables: Vec<Table<'_>>) -> CliResult<Vec<NamedSecret>> {
    let mut names = Vec::new();
    let secret = |mut table: Table<'_>| {
        let (name, location) = table.required("name")?.text()?;
        if names.contains(&name) {
            return Err(location.error("another secret has this name"));
        }
        names.push(name.clone());
        let source = table.secret_source()?;
        let source = source.ok_or_else(|| table.error_at("env", "this key or file is missing"))?;
        let secret = source.secret().map_err(|error| table.error_at("env", &error.to_string()))?;
        let mut named = NamedSecret::new(name, secret);
        if let Some(value) = table.take("events") {
            named = named.scoped_to(events(value)?.into_iter().map(|(event, _)| event));
        }
        if let Some(value) = table.take("webhook") {
            named = named.for_webhook(value.text()?.0);
        }
        Ok(named)
    };
    tables.into_iter().map(secret).collect()
}

/// Secrets of the declared webhooks, each scoped to its events.
pub(super) fn declared(apply: &Apply) -> CliResult<impl Iterator<Item = NamedSecret>> {
    let mut scopes: Vec<(Secret, Vec<EventKind>)> = Vec::new();
    for EventSecret { event, secret, .. } in apply.declared()? {
        match scopes.iter_mut().find(|(one, _)| one.expose() == secret.expose()) {
            Some((_, events)) => events.push(event),
            None => scopes.push((secret, vec![event])),
        }
    }
    let mut names: HashMap<String, u32> = HashMap::new();
    Ok(scopes.into_iter().map(move |(secret, events)| {
        let mut name = events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join("+");
        // An event may have webhooks at two URLs.
        let count = names.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
        if *count > 1 {
            name = format!("{name}-{count}");
        }
        // Which events share a secret is no part of a delivery's identity: a repetition after a change is a duplicate.
        NamedSecret::new(name, secret).for_webhook("default").scoped_to(events)
    }))
}
