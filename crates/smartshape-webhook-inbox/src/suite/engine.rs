//! What an engine must do.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::future_not_send,
    reason = "these are tests"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta};

use super::{Bench, made, record, records};
use crate::engine::{Attempt, Engine, Lease, Retention, Settlement, Verdict, Wanted};
use crate::record::{Filter, Record, State};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
const AT_ONCE: Duration = Duration::ZERO;

async fn claim(engine: &dyn Engine, events: u32, lease: Duration) -> Vec<Attempt> {
    engine.claim(Wanted::new(events, lease)).await.unwrap().attempts
}

async fn claim_ordered(engine: &dyn Engine, events: u32) -> Vec<u32> {
    let wanted = Wanted { ordered: true, ..Wanted::new(events, LONG) };
    engine.claim(wanted).await.unwrap().attempts.iter().map(number).collect()
}

async fn settle(engine: &dyn Engine, lease: Lease, verdict: Verdict) -> bool {
    let held = engine.settle([Settlement { lease, verdict }].into()).await.unwrap();
    held == [lease]
}

fn completed() -> Verdict {
    Verdict::Completed { keep_body: false }
}

fn retry(after: Duration) -> Verdict {
    Verdict::Retry { after, error: "not yet".to_owned() }
}

/// The number that the suite's events carry in their data.
fn number(attempt: &Attempt) -> u32 {
    let text = String::from_utf8(attempt.body.clone().unwrap().to_vec()).unwrap();
    text.split_once("\"n\": ").unwrap().1.split_once('}').unwrap().0.parse().unwrap()
}

/// The exact body comes back, with what was known beside it.
pub async fn keeps_a_record_exactly(bench: &impl Bench) {
    let engine = bench.open().await;
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
    assert_eq!(engine.insert([Record::of(&delivery)].into()).await.unwrap(), [true]);

    // Durable also means: for whoever opens it next.
    drop(engine);
    let engine = bench.open().await;
    let attempt = claim(&*engine, 9, LONG).await.pop().unwrap();
    assert_eq!(attempt.body.as_deref(), Some(body.as_bytes()));
    assert_eq!((attempt.key, attempt.number, attempt.received_at), (delivery.key(), 1, received_at));
    assert_eq!(attempt.secret_name.as_deref(), Some("uploads"));
    assert_eq!(attempt.traceparent.as_deref(), Some(trace));
    let event = engine.list(Filter::default()).await.unwrap().pop().unwrap();
    assert_eq!(
        (event.file.as_str(), event.event.as_str(), event.uuid.as_str()),
        ("fé", "file_uploaded", "ü")
    );
    assert_eq!((event.triggered_at, event.received_at), (delivery.triggered_at(), received_at));
    assert_eq!((event.state, event.bytes, event.attempts), (State::AtWork, body.len() as u64, 1));
    assert_eq!((event.owner.as_deref(), event.secret_name.as_deref()), (Some("5c"), Some("uploads")));
}

