//! What each storage must do, on SQLite and on PostgreSQL.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::{Timestamp, ToSpan as _};
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta};

use super::fixture::{
    COMPLETED, Fixture, LONG, dead_letter, delivery_from, new_event, new_events, on_each_storage, result,
    retention, retry,
};
use crate::event::{EventState, NewEvent};
use crate::filter::EventFilter;
use crate::storage::{Attempt, AttemptOutcome, ClaimRequest, Lease, Retention, Storage};

const AT_ONCE: Duration = Duration::ZERO;

async fn claim_ordered(storage: &Arc<dyn Storage>, events: u32) -> Vec<u32> {
    let request = ClaimRequest::ordered(events, LONG);
    storage.claim(request).await.unwrap().attempts.iter().map(number).collect()
}

fn stored_body(attempt: &Attempt) -> Bytes {
    attempt.body.clone().unwrap().unwrap()
}

/// The number that the fixture puts into an event's data.
fn number(attempt: &Attempt) -> u32 {
    let text = String::from_utf8(stored_body(attempt).to_vec()).unwrap();
    text.split_once("\"n\": ").unwrap().1.split_once('}').unwrap().0.parse().unwrap()
}

on_each_storage! {
    database:
    insert_keeps_body_and_columns_exactly;
    storage:
    insert_keeps_hostile_texts
    insert_keeps_long_body
    insert_keeps_each_key_once
    insert_stores_exactly_new_events_of_batch
    insert_keeps_key_once_among_concurrent_callers
    claim_takes_earliest_up_to_limit
    claim_takes_no_event_twice
    settle_ignores_older_lease
    renew_extends_only_held_leases
    retry_is_claimed_when_due
    ordered_claim_takes_one_event_of_file_at_a_time
    ordered_claim_reaches_files_behind_long_queue
    ordered_claim_follows_unordered_worker
    ordered_claim_orders_each_webhook_separately
    claim_ignores_newer_event_version
    list_get_replay_and_purge_select_by_filter
    filter_selects_by_secret_and_time
    sweep_deletes_after_retention
    sweep_deletes_oldest_over_capacity
    wall_clock_changes_affect_nothing
}

/// The exact body comes back, with what was known beside it.
async fn insert_keeps_body_and_columns_exactly(database: &impl Fixture) {
    let storage = database.storage().await;
    let body = "{ \"file\":\"f\\u00e9\", \"event\":\"file_uploaded\",\"data\":[1e2, 18446744073709551616],\n\
         \"owner\":{\"id\":\"5c\"},\"runTimestamp\":1.5e12, \"uuid\":\"ü\", \"more\": null }";
    let received_at: Timestamp = "2026-11-24T08:00:00.123456Z".parse().unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let key = Some(DeliveryKey::for_webhook("uploads", "ü", "file_uploaded", "5c"));
    let kept = DeliveryMeta {
        key,
        received_at,
        attempt: 1,
        secret_name: Some("uploads".into()),
        webhook: None,
        traceparent: Some(trace.into()),
    };
    let delivery = Delivery::restore(body, kept).unwrap();
    assert_eq!(storage.insert([NewEvent::from(&delivery)].into()).await.unwrap(), [true]);

    // Durable also means: for whoever opens it next.
    drop(storage);
    let storage = database.storage().await;
    let attempt = storage.attempts(9, LONG).await.pop().unwrap();
    assert_eq!(stored_body(&attempt), body.as_bytes());
    assert_eq!((attempt.key, attempt.number, attempt.received_at), (delivery.key(), 1, received_at));
    assert_eq!(attempt.secret_name.as_deref(), Some("uploads"));
    assert_eq!(attempt.traceparent.as_deref(), Some(trace));
    let event = storage.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!(
        (event.file.as_str(), event.event_name.as_str(), event.uuid.as_str()),
        ("fé", "file_uploaded", "ü")
    );
    assert_eq!((event.triggered_at, event.received_at), (delivery.triggered_at(), received_at));
    assert_eq!((event.state, event.body_bytes, event.attempts), (EventState::Running, body.len() as u64, 1));
    assert_eq!((event.owner.as_deref(), event.secret_name.as_deref()), (Some("5c"), Some("uploads")));
}

