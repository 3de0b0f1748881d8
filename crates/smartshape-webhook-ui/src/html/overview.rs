//! Overview: whether events are handled, and what to do if not.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use smartshape_webhook_inbox::{
    ActivitySlot, Count, DeadLetterReason, EventFilter, EventState, InboxError, PageCursor, StoredEvent,
};

use super::text::{ago, bytes, duration, plural, thousands, visible};
use super::{Context, action, chart, chip, error, icon, kind_icon, reason_text, unless_older};
use crate::access::Role;
use crate::query::{Query, Selection, link};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const QUARTER: Duration = Duration::from_secs(15 * 60);
const MINUTE: Duration = Duration::from_secs(60);
/// Number of reasons of dead letters that are listed, the most frequent.
const SHOWN_REASONS: u32 = 6;

/// Name and title of a chart.
const SPANS: [(&str, &str); 3] =
    [("1h", "The last hour"), ("24h", "The last 24 hours"), ("14d", "The last 14 days")];

pub(super) async fn page(context: &Context<'_>, query: &Query) -> Result<Markup, InboxError> {
    let inbox = context.inbox;
    let since = |period: Duration| context.now - SignedDuration::try_from(period).unwrap_or_default();
    let (name, title) = *SPANS.iter().find(|(name, _)| query.get("span") == Some(name)).unwrap_or(&SPANS[1]);
    // One read for all figures, so that they agree. Nothing if an older version recorded none.
    let minutes = unless_older(inbox.activity(since(DAY + QUARTER), MINUTE).await)?.unwrap_or_default();
    let day = merged(&minutes, since(DAY), QUARTER);
    let last_hour = merged(&minutes, since(HOUR), MINUTE);
    let activity = match name {
        "1h" => last_hour.clone(),
        "24h" => day.clone(),
        _ => unless_older(inbox.activity(since(14 * DAY), 4 * HOUR).await)?.unwrap_or_default(),
    };
    let mut reasons = unless_older(inbox.dead_letter_reasons(SHOWN_REASONS + 1).await)?.unwrap_or_default();
    let has_more = reasons.len() > SHOWN_REASONS as usize;
    reasons.truncate(SHOWN_REASONS as usize);
    let latest = inbox.page(EventFilter::default().limit(12), PageCursor::Newest).await?.events;
    Ok(html! {
        (summary(context, reasons.len(), has_more, &last_hour))
        (tiles(context, &day, &last_hour))
        div.cols {
            section.card.wide aria-labelledby="h-day" {
                div.head {
                    h2 #h-day { (title) }
                    nav.spans aria-label="Period" {
                        @for (other, _) in &SPANS {
                            a href=(link(&[("view", "overview"), ("span", other)])) aria-current=[(*other == name).then_some("true")] { (other) }
                        }
                    }
                    ul.legend { li.arrived { "stored" } li.done { "completed" } li.retried { "to be retried" } li.dead { "dead letters" } }
                }
                div #chart data-live {
                    @if !activity.is_empty() { (chart::bars(&activity, name == "14d")) }
                    @else { p.empty { "This inbox was opened read-only and has the tables of an older version, which recorded no activity." } }
                }
            }
            (why(context, &reasons, has_more))
        }
        (latest_events(context, &latest))
        footer.page {
            span { (bytes(context.counts.disk_bytes)) " on the disk" }
            span { "about " (thousands(context.counts.stored)) " events stored" }
            span { "as of " (context.now.strftime("%H:%M")) " UTC" }
        }
    })
}

/// Minutes from `from` on, as slots of `width`.
fn merged(minutes: &[ActivitySlot], from: Timestamp, width: Duration) -> Vec<ActivitySlot> {
    let width = i64::try_from(width.as_secs()).unwrap_or(i64::MAX);
    let number = |time: Timestamp| time.as_second().div_euclid(width);
    let first = minutes.partition_point(|slot| number(slot.start) < number(from));
    let slots = minutes[first..].chunk_by(|one, next| number(one.start) == number(next.start));
    let merged = slots.filter_map(|slots| {
        slots.iter().cloned().reduce(|mut sum, slot| {
            sum.stored += slot.stored;
            sum.completed += slot.completed;
            sum.retried += slot.retried;
            sum.dead_letters += slot.dead_letters;
            sum.handler_time += slot.handler_time;
            sum.max_handler_time = sum.max_handler_time.max(slot.max_handler_time);
            sum.max_waiting = sum.max_waiting.max(slot.max_waiting);
            sum.max_overdue = sum.max_overdue.max(slot.max_overdue);
            sum
        })
    });
    merged.collect()
}