/// No text that a sender chooses keeps its event out.
pub async fn keeps_hostile_texts(bench: &impl Bench) {
    let engine = bench.open().await;
    // As long as the receiver takes them.
    let long = "x".repeat(16_000);
    let bodies = ["\\u0000", "'; DROP TABLE events; --", "\\ud83d\\ude00\\u202e", &long].map(|text| {
        format!(r#"{{"file":"{text}","event":"{text}","data":{{}},"owner":"{text}","runTimestamp":1,"uuid":"{text}"}}"#)
    });
    let given: Arc<[Record]> = bodies.iter().map(|body| Record::of(&made(body))).collect();
    assert_eq!(engine.insert(given).await.unwrap(), [true; 4]);
    let attempts = claim(&*engine, 9, LONG).await;
    let kept: Vec<_> = attempts.iter().map(|attempt| attempt.body.clone().unwrap()).collect();
    for body in bodies {
        assert!(kept.contains(&Bytes::from(body)));
    }
    for attempt in attempts {
        assert!(settle(&*engine, attempt.lease, Verdict::Dead { error: "\u{202e}'".repeat(1000) }).await);
    }
    assert_eq!(engine.list(Filter::default().state(State::Dead)).await.unwrap().len(), 4);
}

/// As long as a receiver takes them by default.
pub async fn keeps_a_long_body(bench: &impl Bench) {
    let engine = bench.open().await;
    let long = "y".repeat(50 * 1024 * 1024 - 200);
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":"{long}","owner":"o","runTimestamp":1,"uuid":"u"}}"#
    );
    let given = Record::of(&made(&body));
    assert_eq!(engine.insert([given.clone()].into()).await.unwrap(), [true]);
    let attempt = claim(&*engine, 1, LONG).await.pop().unwrap();
    assert!(attempt.body == Some(given.body), "the body has changed");
    assert!(settle(&*engine, attempt.lease, completed()).await);
    assert!(engine.show(attempt.key).await.unwrap().unwrap().body.is_none());
}

/// Of a long batch in which some are known, the others are stored, each with its own body.
pub async fn keeps_what_is_new_of_a_batch(bench: &impl Bench) {
    let engine = bench.open().await;
    let known = |number: &u32| number.is_multiple_of(3) || (256..320).contains(number);
    let before: Arc<[Record]> = (0..700).filter(known).map(|number| record(number, "f")).collect();
    assert!(engine.insert(before).await.unwrap().iter().all(|new| *new));
    let batch: Arc<[Record]> = (0..700).map(|number| record(number, "f")).collect();
    let expected: Vec<bool> = (0..700).map(|number| !known(&number)).collect();
    assert_eq!(engine.insert(Arc::clone(&batch)).await.unwrap(), expected);
    assert_eq!(engine.list(Filter::default()).await.unwrap().len(), 700);
    for record in &batch[..] {
        let kept = engine.show(record.key).await.unwrap().unwrap();
        assert_eq!((kept.event.uuid, kept.body.as_ref()), (record.uuid.clone(), Some(&record.body)));
    }
    assert!(engine.insert(batch).await.unwrap().iter().all(|new| !new));
}

/// A duplicate is known while its event waits, is at work, completed, dead or purged.
pub async fn keeps_a_key_once(bench: &impl Bench) {
    let engine = bench.open().await;
    let one = || -> Arc<[Record]> { [record(1, "f")].into() };
    assert_eq!(engine.insert(one()).await.unwrap(), [true]);
    assert_eq!(engine.insert(one()).await.unwrap(), [false]);
    let attempt = claim(&*engine, 1, LONG).await.pop().unwrap();
    assert_eq!(engine.insert([record(1, "f"), record(2, "f")].into()).await.unwrap(), [false, true]);
    assert!(settle(&*engine, attempt.lease, completed()).await);
    assert_eq!(engine.insert(one()).await.unwrap(), [false]);
    assert_eq!(engine.purge(Filter::default()).await.unwrap(), 1, "the second one");
    assert_eq!(engine.insert(records(1..3, "f")).await.unwrap(), [false, false]);
    assert!(claim(&*engine, 9, LONG).await.is_empty());
}

/// Of several askers at once, one is told that it is new.
pub async fn keeps_a_key_once_among_many_askers(bench: &impl Bench) {
    let engine = bench.open().await;
    let askers: Vec<_> = (0..8)
        .map(|asker| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let mut given: Vec<Record> = (0..50).map(|number| record(number, "f")).collect();
                // In another order each, upon which a careless engine deadlocks.
                given.rotate_left(asker * 5);
                let fresh = engine.insert(given.into()).await.unwrap();
                fresh.into_iter().filter(|fresh| *fresh).count()
            })
        })
        .collect();
    let mut fresh = 0;
    for asker in askers {
        fresh += asker.await.unwrap();
    }
    assert_eq!(fresh, 50);
    assert_eq!(engine.stats().await.unwrap().waiting, 50);
}