/// No text that a sender chooses keeps its event out.
async fn insert_keeps_hostile_texts(storage: &Arc<dyn Storage>) {
    // The receiver accepts texts that are hardly longer.
    let long = "x".repeat(16_000);
    let bodies = ["\\u0000", "'; DROP TABLE events; --", "\\ud83d\\ude00\\u202e", &long].map(|text| {
        format!(r#"{{"file":"{text}","event":"{text}","data":{{}},"owner":"{text}","runTimestamp":1,"uuid":"{text}"}}"#)
    });
    let given: Arc<[NewEvent]> = bodies.iter().map(|body| NewEvent::from(&delivery_from(body))).collect();
    assert_eq!(storage.insert(given).await.unwrap(), [true; 4]);
    let attempts = storage.attempts(9, LONG).await;
    let kept: Vec<_> = attempts.iter().map(stored_body).collect();
    for body in bodies {
        assert!(kept.contains(&Bytes::from(body)));
    }
    for attempt in attempts {
        assert!(storage.end(attempt.lease, dead_letter(&"\u{202e}'".repeat(1000))).await);
    }
    assert_eq!(storage.in_state(EventState::DeadLetter).await.len(), 4);
}

/// A receiver accepts bodies that are hardly longer by default.
async fn insert_keeps_long_body(storage: &Arc<dyn Storage>) {
    let long = "y".repeat(50 * 1024 * 1024 - 200);
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":"{long}","owner":"o","runTimestamp":1,"uuid":"u"}}"#
    );
    let given = NewEvent::from(&delivery_from(&body));
    assert_eq!(storage.insert([given.clone()].into()).await.unwrap(), [true]);
    let attempt = storage.attempt(LONG).await;
    assert!(stored_body(&attempt) == given.body, "the body has changed");
    assert!(storage.end(attempt.lease, COMPLETED).await);
    assert!(storage.get(attempt.key).await.unwrap().unwrap().body.is_none());
}

/// A long batch in which some events are known: the others are stored, each with its own body.
async fn insert_stores_exactly_new_events_of_batch(storage: &Arc<dyn Storage>) {
    let known = |number: &u32| number.is_multiple_of(3) || (256..320).contains(number);
    let before: Arc<[NewEvent]> = (0..700).filter(known).map(|number| new_event(number, "f")).collect();
    assert!(storage.insert(before).await.unwrap().iter().all(|new| *new));
    let batch: Arc<[NewEvent]> = (0..700).map(|number| new_event(number, "f")).collect();
    let expected: Vec<bool> = (0..700).map(|number| !known(&number)).collect();
    assert_eq!(storage.insert(Arc::clone(&batch)).await.unwrap(), expected);
    assert_eq!(storage.list(EventFilter::default()).await.unwrap().len(), 700);
    for event in &batch[..] {
        let kept = storage.get(event.key).await.unwrap().unwrap();
        assert_eq!((kept.event.uuid, kept.body.as_ref()), (event.uuid.clone(), Some(&event.body)));
    }
    assert!(storage.insert(batch).await.unwrap().iter().all(|new| !new));
}

/// A duplicate is recognized while its event is waiting, running, completed, a dead letter or purged.
async fn insert_keeps_each_key_once(storage: &Arc<dyn Storage>) {
    let one = || -> Arc<[NewEvent]> { [new_event(1, "f")].into() };
    assert_eq!(storage.insert(one()).await.unwrap(), [true]);
    assert_eq!(storage.insert(one()).await.unwrap(), [false]);
    let attempt = storage.attempt(LONG).await;
    assert_eq!(storage.insert([new_event(1, "f"), new_event(2, "f")].into()).await.unwrap(), [false, true]);
    assert!(storage.end(attempt.lease, COMPLETED).await);
    assert_eq!(storage.insert(one()).await.unwrap(), [false]);
    assert_eq!(storage.purge(EventFilter::default()).await.unwrap(), 1, "the second one");
    assert_eq!(storage.insert(new_events(1..3, "f")).await.unwrap(), [false, false]);
    assert!(storage.attempts(9, LONG).await.is_empty());
}

/// Several callers insert one key concurrently, and one is told that it is new.
async fn insert_keeps_key_once_among_concurrent_callers(storage: &Arc<dyn Storage>) {
    let callers = (0..8).map(async |caller| {
        let mut given: Vec<NewEvent> = (0..50).map(|number| new_event(number, "f")).collect();
        // In another order each, upon which a careless storage deadlocks.
        given.rotate_left(caller * 5);
        storage.insert(given.into()).await.unwrap()
    });
    let fresh = join_all(callers).await.concat();
    assert_eq!(fresh.into_iter().filter(|fresh| *fresh).count(), 50);
    assert_eq!(storage.stats().await.unwrap().waiting, 50);
}

