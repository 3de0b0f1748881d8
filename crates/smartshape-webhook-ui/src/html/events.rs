//! Events and dead letters: a list, and beside it the chosen event.

use maud::{Markup, html};
use smartshape_webhook::DeliveryKey;
use smartshape_webhook_inbox::{CountByEvent, EventFilter, EventPage, EventState, InboxError, StoredEvent};

use super::text::{ago, visible};
use super::{Context, chip, error, event, icon, kind_icon, owner, reason_title};
use crate::access::Role;
use crate::query::{STATES, Selection, state_name};

/// Returns whether the chosen event exists, too.
pub(super) async fn page(
    context: &Context<'_>,
    selection: &Selection,
    chosen: Option<&str>,
) -> Result<(Markup, bool), InboxError> {
    // A search reads owners and errors too.
    let mut selection = selection.clone();
    if !context.may(Role::Reader) {
        selection.text = None;
    }
    let page = context.inbox.page(selection.filter(), selection.cursor()).await?;
    let mut of_state = EventFilter::default();
    if let Some(state) = selection.state {
        of_state = of_state.state(state);
    }
    let names = context.inbox.count_by_event(of_state).await?;
    let reason = reason_title(context, &selection).await?;
    let key = chosen.and_then(|key| key.parse::<DeliveryKey>().ok());
    let stored = match key {
        Some(key) => context.inbox.get(key).await?,
        None => None,
    };
    let detail = match &stored {
        Some(stored) => Some(event::detail(context, &selection, stored).await?),
        None => None,
    };
    let is_found = chosen.is_none() || stored.is_some();
    let markup = html! {
        h1.vh { "Events" }
        div.panes.(if chosen.is_some() { "chosen" } else { "none" }) {
            section.list aria-label="Events" {
                (tabs(context, &selection))
                (filters(context, &selection, &names))
                @if let Some(reason) = &reason {
                    @let all = Selection { reason: None, before: None, after: None, ..selection.clone() };
                    div.bulk { h2 { (reason) } a.button.small href=(all.link("events", &[])) { "All reasons" } }
                }
                (bulk(context, &selection, &page))
                ol.items #items data-live {
                    @for event in &page.events { (item(context, &selection, event, key)) }
                    @if page.events.is_empty() && !page.is_partial { li.empty.pad { @if selection == Selection::default() { "No event is stored." } @else { "No event is like this." } } }
                }
                (partial(&selection, &page))
                (pages(&selection, &page))
            }
            section.detail aria-label="The chosen event" {
                @if let Some(detail) = detail { (detail) }
                @else if chosen.is_some() { div.nothing { p { "There is no such event, or not any more." } a.button href=(selection.link("events", &[])) { "Back to the list" } } }
                @else if !page.events.is_empty() {
                    div.nothing {
                        (icon("attribute"))
                        p { "Choose an event to see its body, its attempts and why it failed." }
                        p.keys { kbd { "J" } " and " kbd { "K" } " move, " kbd { "/" } " searches" }
                    }
                }
            }
        }
    };
    Ok((markup, is_found))
}

fn tabs(context: &Context<'_>, selection: &Selection) -> Markup {
    let counts = &context.counts;
    let count_of = |state| match state {
        EventState::Waiting => Some(counts.waiting),
        EventState::Running => Some(counts.running),
        EventState::DeadLetter => Some(counts.dead_letters),
        _ => None,
    };
    let link = |state| {
        let reason = selection.reason.filter(|_| state == Some(EventState::DeadLetter));
        Selection { state, reason, before: None, after: None, ..selection.clone() }.link("events", &[])
    };
    html! {
        nav.tabs #tabs data-live aria-label="States" {
            a href=(link(None)) aria-current=[selection.state.is_none().then_some("true")] { "All" }
            @for (state, _) in STATES {
                a href=(link(Some(state))) aria-current=[(selection.state == Some(state)).then_some("true")] {
                    @match state {
                        EventState::Waiting => "Waiting",
                        EventState::Running => "Running",
                        EventState::DeadLetter => "Dead letters",
                        _ => "Completed",
                    }
                    @if let Some(count) = count_of(state) { span.n { (count) } }
                }
            }
        }
    }
}