/// In the order of arrival, and the rest stays for others.
pub async fn claims_the_earliest_and_no_more_than_asked(bench: &impl Bench) {
    let engine = bench.open().await;
    for part in [0..3, 3..6, 6..9] {
        engine.insert(records(part, "f")).await.unwrap();
    }
    let mut numbers: Vec<u32> = claim(&*engine, 4, LONG).await.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(claim(&*engine, 100, LONG).await.len(), 5);
    assert!(claim(&*engine, 100, LONG).await.is_empty());
}

/// Not by any number of claimers.
pub async fn claims_nothing_twice(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..200, "f")).await.unwrap();
    let claimers: Vec<_> = (0..8)
        .map(|_| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let attempts = claim(&*engine, 7, LONG).await;
                    // Others may hold locks for a moment; only the store's count says that none is left.
                    if attempts.is_empty() && engine.stats().await.unwrap().waiting == 0 {
                        return mine;
                    }
                    mine.extend(attempts.iter().map(number));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (200, 200));
}

/// A worker that lost its lease can neither complete, fail nor give back.
pub async fn accepts_nothing_of_an_older_lease(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..1, "f")).await.unwrap();
    let first = claim(&*engine, 1, AT_ONCE).await.pop().unwrap();
    let second = claim(&*engine, 1, AT_ONCE).await.pop().unwrap();
    assert_eq!((second.number, second.lease.seq), (2, first.lease.seq));
    assert!(second.lease.fence > first.lease.fence);
    for verdict in [completed(), retry(AT_ONCE), Verdict::Dead { error: String::new() }, Verdict::GivenBack] {
        assert!(!settle(&*engine, first.lease, verdict).await);
    }
    // Nor beside the result of the newer one.
    let old = Settlement { lease: first.lease, verdict: completed() };
    for results in [true, false] {
        let new = Settlement { lease: second.lease, verdict: retry(AT_ONCE) };
        let both = if results { [old.clone(), new] } else { [new, old.clone()] };
        let held = engine.settle(both.into()).await.unwrap();
        assert_eq!(engine.stats().await.unwrap().waiting, 1);
        assert_eq!(held, if results { vec![second.lease] } else { Vec::new() });
    }
    let second = claim(&*engine, 1, AT_ONCE).await.pop().unwrap();
    // Late, but nobody else has it.
    assert!(settle(&*engine, second.lease, completed()).await);
    assert!(!settle(&*engine, second.lease, completed()).await);
    assert!(claim(&*engine, 1, LONG).await.is_empty(), "no attempt starts after the completion");
}

/// And lets it last from then on.
pub async fn renews_only_what_is_held(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..2, "f")).await.unwrap();
    let old = claim(&*engine, 1, AT_ONCE).await.pop().unwrap();
    let held = claim(&*engine, 2, AT_ONCE).await;
    assert_eq!(held.len(), 2);
    let leases: Vec<Lease> = held.iter().map(|attempt| attempt.lease).collect();
    let asked = [vec![old.lease], leases.clone()].concat();
    let renewed: HashSet<Lease> = engine.renew(asked, LONG).await.unwrap().into_iter().collect();
    assert_eq!(renewed, leases.iter().copied().collect());
    assert!(claim(&*engine, 9, LONG).await.is_empty());
}

/// A handler that kills its process is not called for ever.
pub async fn gives_up_after_lost_leases(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..1, "f")).await.unwrap();
    let wanted = Wanted { max_lost_leases: 2, ..Wanted::new(9, AT_ONCE) };
    assert_eq!(engine.claim(wanted).await.unwrap().attempts.len(), 1);
    assert_eq!(engine.claim(wanted).await.unwrap().attempts.len(), 1);
    let last = engine.claim(wanted).await.unwrap();
    assert_eq!((last.attempts.len(), last.buried), (0, 1));
    let dead = engine.list(Filter::default().state(State::Dead)).await.unwrap().pop().unwrap();
    assert_eq!((dead.attempts, dead.lost_leases), (2, 2));
    assert!(dead.error.unwrap().contains("lease"));
}