fn sum(slots: &[ActivitySlot], field: impl Fn(&ActivitySlot) -> u64) -> u64 {
    slots.iter().map(field).sum()
}

/// One sentence, the worst first, and the button that goes with it.
fn summary(context: &Context<'_>, reasons: usize, has_more: bool, last_hour: &[ActivitySlot]) -> Markup {
    let counts = &context.counts;
    let (waiting, dead) = (counts.waiting.get(), counts.dead_letters.get());
    let (stored, completed) = (sum(last_hour, |slot| slot.stored), sum(last_hour, |slot| slot.completed));
    let no_worker = context.workers.as_ref().is_some_and(Vec::is_empty);
    let overdue = counts.overdue.filter(|overdue| *overdue > MINUTE);
    let resume = html! { "Resume" };
    let pause = html! { "Pause workers" };
    let may_operate = context.may(Role::Operator);
    html! {
        div.summary {
            div #summary data-live {
                h1 {
                    @if let Some(pause) = &context.pause { "Workers are paused by " bdi { (visible(&pause.by)) } "." }
                    @else if no_worker && waiting > 0 { "No worker has reported for a minute; " (plural(waiting, "event waits.", "events wait.")) }
                    @else if dead > 0 {
                        (dead_count(counts.dead_letters))
                        @if reasons > 0 { ", for " @if has_more { "more than " } (plural(reasons as u64, "reason", "reasons")) } "."
                    }
                    @else if no_worker { "No worker has reported for a minute." }
                    @else if overdue.is_some() { "Handling falls behind." }
                    @else if context.workers.is_none() && waiting > 0 { "It is not known whether a worker is alive; " (plural(waiting, "event waits.", "events wait.")) }
                    @else { "Everything is handled." }
                }
                p {
                    @if waiting > 0 { (plural(waiting, "event waits", "events wait")) @if let Some(overdue) = counts.overdue { ", the longest for " (duration(overdue)) } ". " }
                    @else { "Nothing waits. " }
                    @if !last_hour.is_empty() { "In the last hour " (thousands(stored)) " came and " (thousands(completed)) " were completed." }
                    @if no_worker { " Workers of older versions do not report." }
                }
            }
            div.buttons {
                @if dead > 0 { a.button.primary href="?view=events&state=dead-letter" { "See dead letters" } }
                @if may_operate && context.workers.is_some() {
                    @if context.pause.is_some() { (action("resume", &resume, "primary", &[], "?view=overview")) }
                    @else { (action("pause", &pause, "button", &[], "?view=overview")) }
                }
            }
        }
    }
}

fn dead_count(count: Count) -> String {
    match count {
        Count::Exactly(count) => plural(count, "event is a dead letter", "events are dead letters"),
        Count::AtLeast(count) => format!("More than {} events are dead letters", thousands(count)),
    }
}

fn tiles(context: &Context<'_>, day: &[ActivitySlot], last_hour: &[ActivitySlot]) -> Markup {
    let counts = &context.counts;
    let depth: Vec<u64> = day.iter().map(|slot| slot.max_waiting).collect();
    let waits: Vec<u64> = day.iter().map(|slot| slot.max_overdue.as_secs()).collect();
    let completed: Vec<u64> = last_hour.iter().map(|slot| slot.completed).collect();
    let dead: Vec<u64> = day.iter().map(|slot| slot.dead_letters).collect();
    let attempts = sum(last_hour, |slot| slot.completed + slot.retried + slot.dead_letters);
    let time: Duration = last_hour.iter().map(|slot| slot.handler_time).sum();
    let mean = u32::try_from(attempts).ok().filter(|attempts| *attempts > 0).map(|attempts| time / attempts);
    let most = day.iter().map(|slot| slot.max_overdue).chain(counts.overdue).max().unwrap_or_default();
    html! {
        section.tiles aria-label="Now" {
            a.tile href="?view=events&state=waiting" {
                span.label { "Waiting" }
                span.row #t-wait data-live {
                    span.value { (counts.waiting) }
                    span.note { (counts.running) " running" @if counts.retrying.get() > 0 { ", " (counts.retrying) " to be retried" } }
                }
                (chart::sparkline(&depth, "wait", "Most waiting events in each quarter of an hour of the last 24 hours"))
            }
            a.tile href="?view=events&state=waiting" {
                span.label { "Longest wait" }
                span.row #t-old data-live {
                    span.value { (counts.overdue.map_or_else(|| "–".to_owned(), duration)) }
                    @if !day.is_empty() { span.note { "most in 24 h: " (duration(most)) } }
                }
                (chart::sparkline(&waits, "wait", "Longest wait in each quarter of an hour of the last 24 hours"))
            }
            a.tile href="?view=events&state=completed" {
                span.label { "Completed in 1 h" }
                span.row #t-done data-live {
                    span.value { @if last_hour.is_empty() { "–" } @else { (thousands(completed.iter().sum())) } }
                    span.note { @if let Some(mean) = mean { (duration(mean)) " an attempt" } }
                }
                (chart::sparkline(&completed, "done", "Completed in each minute of the last hour"))
            }
            a.tile href="?view=events&state=dead-letter" {
                span.label { "Dead letters" }
                span.row #t-dead data-live {
                    span class={ "value" @if counts.dead_letters.get() > 0 { " bad" } } { (counts.dead_letters) }
                    @if !day.is_empty() { span.note { "+" (thousands(dead.iter().sum())) " in 24 h" } }
                }
                (chart::sparkline(&dead, "dead", "New dead letters in each quarter of an hour of the last 24 hours"))
            }
        }
    }
}

