//! Pages, counts and reasons: what a person sees of an inbox, whatever its size.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    COMPLETED, LONG, dead_letter, new_event, new_events, on_each_storage, result, retention, retry,
};
use crate::event::{EventState, NewEvent};
use crate::filter::EventFilter;
use crate::stats::Count;
use crate::storage::{AttemptOutcome, ClaimRequest};
use crate::{Inbox, PageCursor, ReasonId};

/// Ends the attempts at the earliest waiting events.
async fn end(inbox: &Inbox, outcomes: Vec<AttemptOutcome>) {
    let attempts = inbox.storage().attempts(outcomes.len() as u32, LONG).await;
    let results = attempts.iter().zip(outcomes).map(|(attempt, outcome)| result(attempt.lease, outcome));
    inbox.storage().settle(results.collect()).await.unwrap();
}

/// Stores 30 events: every third is dead, every third completed, every third waits; the last one of each is about `b`.
async fn store_thirty(inbox: &Inbox) {
    inbox.storage().insert(new_events(0..27, "a")).await.unwrap();
    inbox.storage().insert(new_events(27..30, "b")).await.unwrap();
    let outcome = |number: usize| match number % 3 {
        0 => dead_letter("no"),
        1 => COMPLETED,
        _ => retry(LONG),
    };
    end(inbox, (0..30).map(outcome).collect()).await;
}

/// Goes to the oldest page and back again, and returns what was seen on each way.
async fn walk(inbox: &Inbox, filter: &EventFilter, max_examined: u32) -> [BTreeSet<i64>; 2] {
    let page = |cursor| inbox.page_within(filter.clone(), cursor, max_examined);
    let (mut down, mut up) = (BTreeSet::new(), BTreeSet::new());
    let mut newest_first = i64::MAX;
    let mut page_now = page(PageCursor::Newest).await.unwrap();
    assert_eq!(page_now.newer, None);
    loop {
        for event in &page_now.events {
            assert!(event.seq < newest_first, "newest first, none twice");
            newest_first = event.seq;
            down.insert(event.seq);
        }
        match page_now.older {
            Some(older) => page_now = page(PageCursor::OlderThan(older)).await.unwrap(),
            None => break,
        }
        assert!(page_now.events.len() as u32 <= filter.limit);
    }
    up.extend(page_now.events.iter().map(|event| event.seq));
    while let Some(newer) = page_now.newer {
        page_now = page(PageCursor::NewerThan(newer)).await.unwrap();
        assert!(page_now.events.is_sorted_by(|one, other| one.seq > other.seq));
        up.extend(page_now.events.iter().map(|event| event.seq));
    }
    [down, up]
}

on_each_storage! {
    inbox:
    pages_reach_every_event_in_both_directions
    page_examines_bounded_number_of_events
    reasons_group_errors_without_ids
    reasons_of_older_versions_are_recorded_by_sweep
    counts_are_exact_below_limit
    replay_and_purge_leave_later_events
    text_filter_finds_exact_ids_and_words
}

async fn pages_reach_every_event_in_both_directions(inbox: &Inbox) {
    store_thirty(inbox).await;
    let filters = [
        (EventFilter::default(), 30),
        (EventFilter::default().state(EventState::DeadLetter), 10),
        (EventFilter::default().state(EventState::Completed), 10),
        (EventFilter::default().state(EventState::Waiting), 10),
        (EventFilter::default().state(EventState::Running), 0),
        (EventFilter::default().file("a"), 27),
        (EventFilter::default().file("b").state(EventState::DeadLetter), 1),
        (EventFilter::default().reason(ReasonId::from_error("no")), 10),
        (EventFilter::default().event("file_removed"), 0),
    ];
    for (filter, expected) in filters {
        for limit in [1, 4, 30, 1000] {
            for max_examined in [3, 7, 50_000] {
                let filter = filter.clone().limit(limit);
                let [down, up] = walk(inbox, &filter, max_examined).await;
                assert_eq!(down.len(), expected, "{filter:?} {max_examined}");
                assert_eq!(down, up, "{filter:?} {max_examined}");
            }
        }
    }
}