/// A claim takes the earliest events and leaves the rest.
async fn claim_takes_earliest_up_to_limit(storage: &Arc<dyn Storage>) {
    for part in [0..3, 3..6, 6..9] {
        storage.insert(new_events(part, "f")).await.unwrap();
    }
    let mut numbers: Vec<u32> = storage.attempts(4, LONG).await.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(storage.attempts(100, LONG).await.len(), 5);
    assert!(storage.attempts(100, LONG).await.is_empty());
}

/// Eight claimers run at the same time.
async fn claim_takes_no_event_twice(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..200, "f")).await.unwrap();
    let claimers = (0..8).map(async |_| {
        let mut mine = Vec::new();
        loop {
            let attempts = storage.attempts(7, LONG).await;
            // Others may hold locks for a moment; only the store's count says that none is left.
            if attempts.is_empty() && storage.stats().await.unwrap().waiting == 0 {
                return mine;
            }
            mine.extend(attempts.iter().map(number));
        }
    });
    let all = join_all(claimers).await.concat();
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (200, 200));
}

/// A worker that lost its lease can neither complete, fail nor release the event.
async fn settle_ignores_older_lease(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..1, "f")).await.unwrap();
    let first = storage.attempt(AT_ONCE).await;
    let second = storage.attempt(AT_ONCE).await;
    assert_eq!((second.number, second.lease.seq), (2, first.lease.seq));
    assert!(second.lease.fence > first.lease.fence);
    for outcome in [COMPLETED, retry(AT_ONCE), dead_letter(""), AttemptOutcome::Released] {
        assert!(!storage.end(first.lease, outcome).await);
    }
    // An old result has no effect beside the newer one in the same batch either.
    let old = result(first.lease, COMPLETED);
    for results in [true, false] {
        let new = result(second.lease, retry(AT_ONCE));
        let both = if results { [old.clone(), new] } else { [new, old.clone()] };
        let held = storage.settle(both.into()).await.unwrap().recorded;
        assert_eq!(storage.stats().await.unwrap().waiting, 1);
        assert_eq!(held, if results { vec![second.lease] } else { Vec::new() });
    }
    let second = storage.attempt(AT_ONCE).await;
    // Late, but nobody else has it.
    assert!(storage.end(second.lease, COMPLETED).await);
    assert!(!storage.end(second.lease, COMPLETED).await);
    assert!(storage.attempts(1, LONG).await.is_empty(), "no attempt starts after the completion");
}

/// A renewed lease lasts for the new time.
async fn renew_extends_only_held_leases(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..2, "f")).await.unwrap();
    let old = storage.attempt(AT_ONCE).await;
    let held = storage.attempts(2, AT_ONCE).await;
    assert_eq!(held.len(), 2);
    let leases: Vec<Lease> = held.iter().map(|attempt| attempt.lease).collect();
    let asked = [vec![old.lease], leases.clone()].concat();
    let renewed: HashSet<Lease> = storage.renew(asked, LONG).await.unwrap().into_iter().collect();
    assert_eq!(renewed, leases.iter().copied().collect());
    assert!(storage.attempts(9, LONG).await.is_empty());
}

/// A retry is claimed no earlier than it is due, and both the claim and the stored event say when.
async fn retry_is_claimed_when_due(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..2, "f")).await.unwrap();
    let attempts = storage.attempts(2, LONG).await;
    assert!(storage.end(attempts[0].lease, retry(Duration::from_secs(100))).await);
    assert!(storage.end(attempts[1].lease, retry(AT_ONCE)).await);
    let claimed = storage.claim(ClaimRequest::new(9, LONG)).await.unwrap();
    assert_eq!(claimed.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [2]);
    let next = claimed.next_due.unwrap();
    assert!(next <= Duration::from_secs(100) && next > Duration::from_secs(1), "{next:?}");
    let waiting = storage.in_state(EventState::Waiting).await.pop().unwrap();
    assert_eq!((waiting.attempts, waiting.error.as_deref()), (1, Some("not yet")));
    let next_attempt = async |key| storage.get(key).await.unwrap().unwrap().next_attempt_at;
    let at = next_attempt(waiting.key).await.unwrap();
    let now = Timestamp::now();
    assert!(at > now + 1.second() && at <= now + 100.seconds(), "{at}");
    assert_eq!(next_attempt(claimed.attempts[0].key).await, None, "it is running");
    storage.insert(new_events(2..3, "f")).await.unwrap();
    let fresh = storage.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert!(next_attempt(fresh.key).await.unwrap() <= Timestamp::now(), "it is due");
}