fn why(context: &Context<'_>, reasons: &[DeadLetterReason], has_more: bool) -> Markup {
    let most = reasons.first().map_or(1, |reason| reason.dead_letters).max(1);
    let newest = reasons.iter().map(|reason| reason.last_seq).max().unwrap_or(0).to_string();
    let may_read = context.may(Role::Reader);
    let all = Selection { state: Some(EventState::DeadLetter), ..Selection::default() };
    html! {
        section.card aria-labelledby="h-why" {
            div.head { h2 #h-why { "Why events are dead letters" } }
            div #why data-live {
                @if context.counts.dead_letters.get() == 0 { p.empty { "There are no dead letters." } }
                @else if !may_read { p.empty { "Errors may hold personal data: you see their number only." } }
                @else {
                    ol.reasons {
                        @for reason in reasons {
                            @let of_reason = Selection { reason: Some(reason.id), ..all.clone() };
                            li {
                                div.top-row {
                                    strong { (thousands(reason.dead_letters)) }
                                    span.names { (visible(&reason.last_event_name)) }
                                    (ago(reason.last_received_at, context.now))
                                }
                                a.msg href=(of_reason.link("events", &[])) {
                                    (reason_text(reason))
                                }
                                svg.share viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
                                    rect class="bg" width="100" height="4" {}
                                    rect width=(reason.dead_letters * 100 / most) height="4" {}
                                }
                                @if context.may(Role::Operator) {
                                    a.more href=(of_reason.link("confirm", &[("do", "replay"), ("up_to", &newest)])) {
                                        @if reason.dead_letters == 1 { "Replay it…" } @else { "Replay these " (thousands(reason.dead_letters)) "…" }
                                    }
                                }
                            }
                        }
                    }
                    @if has_more { div.foot { a.more href=(all.link("events", &[])) { "All dead letters, for other reasons too" } } }
                    @if context.may(Role::Operator) && !reasons.is_empty() {
                        div.foot {
                            a.button href=(all.link("confirm", &[("do", "replay")])) {
                                (icon("replay")) "Replay all " (context.counts.dead_letters) "…"
                            }
                        }
                    }
                }
            }
        }
    }
}

fn latest_events(context: &Context<'_>, events: &[StoredEvent]) -> Markup {
    html! {
        section.card aria-labelledby="h-latest" {
            div.head { h2 #h-latest { "Latest events" } a.more href="?view=events" { "All events" } }
            div.scroll tabindex="0" role="region" aria-labelledby="h-latest" {
                table.events #latest data-live {
                    thead { tr { th scope="col" { "State" } th scope="col" { "Event" } th scope="col" { "File" } th scope="col" { "Received" } th.r scope="col" { "Attempts" } th scope="col" { "Last error" } } }
                    tbody {
                        @for event in events {
                            tr {
                                td { (chip(event.state)) }
                                td { a.ev href=(Selection::default().event_link(event.key)) { (kind_icon(&event.event_name)) (visible(&event.event_name)) } }
                                td.mono { (visible(&event.file)) }
                                td.t { (ago(event.received_at, context.now)) }
                                td.r { (event.attempts) }
                                td.err { @if let Some(error) = error(context, event) { span { (visible(error)) } } @else { span.none { "–" } } }
                            }
                        }
                    }
                }
                @if events.is_empty() { p.empty.pad { "No event has arrived yet." } }
            }
        }
    }
}
