//! Deliveries of a listener: a list, and beside it the chosen one, with how it was checked.

use std::sync::Arc;

use maud::{Markup, html};
use smartshape_webhook::{Delivery, EventKind, RejectionKind};

use super::event::{attributes, changes, copies, copy_buttons, copyable};
use super::text::{ago, bytes, clock, duration, plural, thousands, visible};
use super::{Frame, Page, action, current, flash, frame, icon, json, kind_icon, live, not_found};
use crate::access::{Role, Visitor};
use crate::deliveries::{Deliveries, Entry, SendOutcome};
use crate::query::{Query, link};

/// Rows of the list.
const MAX_ROWS: usize = 200;

/// The checks of a delivery, in the order in which the receiver makes them.
const CHECKS: [&str; 10] = [
    "The method is POST",
    "The declared length is readable and within the limit",
    "There is one x-smartshape-token header, and it is well formed",
    "The token's cost is allowed",
    "The token matches the secret",
    "The body arrived whole, in time and within the limit",
    "The body is a SmartShape event",
    "The secret is for this event",
    "The event had not been accepted before",
    "The handler accepted it",
];
/// The first check that only a verified token reaches, and the two last ones.
const BODY: usize = 5;
const DUPLICATE: usize = 8;
const HANDLER: usize = 9;

/// The check that a rejection of this kind failed.
fn failed_check(kind: RejectionKind, is_verified: bool) -> usize {
    match kind {
        RejectionKind::MethodNotAllowed | RejectionKind::NotConfigured => 0,
        RejectionKind::LengthInvalid => 1,
        RejectionKind::BodyTooLarge if !is_verified => 1,
        RejectionKind::TokenMissing | RejectionKind::TokenRepeated | RejectionKind::TokenMalformed => 2,
        RejectionKind::TokenTooCostly | RejectionKind::TokenTooCheap => 3,
        RejectionKind::TokenUnmatched | RejectionKind::VerifyBusy | RejectionKind::Draining => 4,
        RejectionKind::BodyTooLarge
        | RejectionKind::BodyBroken
        | RejectionKind::BodyTimeout
        | RejectionKind::MemoryExhausted
        | RejectionKind::TooManyInFlight => BODY,
        RejectionKind::NotJson | RejectionKind::EnvelopeInvalid | RejectionKind::ContentCoding => 6,
        RejectionKind::TokenOutOfScope => 7,
        RejectionKind::StoreUnavailable | RejectionKind::DuplicateUnfinished => DUPLICATE,
        _ => HANDLER,
    }
}

/// What to do about a rejection by a listener.
fn remedy(kind: RejectionKind) -> &'static str {
    match kind {
        RejectionKind::TokenUnmatched => {
            "The webhook was registered with another secret, or by an earlier run of this program: `smartshape webhook \
             prune` deletes what earlier runs left. A stranger's request looks the same."
        }
        _ => kind.remedy(),
    }
}

pub(crate) fn page(deliveries: &Deliveries, label: &str, query: &Query, visitor: &Visitor) -> Page {
    let may_send = visitor.role >= Role::Operator && deliveries.has_samples();
    let chosen = query.get("delivery");
    let view = if chosen.is_some() { "deliveries" } else { query.get("view").unwrap_or("deliveries") };
    let (title, main, is_found) = match view {
        "deliveries" => {
            let (main, is_found) = list(deliveries, query, chosen, visitor);
            ("Deliveries", main, is_found)
        }
        "send" if may_send => ("Send a sample", sample(deliveries, query), true),
        _ => ("Not found", not_found("?view=deliveries", "Deliveries"), false),
    };
    let is_list = view == "deliveries";
    let links = html! {
        a href="?view=deliveries" aria-current=[current(is_list)] { "Deliveries" }
        @if may_send { a href="?view=send" aria-current=[current(view == "send")] { "Send a sample" } }
    };
    // The style sheet's panes are those of events.
    let view = if is_list { "events" } else { "send" };
    let page_frame = Frame { name: "SmartShape listener", home: "?view=deliveries", view, links };
    let html = frame(title, label, &page_frame, visitor, &live(), flash(query).as_ref(), &main);
    Page { html, is_found }
}

/// Which deliveries are listed.
#[derive(Clone, Copy)]
struct Selection<'q> {
    state: &'q str,
    text: &'q str,
}

impl<'q> Selection<'q> {
    fn from_query(query: &'q Query, visitor: &Visitor) -> Self {
        let state = query.get("state").unwrap_or_default();
        // A search reads errors too.
        let text = query.get("q").map(str::trim).filter(|_| visitor.role >= Role::Reader);
        Self { state, text: text.unwrap_or_default() }
    }