/// Ordered claims take one event of a file at a time; a failing one holds back its own file only.
async fn ordered_claim_takes_one_event_of_file_at_a_time(storage: &Arc<dyn Storage>) {
    storage.insert([new_event(1, "a"), new_event(2, "a"), new_event(3, "a")].into()).await.unwrap();
    storage.insert([new_event(4, "b"), new_event(5, "b")].into()).await.unwrap();
    let request = ClaimRequest::ordered(9, LONG);
    let heads = storage.claim(request).await.unwrap().attempts;
    assert_eq!(heads.iter().map(number).collect::<Vec<_>>(), [1, 4]);
    let held_back = storage.claim(request).await.unwrap();
    assert!(held_back.attempts.is_empty());
    assert!(held_back.next_due.unwrap() > Duration::ZERO, "what is held back is not due");
    // The first of `a` fails, the first of `b` is done.
    assert!(storage.end(heads[0].lease, retry(LONG)).await);
    assert!(storage.end(heads[1].lease, COMPLETED).await);
    assert_eq!(claim_ordered(storage, 9).await, [5]);
    // A purged event and a dead letter hold nothing back; a replayed event does not overtake the running one.
    assert_eq!(storage.purge(EventFilter::default().state(EventState::Waiting).limit(1)).await.unwrap(), 1);
    let second = storage.claim(request).await.unwrap().attempts.pop().unwrap();
    assert_eq!(number(&second), 2);
    assert!(storage.end(second.lease, dead_letter("no")).await);
    let third = storage.claim(request).await.unwrap().attempts.pop().unwrap();
    assert_eq!(number(&third), 3);
    assert_eq!(storage.replay(EventFilter::default().state(EventState::DeadLetter)).await.unwrap(), 1);
    assert!(claim_ordered(storage, 9).await.is_empty());
    assert!(storage.end(third.lease, COMPLETED).await);
    assert_eq!(claim_ordered(storage, 9).await, [2]);
}

/// An ordered claim reaches other files, however long one file's queue is, and does not rewrite the rows of queued
/// events.
async fn ordered_claim_reaches_files_behind_long_queue(storage: &Arc<dyn Storage>) {
    for part in 0..20 {
        storage.insert(new_events(part * 300..(part + 1) * 300, "hot")).await.unwrap();
    }
    storage.insert([new_event(9000, "cold")].into()).await.unwrap();
    let request = ClaimRequest::ordered(4, LONG);
    let heads = storage.claim(request).await.unwrap().attempts;
    assert_eq!(heads.iter().map(number).collect::<Vec<_>>(), [0, 9000]);
    // Those behind it are not even looked at: the next one is due when the lease is over.
    let next = storage.claim(request).await.unwrap();
    assert!(next.attempts.is_empty() && next.next_due.unwrap() > LONG / 2, "{next:?}");
    // The deferred events are claimed one after the other.
    let mut lease = heads[0].lease;
    for expected in 1..5 {
        assert!(storage.end(lease, COMPLETED).await);
        let next = storage.claim(request).await.unwrap().attempts.pop().unwrap();
        assert_eq!(number(&next), expected);
        lease = next.lease;
    }
    assert!(storage.end(lease, retry(LONG)).await);
    let next = storage.claim(request).await.unwrap();
    assert!(next.attempts.is_empty() && next.next_due.unwrap() > LONG / 2, "{next:?}");
    // The rest is as it was: without order it is due at once.
    assert_eq!(storage.attempts(9999, LONG).await.len(), 5995);
}

/// Order holds even after workers that did not order, all of which have ended.
async fn ordered_claim_follows_unordered_worker(storage: &Arc<dyn Storage>) {
    for part in 0..7 {
        storage.insert(new_events(part * 100..(part + 1) * 100, "f")).await.unwrap();
    }
    assert_eq!(storage.attempts(700, AT_ONCE).await.len(), 700);
    assert_eq!(claim_ordered(storage, 4).await, [0]);
    assert!(claim_ordered(storage, 4).await.is_empty());
}