/// A page that ends early says so, and its cursor continues there.
async fn page_examines_bounded_number_of_events(inbox: &Inbox) {
    store_thirty(inbox).await;
    let earliest = inbox.events().await[0].clone();
    let filter = EventFilter::default().event("none");
    let page = inbox.page_within(filter.clone(), PageCursor::Newest, 10).await.unwrap();
    assert!(page.events.is_empty() && page.is_partial);
    assert_eq!(page.older, Some(earliest.seq + 20));
    let page = inbox.page_within(filter.clone(), PageCursor::OlderThan(earliest.seq + 10), 10).await.unwrap();
    assert!(!page.is_partial && page.older.is_none(), "{page:?}");
    let page = inbox.page_within(filter.clone(), PageCursor::NewerThan(earliest.seq), 10).await.unwrap();
    assert!(page.is_partial);
    assert_eq!(page.newer, Some(earliest.seq + 10));
    // A filter for dead letters examines dead letters only, however many other events are between them.
    let dead = filter.state(EventState::DeadLetter);
    let page = inbox.page_within(dead.clone(), PageCursor::Newest, 9).await.unwrap();
    assert_eq!((page.is_partial, page.older), (true, Some(earliest.seq + 1)));
    assert!(!inbox.page_within(dead, PageCursor::Newest, 10).await.unwrap().is_partial);
    let counted = inbox.count_by_event_within(EventFilter::default(), 10).await.unwrap();
    assert_eq!(counted.names, [("file_uploaded".to_owned(), 10)]);
    assert_eq!(counted.total, Count::AtLeast(10));
    let counted = inbox.count_by_event(EventFilter::default().state(EventState::DeadLetter)).await.unwrap();
    assert_eq!(counted.total, Count::Exactly(10));
}

async fn reasons_group_errors_without_ids(inbox: &Inbox) {
    inbox.storage().insert(new_events(0..6, "f")).await.unwrap();
    let errors =
        ["no part 5c6aeed0", "no part 5c6aeed1", "timed out", "no part 5c6aeed2", "no part 5c6aeed3"];
    end(inbox, errors.map(dead_letter).into()).await;
    let reasons = inbox.dead_letter_reasons(9).await.unwrap();
    let shown: Vec<_> = reasons.iter().map(|reason| (&*reason.text, reason.dead_letters)).collect();
    assert_eq!(shown, [("no part …", 4), ("timed out", 1)]);
    assert_eq!(inbox.dead_letter_reasons(1).await.unwrap().len(), 1);
    let of_parts = EventFilter::default().reason(reasons[0].id);
    let events = inbox.list(of_parts.clone()).await.unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!((events[3].seq, &*events[3].event_name), (reasons[0].last_seq, &*reasons[0].last_event_name));
    // Replayed and completed, it has no reason any more.
    assert_eq!(inbox.replay(of_parts.clone()).await.unwrap(), 4);
    end(inbox, vec![COMPLETED; 5]).await;
    assert!(inbox.list(of_parts).await.unwrap().is_empty());
    assert_eq!(inbox.dead_letter_reasons(9).await.unwrap().len(), 1);
}

/// An older version, and a claim that finds too many lost leases, record none.
async fn reasons_of_older_versions_are_recorded_by_sweep(inbox: &Inbox) {
    inbox.storage().insert(new_events(0..3, "f")).await.unwrap();
    let request = ClaimRequest { max_lost_leases: 1, ..ClaimRequest::new(3, Duration::ZERO) };
    inbox.storage().claim(request).await.unwrap();
    assert_eq!(inbox.storage().claim(request).await.unwrap().dead_lettered, 3);
    let unknown = inbox.dead_letter_reasons(9).await.unwrap();
    assert_eq!(unknown[0].dead_letters, 3);
    let filter = EventFilter::default().reason(unknown[0].id);
    assert_eq!(inbox.list(filter.clone()).await.unwrap().len(), 3);
    inbox.storage().sweep(retention(LONG, LONG)).await.unwrap();
    assert!(inbox.list(filter).await.unwrap().is_empty());
    let known = inbox.dead_letter_reasons(9).await.unwrap();
    let error = inbox.events().await[0].error.clone().unwrap();
    assert_eq!((known.len(), known[0].id, known[0].dead_letters), (1, ReasonId::from_error(&error), 3));
}