    fn link(self, more: &[(&str, &str)]) -> String {
        let mut pairs = vec![("view", "deliveries")];
        pairs.extend(
            [("state", self.state), ("q", self.text)].into_iter().filter(|(_, value)| !value.is_empty()),
        );
        pairs.extend(more);
        link(&pairs)
    }

    fn has_state(self, entry: &Entry) -> bool {
        match self.state {
            "accepted" => entry.is_accepted(),
            "rejected" => !entry.is_accepted(),
            "repeated" => entry.repetition > 1,
            _ => true,
        }
    }

    fn has_text(self, entry: &Entry) -> bool {
        let event = entry.event.iter().flat_map(|event| [&event.name, &event.file, &event.uuid]);
        let mut texts = event.chain(&entry.received.reason);
        self.text.is_empty() || texts.any(|text| text.to_lowercase().contains(&self.text.to_lowercase()))
    }
}

fn list(deliveries: &Deliveries, query: &Query, chosen: Option<&str>, visitor: &Visitor) -> (Markup, bool) {
    let selection = Selection::from_query(query, visitor);
    let all = deliveries.entries();
    let listed: Vec<&Arc<Entry>> =
        all.iter().filter(|entry| selection.has_state(entry) && selection.has_text(entry)).collect();
    let entry = chosen.and_then(|number| number.parse().ok()).and_then(|number| deliveries.get(number));
    let number = entry.as_ref().map(|entry| entry.number);
    let markup = html! {
        h1.vh { "Deliveries" }
        div.panes.(if chosen.is_some() { "chosen" } else { "none" }) {
            section.list aria-label="Deliveries" {
                (tabs(selection, &all))
                @if visitor.role >= Role::Reader { (search(selection)) }
                ol.items #items data-live {
                    @for entry in listed.iter().take(MAX_ROWS) { (item(selection, entry, number, visitor)) }
                    @if all.is_empty() { li.empty.pad { "No delivery has arrived yet." } }
                    @else if listed.is_empty() { li.empty.pad { "No delivery is like this." } }
                }
                @if listed.len() > MAX_ROWS { p.empty.pad { "The newest " (MAX_ROWS) " of " (thousands(listed.len() as u64)) "." } }
            }
            section.detail aria-label="The chosen delivery" {
                @if let Some(entry) = &entry { (detail(deliveries, selection, entry, visitor)) }
                @else if chosen.is_some() { div.nothing { p { "There is no such delivery, or not any more." } a.button href=(selection.link(&[])) { "Back to the list" } } }
                @else if all.is_empty() {
                    div.nothing #none data-live {
                        (icon("file"))
                        p { "Deliveries appear here as they come." }
                        @if deliveries.has_samples() && visitor.role >= Role::Operator { a.button.primary href="?view=send" { "Send a sample" } }
                    }
                }
                @else {
                    div.nothing {
                        (icon("file"))
                        p { "Choose a delivery to see how it was checked, what it changed, and its response." }
                        p.keys { kbd { "J" } " and " kbd { "K" } " move, " kbd { "/" } " searches" }
                    }
                }
            }
        }
    };
    (markup, chosen.is_none() || entry.is_some())
}

fn tabs(selection: Selection<'_>, all: &[Arc<Entry>]) -> Markup {
    html! {
        nav.tabs #tabs data-live aria-label="Outcomes" {
            @for (state, name) in [("", "All"), ("accepted", "Accepted"), ("rejected", "Rejected"), ("repeated", "Repeated")] {
                @let of_state = Selection { state, ..selection };
                a href=(of_state.link(&[])) aria-current=[(selection.state == state).then_some("true")] {
                    (name) span.n { (all.iter().filter(|entry| of_state.has_state(entry)).count()) }
                }
            }
        }
    }
}

fn search(selection: Selection<'_>) -> Markup {
    html! {
        form.filters method="get" action="?" role="search" {
            input type="hidden" name="view" value="deliveries";
            @if !selection.state.is_empty() { input type="hidden" name="state" value=(selection.state); }
            label.search {
                (icon("search"))
                span.vh { "Event, file, uuid or words of the rejection" }
                input type="search" name="q" value=(selection.text) placeholder="Event, file, uuid, reason…" autocomplete="off" spellcheck="false";
            }
            button type="submit" { "Find" }
        }
    }
}

fn status(entry: &Entry) -> Markup {
    let class = if entry.is_accepted() { "done" } else { "dead" };
    html! { span class={ "chip " (class) } { (entry.received.status) } }
}

fn name(entry: &Entry) -> Markup {
    html! { @if let Some(event) = &entry.event { (visible(&event.name)) } @else { "No event" } }
}

fn entry_icon(entry: &Entry) -> Markup {
    kind_icon(entry.event.as_ref().map_or("", |event| &event.name))
}

