//! The question before something is changed for many events, or for good. Works without a script.

use maud::{Markup, html};
use smartshape_webhook::DeliveryKey;
use smartshape_webhook_inbox::{Count, EventFilter, EventState, InboxError, PageCursor};

use super::text::{plural, thousands, visible};
use super::{Context, kind_icon, reason_title};
use crate::access::Role;
use crate::query::{Query, Selection, state_name};

/// `None` when there is no such action, or the visitor may not do it.
pub(super) async fn page(
    context: &Context<'_>,
    selection: &Selection,
    query: &Query,
) -> Result<Option<Markup>, InboxError> {
    let is_purge = match query.get("do") {
        Some("replay") if context.may(Role::Operator) => false,
        Some("purge") if context.may(Role::Owner) => true,
        _ => return Ok(None),
    };
    match query.get("event") {
        Some(key) => confirm_event(context, selection, key, is_purge).await,
        None => confirm_selection(context, selection, query, is_purge).await.map(Some),
    }
}

async fn confirm_event(
    context: &Context<'_>,
    selection: &Selection,
    key: &str,
    is_purge: bool,
) -> Result<Option<Markup>, InboxError> {
    let Ok(key) = key.parse::<DeliveryKey>() else { return Ok(None) };
    let Some(stored) = context.inbox.get(key).await? else { return Ok(None) };
    let back = selection.event_link(key);
    let title = html! { @if is_purge { "Purge this event?" } @else { "Handle this event again?" } };
    let what = html! { ul.what { li { (kind_icon(&stored.event.event_name)) (visible(&stored.event.event_name)) " of " span.mono { (visible(&stored.event.file)) } } } };
    let fields = [("event", &*key.to_string()), ("state", state_name(stored.event.state))];
    Ok(Some(question(&title, &what, is_purge, &fields, &back)))
}

async fn confirm_selection(
    context: &Context<'_>,
    selection: &Selection,
    query: &Query,
    is_purge: bool,
) -> Result<Markup, InboxError> {
    let selection =
        Selection { state: Some(EventState::DeadLetter), before: None, after: None, ..selection.clone() };
    let back = selection.link("events", &[]);
    // Up to the newest that the visitor saw, or that there is now.
    let seen = match query.get("up_to").and_then(|seq| seq.parse().ok()) {
        Some(seq) => Some(seq),
        None => {
            let page = context.inbox.page(selection.filter().limit(1), PageCursor::Newest).await?;
            page.events.first().map(|event| event.seq)
        }
    };
    let Some(up_to) = seen else {
        return Ok(
            html! { section.card.confirm { h1 { "No dead letter is like this any more." } p { a.button href=(back) { "Back" } } } },
        );
    };
    let filter: EventFilter = selection.filter().up_to(up_to);
    let counted = context.inbox.count_by_event(filter).await?;
    let number = match counted.total {
        Count::Exactly(count) => plural(count, "dead letter", "dead letters"),
        Count::AtLeast(count) => format!("more than {} dead letters", thousands(count)),
    };
    let reason = reason_title(context, &selection).await?;
    let title = html! { @if is_purge { "Purge " } @else { "Replay " } (number) "?" };
    let what = html! {
        ul.what { @for (name, count) in &counted.names { li { (kind_icon(name)) (visible(name)) span.n { (thousands(*count)) } } } }
        @if let Some(text) = &selection.text { p.small { "Only those found by “" (visible(text)) "”." } }
        @if let Some(reason) = &reason { p.small { "Only those with the reason “" (reason) "”." } }
        p.small { "What becomes a dead letter later is left." }
    };
    let up_to = up_to.to_string();
    let own = selection.pairs();
    let mut fields: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("up_to", &up_to));
    Ok(question(&title, &what, is_purge, &fields, &back))
}

fn question(title: &Markup, what: &Markup, is_purge: bool, fields: &[(&str, &str)], back: &str) -> Markup {
    let (action, style) = if is_purge { ("purge", "danger") } else { ("replay", "primary") };
    html! {
        section.card.confirm {
            h1 { (title) }
            p {
                @if is_purge { "The bodies are deleted for good, and no handler is called. Later duplicates are still recognized." }
                @else { "Your handler is called once more for each, and attempts count from zero." }
            }
            (what)
            form method="post" action="?" {
                @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                input type="hidden" name="back" value=(back);
                button.(style) name="do" value=(action) { @if is_purge { "Purge" } @else { "Replay" } }
                a.button href=(back) { "Leave them" }
            }
        }
    }
}
