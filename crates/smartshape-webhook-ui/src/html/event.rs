//! One event.

use maud::{Markup, html};
use smartshape_webhook::{Delivery, Event, RawJson};
use smartshape_webhook_inbox::{EventState, FailedAttempt, InboxError, StoredDelivery};

use super::text::{ago, bytes, clock, duration, has_hidden, visible};
use super::{Context, action, chip, error, icon, json, kind_icon, owner, unless_older};
use crate::access::Role;
use crate::query::{Selection, link, state_name};

/// Rows of a table of changes or attributes.
const MAX_ROWS: usize = 200;
/// Characters of a value in such a table.
const MAX_VALUE_CHARS: usize = 240;
/// A longer body is not put into the page a second and a third time, to be copied.
const MAX_COPY_BYTES: usize = 64 * 1024;

pub(super) async fn detail(
    context: &Context<'_>,
    selection: &Selection,
    stored: &StoredDelivery,
) -> Result<Markup, InboxError> {
    let event = &stored.event;
    let may_read = context.may(Role::Reader);
    let attempts = match may_read {
        true => unless_older(context.inbox.failed_attempts(event.key).await)?.unwrap_or_default(),
        false => Vec::new(),
    };
    let body = stored.body.as_ref().filter(|_| may_read);
    let copied = body.and_then(|body| copyable(body));
    let delivery = stored.delivery().ok().flatten().filter(|_| may_read);
    let key = event.key.to_string();
    let of_file = link(&[("view", "events"), ("q", &event.file)]);
    Ok(html! {
        div.dhead {
            a.back href=(selection.link("events", &[])) { (icon("back")) "Events" }
            div.title { h2 { (kind_icon(&event.event_name)) span { (visible(&event.event_name)) } } (chip(event.state)) }
            p.sub {
                "of file " @if may_read { a.mono href=(of_file) { (visible(&event.file)) } } @else { span.mono { (visible(&event.file)) } }
                ", received " (ago(event.received_at, context.now))
            }
            (actions(context, selection, stored, &key, copied.is_some()))
        }
        @if let Some(error) = error(context, event) {
            section.error {
                h3 { @if event.state == EventState::DeadLetter { "Why it is a dead letter" } @else { "Why the last attempt failed" } }
                pre tabindex="0" { (visible(error)) }
            }
        }
        @if let Some(delivery) = &delivery { (changes(delivery)) (attributes(delivery)) }
        div.two {
            section.block.bodyblock {
                h3 { "Body" span.n { (bytes(event.body_bytes)) } }
                @if let Some(body) = body { (json::tree(body)) }
                @else { p.empty { @if may_read { "Deleted when the event was completed or purged." } @else { "Not shown to you." } } }
            }
            section.block.facts {
                h3 { "Facts" }
                dl {
                    dt { "Key" } dd.mono { (key) }
                    dt { "uuid" } dd.mono { (visible(&event.uuid)) }
                    @if let Some(owner) = owner(context, event) { dt { "Owner" } dd { bdi { (visible(owner)) } } }
                    @if let Some(name) = &event.secret_name { dt { "Secret" } dd { (visible(name)) } }
                }
                (history(stored, &attempts))
            }
        }
        @if let Some(text) = copied { (copies(text, None)) }
    })
}

fn actions(
    context: &Context<'_>,
    selection: &Selection,
    stored: &StoredDelivery,
    key: &str,
    may_copy: bool,
) -> Markup {
    let state = stored.event.state;
    let back = selection.event_link(stored.event.key);
    let confirm = |action| selection.link("confirm", &[("do", action), ("event", key)]);
    let has_body = stored.body.is_some();
    let replay = html! { (icon("replay")) "Replay" };
    html! {
        div.actions {
            @if context.may(Role::Operator) && has_body {
                @if state == EventState::DeadLetter { (action("replay", &replay, "primary", &[("event", key), ("state", state_name(state))], &back)) }
                @if state == EventState::Completed { a.button href=(confirm("replay")) { (icon("replay")) "Handle again…" } }
            }
            @if has_body && context.may(Role::Reader) {
                @if may_copy { (copy_buttons()) }
                a.button href=(link(&[("raw", key)])) { (icon("down")) "Body" }
            }
            @if context.may(Role::Owner) && state != EventState::Running && has_body {
                a.button.danger href=(confirm("purge")) { (icon("trash")) "Purge…" }
            }
        }
    }
}