/// Not before, and the claim says when.
pub async fn retries_when_it_is_due(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..2, "f")).await.unwrap();
    let attempts = claim(&*engine, 2, LONG).await;
    assert!(settle(&*engine, attempts[0].lease, retry(Duration::from_secs(100))).await);
    assert!(settle(&*engine, attempts[1].lease, retry(AT_ONCE)).await);
    let claimed = engine.claim(Wanted::new(9, LONG)).await.unwrap();
    assert_eq!(claimed.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [2]);
    let next = claimed.next_due.unwrap();
    assert!(next <= Duration::from_secs(100) && next > Duration::from_secs(1), "{next:?}");
    let waiting = engine.list(Filter::default().state(State::Waiting)).await.unwrap().pop().unwrap();
    assert_eq!((waiting.attempts, waiting.error.as_deref()), (1, Some("not yet")));
}

/// A shutdown is no failure.
pub async fn does_not_count_what_is_given_back(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..1, "f")).await.unwrap();
    for _ in 0..20 {
        let attempt = claim(&*engine, 1, LONG).await.pop().unwrap();
        assert_eq!(attempt.number, 1);
        assert!(settle(&*engine, attempt.lease, Verdict::GivenBack).await);
    }
}

/// One at a time, in the order of arrival; a failing one holds back its own file only.
pub async fn orders_the_events_of_a_file(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert([record(1, "a"), record(2, "a"), record(3, "a")].into()).await.unwrap();
    engine.insert([record(4, "b"), record(5, "b")].into()).await.unwrap();
    let wanted = Wanted { ordered: true, ..Wanted::new(9, LONG) };
    let heads = engine.claim(wanted).await.unwrap().attempts;
    assert_eq!(heads.iter().map(number).collect::<Vec<_>>(), [1, 4]);
    let held_back = engine.claim(wanted).await.unwrap();
    assert!(held_back.attempts.is_empty());
    assert!(held_back.next_due.unwrap() > Duration::ZERO, "what is held back is not due");
    // The first of `a` fails, the first of `b` is done.
    assert!(settle(&*engine, heads[0].lease, retry(LONG)).await);
    assert!(settle(&*engine, heads[1].lease, completed()).await);
    assert_eq!(claim_ordered(&*engine, 9).await, [5]);
    // Given up, it holds nothing back any more; replayed, it does not overtake the one at work.
    assert_eq!(engine.purge(Filter::default().state(State::Waiting).limit(1)).await.unwrap(), 1);
    let second = engine.claim(wanted).await.unwrap().attempts.pop().unwrap();
    assert_eq!(number(&second), 2);
    assert!(settle(&*engine, second.lease, Verdict::Dead { error: "no".to_owned() }).await);
    let third = engine.claim(wanted).await.unwrap().attempts.pop().unwrap();
    assert_eq!(number(&third), 3);
    assert_eq!(engine.replay(Filter::default().state(State::Dead)).await.unwrap(), 1);
    assert!(claim_ordered(&*engine, 9).await.is_empty());
    assert!(settle(&*engine, third.lease, completed()).await);
    assert_eq!(claim_ordered(&*engine, 9).await, [2]);
}

/// However long the queue of one file is.
pub async fn orders_without_hiding_other_files(bench: &impl Bench) {
    let engine = bench.open().await;
    for part in 0..15 {
        engine.insert(records(part * 100..(part + 1) * 100, "hot")).await.unwrap();
    }
    engine.insert([record(9000, "cold")].into()).await.unwrap();
    let wanted = Wanted { ordered: true, ..Wanted::new(4, LONG) };
    let heads = engine.claim(wanted).await.unwrap().attempts;
    assert_eq!(heads.iter().map(number).collect::<Vec<_>>(), [0, 9000]);
    // What was put aside is called when its turn comes.
    let mut lease = heads[0].lease;
    for expected in 1..5 {
        assert!(settle(&*engine, lease, completed()).await);
        let next = engine.claim(wanted).await.unwrap().attempts.pop().unwrap();
        assert_eq!(number(&next), expected);
        lease = next.lease;
    }
}