async fn counts_are_exact_below_limit(inbox: &Inbox) {
    let none = inbox.counts().await.unwrap();
    assert_eq!((none.waiting, none.dead_letters, none.stored), (Count::Exactly(0), Count::Exactly(0), 0));
    assert_eq!(none.overdue, None);
    assert_eq!(inbox.stats().await.unwrap().oldest_waiting, None);
    inbox.storage().insert(new_events(0..8, "f")).await.unwrap();
    end(inbox, vec![retry(LONG), retry(LONG), dead_letter("no")]).await;
    inbox.storage().attempt(LONG).await;
    let counts = inbox.counts().await.unwrap();
    let exactly = [counts.waiting, counts.retrying, counts.running, counts.dead_letters];
    assert_eq!(exactly, [6, 2, 1, 1].map(Count::Exactly));
    assert_eq!((counts.stored, counts.overdue.is_some()), (8, true));
    assert!(counts.disk_bytes > 0 && counts.overdue < Some(LONG));
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running, stats.dead_letters), (6, 1, 1));
    assert!(stats.oldest_waiting.unwrap() < LONG && stats.disk_bytes > 0);
    assert_eq!((Count::Exactly(5).to_string(), Count::AtLeast(5).to_string()), ("5".into(), "≥ 5".into()));
}

/// What died or arrived since a person looked is not touched.
async fn replay_and_purge_leave_later_events(inbox: &Inbox) {
    inbox.storage().insert(new_events(0..4, "f")).await.unwrap();
    end(inbox, vec![dead_letter("no"); 3]).await;
    let seen =
        inbox.page(EventFilter::default().state(EventState::DeadLetter), PageCursor::Newest).await.unwrap();
    end(inbox, vec![dead_letter("no")]).await;
    let bound = EventFilter::default().state(EventState::DeadLetter).up_to(seen.events[0].seq);
    assert_eq!(inbox.replay(bound.clone()).await.unwrap(), 3);
    end(inbox, vec![dead_letter("no"); 3]).await;
    assert_eq!(inbox.purge(bound).await.unwrap(), 3);
    let left = inbox.in_state(EventState::DeadLetter).await;
    assert_eq!(left.len(), 1);
    assert!(left[0].seq > seen.events[0].seq);
}

async fn text_filter_finds_exact_ids_and_words(inbox: &Inbox) {
    let events = [("part_1", "ops@smartshape.io"), ("part-1", "Ops%"), ("part", "o\\p")];
    let events = events
        .iter()
        .zip(0..)
        .map(|((file, owner), number)| NewEvent { owner: (*owner).to_owned(), ..new_event(number, file) });
    inbox.storage().insert(events.collect()).await.unwrap();
    end(inbox, ["HTTP 503: Try Later", "100% full", "C:\\temp_1"].map(dead_letter).into()).await;
    let found = async |text: &str| {
        let filter = EventFilter::default().text(text);
        let page = inbox.page(filter, PageCursor::Newest).await.unwrap();
        page.events.iter().map(|event| event.file.clone()).rev().collect::<Vec<_>>()
    };
    assert_eq!(found("part_1").await, ["part_1"]);
    assert_eq!(found("uuid-2").await, ["part"]);
    assert_eq!(found("try later").await, ["part_1"]);
    assert_eq!(found("0% F").await, ["part-1"]);
    assert_eq!(found("OPS").await, ["part_1", "part-1"]);
    assert_eq!(found("%").await, ["part-1"], "no wildcard");
    assert_eq!(found("p_1").await, ["part"], "no wildcard");
    assert_eq!(found("o\\p").await, ["part"]);
    assert_eq!(found("nowhere").await, [""; 0]);
    let key = inbox.events().await[1].key;
    assert_eq!(found(&key.to_string()).await, ["part-1"]);
}