fn filters(context: &Context<'_>, selection: &Selection, names: &CountByEvent) -> Markup {
    html! {
        form.filters method="get" action="?" role="search" {
            input type="hidden" name="view" value="events";
            @if let Some(state) = selection.state { input type="hidden" name="state" value=(state_name(state)); }
            @if let Some(reason) = selection.reason { input type="hidden" name="reason" value=(reason); }
            @if context.may(Role::Reader) {
                label.search {
                    (icon("search"))
                    span.vh { "File, uuid, owner, key or words of the error" }
                    input type="search" name="q" value=(selection.text.as_deref().unwrap_or_default()) placeholder="File, uuid, error…" autocomplete="off" spellcheck="false";
                }
            }
            label {
                span.vh { "Event" }
                select name="name" {
                    option value="" { "Every event" }
                    @for (name, count) in &names.names {
                        option value=(name) selected[selection.name.as_ref() == Some(name)] { (visible(name)) " (" (count) ")" }
                    }
                }
            }
            button type="submit" { "Find" }
        }
    }
}

/// Actions on all dead letters of the selection, up to the newest one on this page: "all" means what was seen.
fn bulk(context: &Context<'_>, selection: &Selection, page: &EventPage) -> Markup {
    let is_for_all = selection.state == Some(EventState::DeadLetter) && context.may(Role::Operator);
    let Some(newest) = page.events.first().filter(|_| is_for_all) else { return html! {} };
    let seen = newest.seq.to_string();
    let link = |action| selection.link("confirm", &[("do", action), ("up_to", &seen)]);
    html! {
        div.bulk {
            span { @if page.newer.is_some() { "These and all older ones" } @else { "All of these" } }
            a.button.small href=(link("replay")) { (icon("replay")) "Replay all…" }
            @if context.may(Role::Owner) { a.button.small.danger href=(link("purge")) { (icon("trash")) "Purge all…" } }
        }
    }
}

fn item(
    context: &Context<'_>,
    selection: &Selection,
    event: &StoredEvent,
    chosen: Option<DeliveryKey>,
) -> Markup {
    html! {
        li {
            a.item href=(selection.event_link(event.key)) aria-current=[(chosen == Some(event.key)).then_some("true")] {
                span.l1 {
                    (kind_icon(&event.event_name))
                    span.evn { (visible(&event.event_name)) }
                    @if selection.state.is_none() {
                        @if event.state == EventState::Completed { span.quiet { "Completed" } } @else { (chip(event.state)) }
                    }
                    (ago(event.received_at, context.now))
                }
                span.l2 {
                    span.mono { (visible(&event.file)) }
                    @if let Some(owner) = owner(context, event) { span.o { bdi { (visible(owner)) } } }
                    @if event.attempts > 1 { span.at { (event.attempts) " attempts" } }
                }
                @if let Some(error) = error(context, event) { span.l3 { (visible(error)) } }
            }
        }
    }
}

fn partial(selection: &Selection, page: &EventPage) -> Markup {
    html! {
        @if page.is_partial {
            p.empty.pad {
                "50,000 events were searched. "
                @if let Some(older) = page.older.filter(|_| selection.after.is_none()) {
                    a href=(selection.link("events", &[("before", &older.to_string())])) { "Search further" }
                }
            }
        }
    }
}

fn pages(selection: &Selection, page: &EventPage) -> Markup {
    let is_newest = selection.before.is_none() && selection.after.is_none();
    html! {
        nav.pages aria-label="Newer and older events" {
            @if !is_newest { a href=(selection.link("events", &[])) { "Newest" } }
            @if let Some(newer) = page.newer.filter(|_| !is_newest) {
                a rel="prev" href=(selection.link("events", &[("after", &newer.to_string())])) { "Newer" }
            }
            @if let Some(older) = page.older {
                a.next rel="next" href=(selection.link("events", &[("before", &older.to_string())])) { "Older" }
            }
        }
    }
}