fn took(entry: &Entry) -> String {
    let took = entry.received.took;
    if took.as_millis() == 0 { "less than 1 ms".to_owned() } else { duration(took) }
}

/// A text of this file, with what stands between backticks as code.
fn with_code(text: &str) -> Markup {
    html! { @for (index, part) in text.split('`').enumerate() { @if index % 2 == 1 { code { (part) } } @else { (part) } } }
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending} time")
}

fn item(selection: Selection<'_>, entry: &Entry, chosen: Option<u64>, visitor: &Visitor) -> Markup {
    let received = &entry.received;
    let number = entry.number.to_string();
    html! {
        li {
            a.item href=(selection.link(&[("delivery", &number)])) aria-current=[(chosen == Some(entry.number)).then_some("true")] {
                span.l1 { (entry_icon(entry)) span.evn { (name(entry)) } (status(entry)) (clock(received.received_at)) }
                span.l2 {
                    @if let Some(event) = &entry.event { span.mono.o { (visible(&event.file)) } }
                    @else { span.o { (visible(&received.method)) ", response after " (took(entry)) } }
                    @if entry.repetition > 1 { span.at { (ordinal(entry.repetition)) } }
                }
                @if let Some(reason) = received.reason.as_ref().filter(|_| visitor.role >= Role::Reader) { span.l3 { (visible(reason)) } }
                @else if received.is_duplicate { span.l3.soft { "Accepted before: not handled again" } }
                @else if let Some(outcome) = received.forward.get().filter(|_| visitor.role >= Role::Reader) {
                    span.l3.(if outcome.is_accepted { "soft" } else { "failed" }) { "Forwarded: " (visible(&outcome.text)) }
                }
            }
        }
    }
}

fn detail(deliveries: &Deliveries, selection: Selection<'_>, entry: &Entry, visitor: &Visitor) -> Markup {
    let received = &entry.received;
    let may_read = visitor.role >= Role::Reader;
    let body = received.body.as_ref().filter(|_| may_read);
    let copied = body.filter(|_| entry.event.is_some()).and_then(|body| copyable(body));
    let delivery = body.and_then(|body| Delivery::for_test(body.clone()).ok());
    let number = entry.number.to_string();
    html! {
        div.dhead {
            a.back href=(selection.link(&[])) { (icon("back")) "Deliveries" }
            div.title { h2 { (entry_icon(entry)) span { (name(entry)) } } (status(entry)) }
            p.sub {
                @if let Some(event) = &entry.event { "Of file " span.mono { (visible(&event.file)) } ", received " } @else { "Received " }
                (ago(received.received_at, jiff::Timestamp::now())) ", response after " (took(entry))
            }
            div.actions {
                @if body.is_some() && deliveries.resend_url().is_some() && visitor.role >= Role::Operator {
                    (action("resend", &html! { (icon("replay")) "Send it again" }, "primary", &[("delivery", &number)], "?"))
                }
                @if copied.is_some() { (copy_buttons()) }
                @if body.is_some() { a.button href=(link(&[("raw", &number)])) { (icon("down")) "Body" } }
            }
        }
        @if let Some(reason) = received.reason.as_ref().filter(|_| may_read) {
            section.error {
                h3 { "Why it was rejected" }
                p { (visible(reason)) }
                @if let Some(kind) = received.rejection { p.why { (with_code(remedy(kind))) } }
            }
        }
        @if !entry.is_accepted() { (checks(entry)) }
        @if let Some(delivery) = &delivery { (changes(delivery)) (attributes(delivery)) }
        div.two {
            div.stack {
                @if let Some(body) = body {
                    section.block.bodyblock {
                        h3 { "Body" span.n { (bytes(body.len() as u64)) } }
                        (json::tree(body))
                    }
                }
                @if may_read && !received.headers.is_empty() { (headers(entry)) }
            }
            section.block.facts {
                h3 { "Facts" }
                dl {
                    dt { "Response" } dd { (received.status) " after " (took(entry)) }
                    @if let Some((prefix, cost)) = &received.token { dt { "Token" } dd { (visible(prefix)) ", cost " (cost) } }
                    @if let Some(event) = &entry.event {
                        dt { "uuid" } dd.mono { (visible(&event.uuid)) }
                        dt { "Key" } dd.mono { (event.key) }
                    }
                    @if entry.repetition > 1 { dt { "Repetition" } dd { "Came for the " (ordinal(entry.repetition)) } }
                    @if body.is_none() { dt { "Body" } dd { @if received.is_verified { @if may_read { "Not kept: it did not arrive" } @else { "Not shown to you" } } @else { "Not kept: the token was not verified" } } }
                }
                @if may_read { (passed_on(deliveries, entry)) }
            }
        }
        @if entry.is_accepted() { (checks(entry)) }
        @if let Some(text) = copied { (copies(text, deliveries.resend_url())) }
    }
}