/// However long, it is gone through in bounded claims, each of which says that the next is due at once.
pub async fn orders_a_very_long_queue(bench: &impl Bench) {
    let engine = bench.open().await;
    for part in 0..20 {
        engine.insert(records(part * 300..(part + 1) * 300, "hot")).await.unwrap();
    }
    engine.insert([record(9000, "cold")].into()).await.unwrap();
    let wanted = Wanted { ordered: true, ..Wanted::new(4, LONG) };
    let mut heads = Vec::new();
    loop {
        let claimed = engine.claim(wanted).await.unwrap();
        heads.extend(claimed.attempts.iter().map(number));
        if claimed.next_due != Some(Duration::ZERO) {
            break;
        }
    }
    assert_eq!(heads, [0, 9000]);
}

/// Even when workers did not agree on the order, and all of them ended.
pub async fn orders_what_was_at_work_without_order(bench: &impl Bench) {
    let engine = bench.open().await;
    for part in 0..7 {
        engine.insert(records(part * 100..(part + 1) * 100, "f")).await.unwrap();
    }
    assert_eq!(claim(&*engine, 700, AT_ONCE).await.len(), 700);
    assert_eq!(claim_ordered(&*engine, 4).await, [0]);
    assert!(claim_ordered(&*engine, 4).await.is_empty());
}

/// One webhook's failing event does not hold up another webhook's of the same file.
pub async fn orders_each_webhook_by_itself(bench: &impl Bench) {
    let engine = bench.open().await;
    let by = |number, secret_name: Option<&str>, webhook: Option<&str>| {
        let given = record(number, "f").body;
        let received_at = Timestamp::now();
        let kept = DeliveryMeta {
            received_at,
            secret_name: secret_name.map(Into::into),
            webhook: webhook.map(Into::into),
            ..DeliveryMeta::default()
        };
        Record::of(&Delivery::restore(given, kept).unwrap())
    };
    // The second one came by a secret that takes the place of the first one's.
    let records = [
        by(1, Some("a"), Some("a")),
        by(2, Some("a of December"), Some("a")),
        by(3, Some("b"), Some("b")),
        by(4, Some("default"), None),
    ];
    engine.insert(records.into()).await.unwrap();
    assert_eq!(claim_ordered(&*engine, 9).await, [1, 3, 4]);
    assert!(claim_ordered(&*engine, 9).await.is_empty());
}

/// However many events wait: their rows are not written again and again.
pub async fn orders_by_touching_only_what_it_takes(bench: &impl Bench) {
    let engine = bench.open().await;
    for part in 0..10 {
        engine.insert(records(part * 200..(part + 1) * 200, "hot")).await.unwrap();
    }
    let wanted = Wanted { ordered: true, ..Wanted::new(4, LONG) };
    let first = engine.claim(wanted).await.unwrap().attempts.pop().unwrap();
    // Those behind it are not even looked at: the next one is due when the lease is over.
    let next = engine.claim(wanted).await.unwrap();
    assert!(next.attempts.is_empty() && next.next_due.unwrap() > LONG / 2, "{next:?}");
    assert!(settle(&*engine, first.lease, retry(LONG)).await);
    let next = engine.claim(wanted).await.unwrap();
    assert!(next.attempts.is_empty() && next.next_due.unwrap() > LONG / 2, "{next:?}");
    // The rest is as it was: without order it is due at once.
    assert_eq!(claim(&*engine, 9999, LONG).await.len(), 1999);
}

