//! The pages.

mod chart;
mod confirm;
mod event;
mod events;
pub(crate) mod inspector;
mod json;
mod overview;
mod text;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use smartshape_webhook_inbox::{
    DeadLetterReason, EventState, Inbox, InboxCounts, InboxError, InboxErrorKind, Pause, StoredEvent,
    WorkerInfo,
};

use crate::access::{Role, Visitor};
use crate::query::{Query, Selection};
use crate::response::{CSS, JS};
use text::{clock, plural, thousands, visible};

const SPRITE: &str = include_str!("../../assets/sprite.svg");
/// Number of reasons, the most frequent, whose text is found by their id.
const NAMED_REASONS: u32 = 100;

pub(crate) struct Page {
    pub(crate) html: String,
    /// Whether the page exists: the frame is shown in any case.
    pub(crate) is_found: bool,
}

/// What every page knows.
struct Context<'a> {
    inbox: &'a Inbox,
    visitor: &'a Visitor,
    counts: InboxCounts,
    workers: Option<Vec<WorkerInfo>>,
    pause: Option<Pause>,
    now: Timestamp,
}

impl Context<'_> {
    fn may(&self, role: Role) -> bool {
        self.visitor.role >= role
    }
}

/// A read-only inbox of an older version has no such table.
pub(crate) fn unless_older<T>(found: Result<T, InboxError>) -> Result<Option<T>, InboxError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == InboxErrorKind::OlderSchema => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn page(
    inbox: &Inbox,
    label: &str,
    query: &Query,
    visitor: &Visitor,
) -> Result<Page, InboxError> {
    let context = Context {
        inbox,
        visitor,
        counts: inbox.counts().await?,
        workers: unless_older(inbox.workers().await)?,
        pause: unless_older(inbox.paused().await)?.flatten(),
        now: Timestamp::now(),
    };
    let selection = Selection::from_query(query);
    let view = match query.get("event") {
        Some(_) if query.get("view") != Some("confirm") => "events",
        _ => query.get("view").unwrap_or("overview"),
    };
    let (title, main, is_found) = match view {
        "overview" => ("Overview", overview::page(&context, query).await?, true),
        "events" => {
            let (main, is_found) = events::page(&context, &selection, query.get("event")).await?;
            (
                if selection.state == Some(EventState::DeadLetter) { "Dead letters" } else { "Events" },
                main,
                is_found,
            )
        }
        "confirm" => match confirm::page(&context, &selection, query).await? {
            Some(main) => ("Please confirm", main, true),
            None => ("Not found", not_found("?view=overview", "Overview"), false),
        },
        _ => ("Not found", not_found("?view=overview", "Overview"), false),
    };
    let page_frame = inbox_frame(view, selection.state, Some(&context.counts));
    let tools = html! { (workers(&context)) (live()) };
    let done = flash(query);
    Ok(Page { html: frame(title, label, &page_frame, visitor, &tools, done.as_ref(), &main), is_found })
}

/// The page that leads to the address without the key. A redirect would not do: after a link on another site, or in a
/// file, a browser sends no `SameSite=Strict` cookie before a page of the console itself has asked for the next one.
pub(crate) fn entered() -> String {
    let refresh = html! { meta http-equiv="refresh" content="0; url=?"; };
    outside(&refresh, &html! { p { a.button href="?" { "To the console" } } })
}

/// The page of those who are not admitted.
pub(crate) fn rejected(remedy: &str) -> String {
    outside(&html! {}, &html! { h1 { "You are not logged in" } p { (remedy) } })
}

/// A page without anything of the inbox.
fn outside(head: &Markup, main: &Markup) -> String {
    let head = html! { title { "SmartShape" } (head) };
    document(&head, &html! { body { main { section.card.confirm { (main) } } } })
}

fn document(head: &Markup, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href=(asset("icon.svg"));
                link rel="stylesheet" href=(asset("ui.css"));
                (head)
            }
            (body)
        }
    };
    page.into_string()
}

/// The page while the inbox cannot be read.
pub(crate) fn unavailable(label: &str, visitor: &Visitor) -> String {
    let main = html! {
        section.card.confirm {
            h1 { "The inbox cannot be read" }
            p { "Its database does not respond, or not in time. The application's log has the reason." }
            p { a.button href="?" { "Try again" } }
        }
    };
    frame("Not available", label, &inbox_frame("", None, None), visitor, &html! {}, None, &main)
}

/// The page of an unknown view, with a link to one that exists.
fn not_found(home: &str, name: &str) -> Markup {
    html! {
        section.card.confirm {
            h1 { "There is no such page" }
            p { a.button href=(home) { (name) } }
        }
    }
}

/// What the pages of an inbox, or those of a listener, have in common.
struct Frame {
    name: &'static str,
    home: &'static str,
    view: &'static str,
    links: Markup,
}

fn current(here: bool) -> Option<&'static str> {
    here.then_some("page")
}

fn inbox_frame(view: &str, state: Option<EventState>, counts: Option<&InboxCounts>) -> Frame {
    let view = ["overview", "events", "confirm"].into_iter().find(|known| *known == view).unwrap_or_default();
    let is_dead = view == "events" && state == Some(EventState::DeadLetter);
    let links = html! {
        a href="?view=overview" aria-current=[current(view == "overview")] { "Overview" }
        a href="?view=events" aria-current=[current(view == "events" && !is_dead)] { "Events" }
        a href="?view=events&state=dead-letter" aria-current=[current(is_dead)] {
            "Dead letters "
            span #n-dead data-live {
                @if let Some(dead) = counts.map(|counts| counts.dead_letters).filter(|dead| dead.get() > 0) {
                    span.badge { (dead) }
                }
            }
        }
    };
    Frame { name: "SmartShape inbox", home: "?view=overview", view, links }
}