/// One webhook's failing event does not hold up another webhook's of the same file.
async fn ordered_claim_orders_each_webhook_separately(storage: &Arc<dyn Storage>) {
    let by = |number, secret_name: Option<&str>, webhook: Option<&str>| {
        let meta = DeliveryMeta {
            secret_name: secret_name.map(Into::into),
            webhook: webhook.map(Into::into),
            ..DeliveryMeta::default()
        };
        NewEvent::from(&Delivery::restore(new_event(number, "f").body, meta).unwrap())
    };
    // The second one came by a secret that takes the place of the first one's.
    let events = [
        by(1, Some("a"), Some("a")),
        by(2, Some("a of December"), Some("a")),
        by(3, Some("b"), Some("b")),
        by(4, Some("default"), None),
    ];
    storage.insert(events.into()).await.unwrap();
    assert_eq!(claim_ordered(storage, 9).await, [1, 3, 4]);
    assert!(claim_ordered(storage, 9).await.is_empty());
}

/// Events of a newer version belong to a newer process that shares the storage.
async fn claim_ignores_newer_event_version(storage: &Arc<dyn Storage>) {
    let newer = NewEvent { version: crate::event::EVENT_VERSION + 1, ..new_event(1, "f") };
    assert_eq!(storage.insert([newer, new_event(2, "g")].into()).await.unwrap(), [true, true]);
    let claimed = storage.claim(ClaimRequest::new(9, LONG)).await.unwrap();
    assert_eq!(claimed.attempts.iter().map(number).collect::<Vec<_>>(), [2]);
    // Or a worker would ask again at once, and again.
    assert!(claimed.next_due.unwrap() > Duration::ZERO, "what cannot be taken is not due");
    assert_eq!(storage.stats().await.unwrap().waiting, 1);
}

/// A filter selects by state, event, file and key.
async fn list_get_replay_and_purge_select_by_filter(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..3, "a")).await.unwrap();
    storage.insert(new_events(3..6, "b")).await.unwrap();
    let attempts = storage.attempts(4, LONG).await;
    assert!(storage.end(attempts[0].lease, dead_letter("broken")).await);
    assert!(storage.end(attempts[1].lease, AttemptOutcome::Completed { keep_body: true }).await);
    assert!(storage.end(attempts[2].lease, COMPLETED).await);

    let count = async |filter: EventFilter| storage.list(filter).await.unwrap().len();
    assert_eq!(count(EventFilter::default()).await, 6);
    assert_eq!(count(EventFilter::default().limit(2)).await, 2);
    assert_eq!(count(EventFilter::default().file("a")).await, 3);
    assert_eq!(count(EventFilter::default().event("file_optimized")).await, 0);
    for (state, expected) in [
        (EventState::Waiting, 2),
        (EventState::Running, 1),
        (EventState::Completed, 2),
        (EventState::DeadLetter, 1),
    ] {
        assert_eq!(count(EventFilter::default().state(state)).await, expected, "{state:?}");
    }
    let all = storage.list(EventFilter::default()).await.unwrap();
    assert!(all.is_sorted_by_key(|event| event.seq));
    assert_eq!(count(EventFilter::default().after(all[1].seq)).await, 4);

    let dead = storage.get(attempts[0].key).await.unwrap().unwrap();
    assert_eq!(dead.event.error.as_deref(), Some("broken"));
    let delivery = dead.delivery().unwrap().unwrap();
    assert_eq!((delivery.key(), delivery.raw()), (attempts[0].key, &stored_body(&attempts[0])));
    assert!(storage.get(new_event(99, "f").key).await.unwrap().is_none());

    // One dead, one completed with its body; what has no body cannot be replayed.
    assert_eq!(storage.replay(EventFilter::default()).await.unwrap(), 2);
    let again = storage.attempts(9, LONG).await;
    assert_eq!(again.len(), 4);
    assert!(again.iter().all(|attempt| attempt.number == 1));
    assert_eq!(storage.purge(EventFilter::default()).await.unwrap(), 0, "running events are not purged");
    assert!(storage.end(again[0].lease, dead_letter("")).await);
    assert_eq!(storage.purge(EventFilter::default().key(again[1].key)).await.unwrap(), 0);
    assert_eq!(storage.purge(EventFilter::default().key(again[0].key)).await.unwrap(), 1);
    assert!(storage.get(again[0].key).await.unwrap().unwrap().body.is_none());
}