fn shown(value: &RawJson) -> Markup {
    let compact = value.compact();
    let text: String = compact.chars().take(MAX_VALUE_CHARS).collect();
    html! { bdi { (visible(&text)) @if text.len() < compact.len() { "…" } } }
}

pub(super) fn changes(delivery: &Delivery) -> Markup {
    let changes = match delivery.event() {
        Event::AnnotationUpdated(updated) => updated.changes(),
        Event::ConfigurationUpdated(updated) => updated.changes(),
        _ => return html! {},
    };
    let rows = html! {
        @for change in changes.iter().take(MAX_ROWS) {
            tr {
                th.mono scope="row" { (visible(&change.path)) }
                td { @if let Some(value) = &change.before { del { (shown(value)) } } @else { span.none { "–" } } }
                td { @if let Some(value) = &change.after { ins { (shown(value)) } } @else { span.none { "–" } } }
            }
        }
    };
    html! {
        section.block {
            h3 { "What was changed" span.n { (changes.len()) } }
            @if changes.is_empty() { p.empty { "Nothing: before and after are equal." } }
            @else { (table("What was changed", &["Path", "Before", "After"], &rows)) }
        }
    }
}

pub(super) fn attributes(delivery: &Delivery) -> Markup {
    let Event::AttributeUpdated(updated) = delivery.event() else { return html! {} };
    let attributes: Vec<_> = updated.attributes().collect();
    let rows = html! {
        @for (node, attribute) in attributes.iter().take(MAX_ROWS) {
            tr {
                td.mono { (visible(node.as_str())) }
                th scope="row" { bdi { (visible(&attribute.name)) } }
                td { ins { (shown(&attribute.value)) } }
            }
        }
    };
    html! {
        section.block {
            h3 { "Attributes that were set" span.n { (attributes.len()) } }
            (table("Attributes that were set", &["Node", "Attribute", "Value"], &rows))
        }
    }
}

/// A table that scrolls by itself.
fn table(label: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table.diff {
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody { (rows) }
            }
        }
    }
}

fn history(stored: &StoredDelivery, attempts: &[FailedAttempt]) -> Markup {
    let event = &stored.event;
    html! {
        h3.gap { "What happened" }
        ol.line {
            @if let Some(triggered) = event.triggered_at { li { span { "Triggered" } (clock(triggered)) } }
            li { span { "Received" } (clock(event.received_at)) }
            @for attempt in attempts {
                li.bad {
                    span { "Attempt " (attempt.number) " failed after " (duration(attempt.took)) }
                    (clock(attempt.ended_at))
                    span.l3 { (visible(&attempt.error)) }
                }
            }
            @if event.lost_leases > 0 { li.bad { span { (event.lost_leases) " ended with the worker, without a result" } } }
            @match event.state {
                EventState::Waiting => li.last { span { "Waits" @if event.attempts > 0 { " after attempt " (event.attempts) } } },
                EventState::Running => li.last { span { "Attempt " (event.attempts) " is running" } },
                EventState::DeadLetter => li.bad.last { span { "Dead letter after attempt " (event.attempts) } },
                _ => li.good.last { span { "Completed" @if event.attempts > 0 { " by attempt " (event.attempts) } } },
            }
        }
    }
}

/// A body as a text to be copied. What cannot be seen should not be pasted into a shell either: such a body is a
/// download only.
pub(super) fn copyable(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    (text.len() <= MAX_COPY_BYTES && !has_hidden(text)).then_some(text)
}

pub(super) fn copy_buttons() -> Markup {
    html! {
        @for (text, name) in [("#curl", "Copy as curl"), ("#fixture", "Copy as fixture")] {
            button type="button" data-copy=(text) hidden { (icon("copy")) span { (name) } }
        }
    }
}

/// Texts that the script copies, with the URL of the endpoint if it is known. They hold no token: the receiver's secret
/// is not known here.
pub(super) fn copies(body: &str, url: Option<&str>) -> Markup {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let url = url.map_or_else(|| "URL".to_owned(), quoted);
    let hashes = "#".repeat(longest_run_of_hashes(body) + 1);
    html! {
        pre.copy #curl hidden {
            "curl -sS -X POST " (url) " -H 'content-type: application/json' -H \"x-smartshape-token: $(smartshape token sign)\" --data-binary "
            (quoted(body))
        }
        pre.copy #fixture hidden { "let delivery = Delivery::for_test(r" (hashes) "\"" (body) "\"" (hashes) ")?;" }
    }
}

fn longest_run_of_hashes(text: &str) -> usize {
    let runs = text.split(|character| character != '#').map(str::len);
    runs.max().unwrap_or(0)
}