fn frame(
    title: &str,
    label: &str,
    frame: &Frame,
    visitor: &Visitor,
    tools: &Markup,
    done: Option<&Markup>,
    main: &Markup,
) -> String {
    let head = html! {
        meta name="robots" content="noindex";
        title { (title) " · " (frame.name) @if !label.is_empty() { " · " (label) } }
        script type="module" src=(asset("ui.js")) {}
    };
    let body = html! {
        body data-view=(frame.view) {
            a.skip href="#main" { "Skip to content" }
            (PreEscaped(SPRITE))
            header.top {
                a.brand href=(frame.home) {
                    img src=(asset("icon.svg")) alt="" width="28" height="28";
                    span.name { (frame.name) }
                    @if !label.is_empty() { span.label { (label) } }
                }
                nav aria-label="Pages" {
                    (frame.links)
                }
                div.tools {
                    (tools)
                    @if visitor.role < Role::Operator { span.ro { "Read only" } }
                    @if !visitor.name.is_empty() { span.who title="You" { bdi { (visible(&visitor.name)) } } }
                    button.theme type="button" hidden title="Light or dark" { (icon("moon")) span.vh { "Light or dark" } }
                }
            }
            @if let Some(done) = done { p.flash role="status" { (done) } }
            main #main tabindex="-1" { (main) }
        }
    };
    document(&head, &body)
}

/// The link changes with each version, since browsers keep assets for a year.
fn asset(name: &str) -> String {
    format!("?asset={name}&v={}.{}", env!("CARGO_PKG_VERSION"), CSS.len() + JS.len())
}

fn live() -> Markup {
    html! {
        button.live type="button" hidden aria-pressed="true" title="Updates by itself; press to pause" {
            span.dot {} span.t { "Live" }
        }
    }
}

/// Whether events are handled, in a word.
fn workers(context: &Context<'_>) -> Markup {
    let count = context.workers.as_ref().map(|workers| workers.len() as u64);
    html! {
        span #workers data-live {
            @if let Some(pause) = &context.pause {
                span.worker.hold { span.dot {} "paused by " bdi { (visible(&pause.by)) } " " (clock(pause.since)) }
            } @else {
                @match count {
                    None => span.worker { span.dot {} "workers unknown" },
                    Some(0) => span.worker.bad { span.dot {} "no worker reports" },
                    Some(count) => span.worker.ok { span.dot {} (plural(count, "worker", "workers")) },
                }
            }
        }
    }
}

/// What was done before this page.
fn flash(query: &Query) -> Option<Markup> {
    let action = query.get("done")?;
    let count: u64 = query.get("count").and_then(|count| count.parse().ok()).unwrap_or(0);
    Some(html! {
        @match action {
            "replay" => { (plural(count, "event waits", "events wait")) " for another attempt." }
            "purge" => { (thousands(count)) @if count == 1 { " body was deleted." } @else { " bodies were deleted." } }
            "pause" => { "Workers are paused: none starts an attempt." }
            "resume" => { "Workers go on." }
            "resend" if count == 1 => { "Sent again, and accepted." }
            "resend" => { "Sent again, but not accepted: see below." }
            "sample" if count == 1 => { "The sample was sent, and accepted." }
            "sample" => { "The sample was not accepted." }
            _ => {}
        }
    })
}

fn icon(name: &'static str) -> Markup {
    html! { svg.i aria-hidden="true" { (PreEscaped(format!("<use href=\"#i-{name}\"/>"))) } }
}

/// The icon of an event's name.
fn kind_icon(event: &str) -> Markup {
    let family = event.split('_').next().unwrap_or_default();
    icon(
        ["annotation", "attribute", "configuration"]
            .into_iter()
            .find(|known| *known == family)
            .unwrap_or("file"),
    )
}

fn chip(state: EventState) -> Markup {
    let class = match state {
        EventState::Waiting => "waiting",
        EventState::Running => "work",
        EventState::DeadLetter => "dead",
        _ => "done",
    };
    let text = state.as_str();
    html! { span class={ "chip " (class) } { (text[..1].to_uppercase()) (text[1..]) } }
}

/// A form that changes something at once.
fn action(action: &str, label: &Markup, class: &str, fields: &[(&str, &str)], back: &str) -> Markup {
    html! {
        form method="post" action="?" {
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            input type="hidden" name="back" value=(back);
            button class=(class) name="do" value=(action) { (label) }
        }
    }
}

/// The owner and the error are not for everybody.
fn owner<'a>(context: &Context<'_>, event: &'a StoredEvent) -> Option<&'a str> {
    event.owner.as_deref().filter(|_| context.may(Role::Reader))
}

fn error<'a>(context: &Context<'_>, event: &'a StoredEvent) -> Option<&'a str> {
    event.error.as_deref().filter(|_| context.may(Role::Reader))
}

fn reason_text(reason: &DeadLetterReason) -> Markup {
    html! { @if reason.text.is_empty() { "(an empty error)" } @else { (visible(&reason.text)) } }
}

/// The text of the chosen reason, or its id: for those who may not see errors, and when it is not among the most
/// frequent ones.
async fn reason_title(context: &Context<'_>, selection: &Selection) -> Result<Option<Markup>, InboxError> {
    let Some(id) = selection.reason else { return Ok(None) };
    let reasons = match context.may(Role::Reader) {
        true => unless_older(context.inbox.dead_letter_reasons(NAMED_REASONS).await)?.unwrap_or_default(),
        false => Vec::new(),
    };
    let reason = reasons.iter().find(|reason| reason.id == id);
    Ok(Some(
        html! { @if let Some(reason) = reason { (reason_text(reason)) } @else { "Reason " code { (id) } } },
    ))
}