/// The checks up to the one that failed.
fn checks(entry: &Entry) -> Markup {
    let received = &entry.received;
    // A recording of an earlier version does not know which one.
    let failed = match received.rejection {
        Some(kind) => Some(failed_check(kind, received.is_verified)),
        None if entry.is_accepted() => Some(CHECKS.len()),
        None => None,
    };
    let passed = failed.unwrap_or(BODY);
    html! {
        section.block {
            h3 { "How it was checked" }
            ol.checks {
                @for (index, check) in CHECKS.iter().enumerate() {
                    @if received.is_duplicate && index >= DUPLICATE {
                        @if index == DUPLICATE { li.same { "The event had been accepted before, so it is acknowledged again" } }
                        @else { li.skipped { "The handler was not called" } }
                    } @else if index < passed { li.passed { (check) } }
                    @else if failed == Some(index) { li.failed { (check) span.vh { ": no" } } }
                    @else { li.skipped { (check) span.vh { ": not checked" } } }
                }
            }
        }
    }
}

fn headers(entry: &Entry) -> Markup {
    let headers = &entry.received.headers;
    html! {
        section.block {
            h3 { "Headers" span.n { (headers.len()) } }
            div.scroll tabindex="0" role="region" aria-label="Headers" {
                table.diff.headers {
                    tbody { @for (name, value) in headers { tr { th.mono scope="row" { (visible(name)) } td.mono { bdi { (visible(value)) } } } } }
                }
            }
        }
    }
}

/// Where the delivery went after its response.
fn passed_on(deliveries: &Deliveries, entry: &Entry) -> Markup {
    let forward = entry.received.forward.get();
    let resends = entry.outcomes();
    let class = |outcome: &SendOutcome| if outcome.is_accepted { "good" } else { "bad" };
    html! {
        div #passed data-live {
            @if forward.is_some() || !resends.is_empty() {
                h3.gap { "Sent on" }
                @if let Some(url) = deliveries.resend_url() { p.to.mono { (visible(url)) } }
                ol.line {
                    @if let Some(outcome) = forward { li.(class(outcome)) { span { "Forwarded" } span.l3.soft { (visible(&outcome.text)) } } }
                    @for (at, outcome) in &resends { li.(class(outcome)) { span { "Sent again" } (clock(*at)) span.l3.soft { (visible(&outcome.text)) } } }
                }
            }
        }
    }
}

/// A form that sends a sample, as the visitor changes it.
fn sample(deliveries: &Deliveries, query: &Query) -> Markup {
    let chosen = query.get("name").and_then(|name| name.parse().ok()).unwrap_or(EventKind::FileUploaded);
    let body = deliveries.sample(chosen).unwrap_or_default();
    html! {
        section.card.confirm.sample {
            h1 { "Send a sample" }
            p {
                "It is signed with this listener's secret and sent to the listener, which takes it like an event of SmartShape's: "
                "it is printed" @if deliveries.resend_url().is_some() { ", and forwarded" } "."
            }
            form method="get" action="?" {
                input type="hidden" name="view" value="send";
                label { span { "Event" } select name="name" { @for kind in EventKind::ALL { option value=(kind.as_str()) selected[kind == chosen] { (kind.as_str()) } } } }
                button type="submit" { "Show its sample" }
            }
            form method="post" action="?" {
                label.body { span { "Body" } textarea name="body" rows="16" spellcheck="false" autocomplete="off" { (body) } }
                button.primary name="do" value="sample" { "Send" }
                a.button href="?view=deliveries" { "Back" }
            }
            p.small { (plural(body.len() as u64, "byte", "bytes")) ". Each sample has a uuid of its own: with an earlier one it is a duplicate." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of the receiver's stages, which are types there.
    #[test]
    fn each_rejection_fails_a_check_that_its_token_has_reached() {
        for kind in RejectionKind::ALL {
            for is_verified in [false, true] {
                let failed = failed_check(*kind, is_verified);
                let is_of_token = kind.status() == 401 && *kind != RejectionKind::TokenOutOfScope;
                assert!(!is_of_token || (2..BODY).contains(&failed), "{kind:?}");
                let about_body = matches!(kind.status(), 400 | 408 | 413 | 415 | 422);
                let before_token = *kind == RejectionKind::LengthInvalid || !is_verified;
                assert!(!about_body || before_token || failed >= BODY, "{kind:?}");
            }
        }
        assert_eq!(["1st time", "2nd time", "11th time", "23rd time"], [1, 2, 11, 23].map(ordinal));
    }
}