/// They belong to a process of a newer version that shares the store.
pub async fn leaves_newer_records_alone(bench: &impl Bench) {
    let engine = bench.open().await;
    let newer = Record { version: crate::RECORD_VERSION + 1, ..record(1, "f") };
    assert_eq!(engine.insert([newer, record(2, "g")].into()).await.unwrap(), [true, true]);
    let claimed = engine.claim(Wanted::new(9, LONG)).await.unwrap();
    assert_eq!(claimed.attempts.iter().map(number).collect::<Vec<_>>(), [2]);
    // Or a worker would ask again at once, and again.
    assert!(claimed.next_due.unwrap() > Duration::ZERO, "what cannot be taken is not due");
    assert_eq!(engine.stats().await.unwrap().waiting, 1);
}

/// By state, event, file and key.
pub async fn lists_shows_replays_and_purges(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..3, "a")).await.unwrap();
    engine.insert(records(3..6, "b")).await.unwrap();
    let attempts = claim(&*engine, 4, LONG).await;
    assert!(settle(&*engine, attempts[0].lease, Verdict::Dead { error: "broken".to_owned() }).await);
    assert!(settle(&*engine, attempts[1].lease, Verdict::Completed { keep_body: true }).await);
    assert!(settle(&*engine, attempts[2].lease, completed()).await);

    let count = async |filter: Filter| engine.list(filter).await.unwrap().len();
    assert_eq!(count(Filter::default()).await, 6);
    assert_eq!(count(Filter::default().limit(2)).await, 2);
    assert_eq!(count(Filter::default().file("a")).await, 3);
    assert_eq!(count(Filter::default().event("file_optimized")).await, 0);
    for (state, expected) in
        [(State::Waiting, 2), (State::AtWork, 1), (State::Completed, 2), (State::Dead, 1)]
    {
        assert_eq!(count(Filter::default().state(state)).await, expected, "{state:?}");
    }
    let all = engine.list(Filter::default()).await.unwrap();
    assert!(all.is_sorted_by_key(|event| event.seq));
    assert_eq!(count(Filter::default().after(all[1].seq)).await, 4);

    let dead = engine.show(attempts[0].key).await.unwrap().unwrap();
    assert_eq!(dead.event.error.as_deref(), Some("broken"));
    let delivery = dead.delivery().unwrap().unwrap();
    assert_eq!((delivery.key(), delivery.raw()), (attempts[0].key, &attempts[0].body.clone().unwrap()));
    assert!(engine.show(record(99, "f").key).await.unwrap().is_none());

    // One dead, one completed with its body; what has no body cannot be replayed.
    assert_eq!(engine.replay(Filter::default()).await.unwrap(), 2);
    let again = claim(&*engine, 9, LONG).await;
    assert_eq!(again.len(), 4);
    assert!(again.iter().all(|attempt| attempt.number == 1));
    assert_eq!(engine.purge(Filter::default()).await.unwrap(), 0, "what is at work is not purged");
    assert!(settle(&*engine, again[0].lease, Verdict::Dead { error: String::new() }).await);
    assert_eq!(engine.purge(Filter::default().key(again[1].key)).await.unwrap(), 0);
    assert_eq!(engine.purge(Filter::default().key(again[0].key)).await.unwrap(), 1);
    assert!(engine.show(again[0].key).await.unwrap().unwrap().body.is_none());
}

/// What came by one webhook in some time, to be looked at, replayed or removed.
pub async fn finds_events_by_secret_and_time(bench: &impl Bench) {
    let engine = bench.open().await;
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    for (number, secret, received_at) in
        [(1, "a", noon - 1.hour()), (2, "a", noon), (3, "b", noon), (4, "a", noon + 1.hour())]
    {
        let secret_name = Some(secret.to_owned());
        engine.insert([Record { secret_name, received_at, ..record(number, "f") }].into()).await.unwrap();
    }
    let found = async |filter: Filter| engine.list(filter).await.unwrap().len();
    let forged = || Filter::default().secret_name("a");
    assert_eq!(found(forged()).await, 3);
    assert_eq!(found(forged().received_from(noon)).await, 2);
    assert_eq!(found(forged().received_before(noon)).await, 1);
    assert_eq!(found(Filter::default().received_from(noon).received_before(noon + 1.hour())).await, 2);
    assert_eq!(engine.purge(forged().received_from(noon)).await.unwrap(), 2);
    assert_eq!(found(Filter::default().state(State::Waiting)).await, 2);
}