/// A filter selects the events of one secret and time.
async fn filter_selects_by_secret_and_time(storage: &Arc<dyn Storage>) {
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    for (number, secret, received_at) in
        [(1, "a", noon - 1.hour()), (2, "a", noon), (3, "b", noon), (4, "a", noon + 1.hour())]
    {
        let secret_name = Some(secret.to_owned());
        storage
            .insert([NewEvent { secret_name, received_at, ..new_event(number, "f") }].into())
            .await
            .unwrap();
    }
    let found = async |filter: EventFilter| storage.list(filter).await.unwrap().len();
    let forged = || EventFilter::default().secret_name("a");
    assert_eq!(found(forged()).await, 3);
    assert_eq!(found(forged().received_from(noon)).await, 2);
    assert_eq!(found(forged().received_before(noon)).await, 1);
    assert_eq!(found(EventFilter::default().received_from(noon).received_before(noon + 1.hour())).await, 2);
    assert_eq!(storage.purge(forged().received_from(noon)).await.unwrap(), 2);
    assert_eq!(found(EventFilter::default().state(EventState::Waiting)).await, 2);
    // A stolen token's events are usually handled before anybody looks for them.
    for attempt in storage.attempts(9, LONG).await {
        assert!(storage.end(attempt.lease, COMPLETED).await);
    }
    assert_eq!(found(forged().state(EventState::Completed)).await, 1);
}

/// Completed events never stop inserts.
async fn sweep_deletes_oldest_over_capacity(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..10, "f")).await.unwrap();
    for attempt in storage.attempts(9, LONG).await {
        assert!(storage.end(attempt.lease, COMPLETED).await);
    }
    let few = Retention { dedup_capacity: 4, ..retention(LONG, LONG) };
    let mut swept = 0;
    loop {
        // Two workers sweep at once.
        let (one, other) = tokio::join!(storage.sweep(few), storage.sweep(few));
        match one.unwrap() + other.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 5);
    let new = storage.insert(new_events(0..10, "f")).await.unwrap();
    assert_eq!(new, [true, true, true, true, true, false, false, false, false, false]);
}

/// Bodies are deleted first, then completed events, each after its own retention and not before; dead letters stay.
async fn sweep_deletes_after_retention(storage: &Arc<dyn Storage>) {
    storage.insert(new_events(0..3, "f")).await.unwrap();
    let attempts = storage.attempts(3, LONG).await;
    assert!(storage.end(attempts[0].lease, AttemptOutcome::Completed { keep_body: true }).await);
    assert!(storage.end(attempts[1].lease, COMPLETED).await);
    assert!(storage.end(attempts[2].lease, dead_letter("")).await);
    assert_eq!(storage.sweep(retention(LONG, LONG)).await.unwrap(), 0);
    assert_eq!(storage.sweep(retention(LONG, AT_ONCE)).await.unwrap(), 1);
    assert_eq!(storage.insert(new_events(0..2, "f")).await.unwrap(), [false, false]);
    assert_eq!(storage.sweep(retention(AT_ONCE, AT_ONCE)).await.unwrap(), 2);
    assert_eq!(storage.insert(new_events(0..3, "f")).await.unwrap(), [true, true, false]);
}

/// A jump of the wall clock by a day affects neither order, nor leases, nor retries, nor retention.
async fn wall_clock_changes_affect_nothing(storage: &Arc<dyn Storage>) {
    let now = Timestamp::now();
    for (number, received_at) in [now, now + 24.hours(), now - 24.hours()].into_iter().enumerate() {
        let given = NewEvent { received_at, ..new_event(u32::try_from(number).unwrap(), "f") };
        storage.insert([given].into()).await.unwrap();
    }
    let mut leases = Vec::new();
    for expected in 0..3 {
        let attempt = storage.attempt(LONG).await;
        assert_eq!(number(&attempt), expected);
        leases.push(attempt.lease);
    }
    assert!(storage.attempts(9, LONG).await.is_empty());
    for lease in leases {
        assert!(storage.end(lease, COMPLETED).await);
    }
    assert_eq!(storage.sweep(retention(LONG, LONG)).await.unwrap(), 0);
    assert!(storage.stats().await.unwrap().oldest_waiting.is_none());
}