/// Intake never stops for what is done.
pub async fn forgets_the_oldest_beyond_its_capacity(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..10, "f")).await.unwrap();
    for attempt in claim(&*engine, 9, LONG).await {
        assert!(settle(&*engine, attempt.lease, completed()).await);
    }
    let few = Retention { capacity: 4, ..Retention::new(LONG, LONG) };
    let mut swept = 0;
    loop {
        match engine.sweep(few).await.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 5);
    let new = engine.insert(records(0..10, "f")).await.unwrap();
    assert_eq!(new, [true, true, true, true, true, false, false, false, false, false]);
}

/// And not before: bodies, then tombstones; dead letters stay.
pub async fn forgets_after_the_horizon(bench: &impl Bench) {
    let engine = bench.open().await;
    engine.insert(records(0..3, "f")).await.unwrap();
    let attempts = claim(&*engine, 3, LONG).await;
    assert!(settle(&*engine, attempts[0].lease, Verdict::Completed { keep_body: true }).await);
    assert!(settle(&*engine, attempts[1].lease, completed()).await);
    assert!(settle(&*engine, attempts[2].lease, Verdict::Dead { error: String::new() }).await);
    assert_eq!(engine.sweep(Retention::new(LONG, LONG)).await.unwrap(), 0);
    assert_eq!(engine.sweep(Retention::new(LONG, AT_ONCE)).await.unwrap(), 1);
    assert_eq!(engine.insert(records(0..2, "f")).await.unwrap(), [false, false]);
    assert_eq!(engine.sweep(Retention::new(AT_ONCE, AT_ONCE)).await.unwrap(), 2);
    assert_eq!(engine.insert(records(0..3, "f")).await.unwrap(), [true, true, false]);
}

/// Waiting, at work, dead, and since when.
pub async fn tells_how_full_it_is(bench: &impl Bench) {
    let engine = bench.open().await;
    let empty = engine.stats().await.unwrap();
    assert_eq!((empty.waiting, empty.at_work, empty.dead, empty.oldest_waiting), (0, 0, 0, None));
    engine.insert(records(0..5, "f")).await.unwrap();
    let attempts = claim(&*engine, 2, LONG).await;
    settle(&*engine, attempts[0].lease, Verdict::Dead { error: String::new() }).await;
    let stats = engine.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.at_work, stats.dead), (3, 1, 1));
    assert!(stats.oldest_waiting.unwrap() < LONG && stats.stored_bytes > 0);
    engine.ping().await.unwrap();
}

/// A clock that leaps by a day moves neither order, nor leases, nor retries, nor the horizon.
pub async fn is_not_moved_by_the_time_of_day(bench: &impl Bench) {
    let engine = bench.open().await;
    let now = Timestamp::now();
    for (number, received_at) in [now, now + 24.hours(), now - 24.hours()].into_iter().enumerate() {
        let given = Record { received_at, ..record(u32::try_from(number).unwrap(), "f") };
        engine.insert([given].into()).await.unwrap();
    }
    let mut leases = Vec::new();
    for expected in 0..3 {
        let attempt = claim(&*engine, 1, LONG).await.pop().unwrap();
        assert_eq!(number(&attempt), expected);
        leases.push(attempt.lease);
    }
    assert!(claim(&*engine, 9, LONG).await.is_empty());
    for lease in leases {
        assert!(settle(&*engine, lease, completed()).await);
    }
    assert_eq!(engine.sweep(Retention::new(LONG, LONG)).await.unwrap(), 0);
    assert!(engine.stats().await.unwrap().oldest_waiting.is_none());
}
