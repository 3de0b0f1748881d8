//! Pause, workers, failed attempts and activity: what a person sees and does in operation.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use smartshape_webhook::{Delivery, HandlerError};

use super::fixture::{
    COMPLETED, Fixture, LONG, MOMENT, dead_letter, new_event, new_events, on_each_storage, poll_until,
    recording_handler, retention, succeed,
};
use crate::activity::ActivityCounts;
use crate::storage::admin::WorkerReport;
use crate::storage::{AttemptOutcome, AttemptResult, ClaimRequest};
use crate::{EventFilter, EventState, Inbox};

/// Claims one event and ends its attempt.
async fn end(inbox: &Inbox, outcome: AttemptOutcome) {
    let lease = inbox.storage().attempt(LONG).await.lease;
    let result = AttemptResult { lease, outcome, took: Duration::from_millis(7) };
    inbox.storage().settle([result].into()).await.unwrap();
}

fn retry(error: &str) -> AttemptOutcome {
    AttemptOutcome::Retry { after: Duration::ZERO, error: error.to_owned() }
}

on_each_storage! {
    database:
    paused_workers_of_all_processes_claim_nothing
    worker_is_listed_while_it_runs
    worker_that_does_not_report_is_not_listed
    activity_of_several_processes_is_added;
    inbox:
    failed_attempts_are_kept_until_completion
    failed_attempts_of_event_are_bounded
    activity_counts_what_happened_by_minute
    activity_is_kept_for_14_days
}

async fn paused_workers_of_all_processes_claim_nothing(database: &impl Fixture) {
    let (inbox, other) = (database.inbox().await, database.inbox().await);
    inbox.storage().insert(new_events(0..2, "f")).await.unwrap();
    assert_eq!(other.paused().await.unwrap(), None);
    inbox.pause("ops").await.unwrap();
    inbox.pause("somebody later").await.unwrap();
    let pause = other.paused().await.unwrap().unwrap();
    assert_eq!(pause.by, "ops");
    assert!(pause.since.duration_until(Timestamp::now()).abs() < 1.hours().try_into().unwrap());
    for ordered in [false, true] {
        let request = ClaimRequest { ordered, ..ClaimRequest::new(9, LONG) };
        let claimed = other.storage().claim(request).await.unwrap();
        assert!(claimed.attempts.is_empty() && claimed.next_due.is_none(), "{claimed:?}");
    }
    // Deliveries are still stored.
    inbox.storage().insert([new_event(9, "f")].into()).await.unwrap();
    let (handler, mut handled) = recording_handler();
    // Resuming wakes it, or it would look again only in an hour.
    let worker = inbox.worker(handler).poll_interval(LONG).spawn();
    poll_until(async || !inbox.workers().await.unwrap().is_empty()).await;
    assert!(handled.try_recv().is_err());
    inbox.resume().await.unwrap();
    for _ in 0..3 {
        assert!(handled.recv().await.is_some());
    }
    assert_eq!(other.paused().await.unwrap(), None);
    worker.shutdown().await.unwrap();
}

async fn worker_is_listed_while_it_runs(database: &impl Fixture) {
    let (inbox, other) = (database.inbox().await, database.inbox().await);
    let worker = inbox.worker(succeed).concurrency(3).spawn();
    poll_until(async || !other.workers().await.unwrap().is_empty()).await;
    let seen = other.workers().await.unwrap().pop().unwrap();
    assert_eq!((seen.pid, seen.concurrency, seen.running), (std::process::id(), 3, 0));
    assert_eq!(seen.version, env!("CARGO_PKG_VERSION"));
    assert!(seen.started_at <= seen.seen_at);
    worker.shutdown().await.unwrap();
    assert!(other.workers().await.unwrap().is_empty());
}

async fn worker_that_does_not_report_is_not_listed(database: &impl Fixture) {
    let inbox = database.inbox().await;
    for id in 1..=3 {
        let host = format!("host {id}");
        let report = WorkerReport { id, host, concurrency: 8, running: 0 };
        inbox.storage().report_worker(report).await.unwrap();
    }
    assert_eq!(inbox.workers().await.unwrap().len(), 3);
    let sqlite = "UPDATE workers SET seen = seen - 61000000 WHERE id = 2";
    let postgres = "UPDATE smartshape_inbox_workers SET seen = seen - interval '61 s' WHERE id = 2";
    database.execute_either(sqlite, postgres).await;
    let hosts: Vec<String> = inbox.workers().await.unwrap().into_iter().map(|worker| worker.host).collect();
    assert_eq!(hosts, ["host 1", "host 3"]);
}

async fn failed_attempts_are_kept_until_completion(inbox: &Inbox) {
    inbox.storage().insert([new_event(1, "f")].into()).await.unwrap();
    let key = new_event(1, "f").key;
    assert!(inbox.failed_attempts(key).await.unwrap().is_empty());
    end(inbox, retry("first")).await;
    end(inbox, AttemptOutcome::Released).await;
    end(inbox, dead_letter("second")).await;
    inbox.replay(EventFilter::default()).await.unwrap();
    end(inbox, retry("third")).await;
    let attempts = inbox.failed_attempts(key).await.unwrap();
    let shown: Vec<_> = attempts.iter().map(|attempt| (attempt.number, &*attempt.error)).collect();
    assert_eq!(shown, [(1, "first"), (2, "second"), (1, "third")]);
    assert!(attempts.iter().all(|attempt| attempt.took == Duration::from_millis(7)));
    assert!(attempts[0].ended_at <= attempts[2].ended_at);
    end(inbox, COMPLETED).await;
    assert!(inbox.failed_attempts(key).await.unwrap().is_empty());

    // An event whose body is kept keeps its errors, until it is purged or deleted.
    for (number, purged) in [(2, true), (3, false)] {
        inbox.storage().insert([new_event(number, "f")].into()).await.unwrap();
        let key = new_event(number, "f").key;
        end(inbox, retry("not yet")).await;
        end(inbox, AttemptOutcome::Completed { keep_body: true }).await;
        assert_eq!(inbox.failed_attempts(key).await.unwrap().len(), 1);
        if purged {
            inbox.purge(EventFilter::default().key(key)).await.unwrap();
        } else {
            while inbox.storage().sweep(retention(Duration::ZERO, Duration::ZERO)).await.unwrap() > 0 {}
        }
        assert!(inbox.failed_attempts(key).await.unwrap().is_empty());
    }
}

async fn failed_attempts_of_event_are_bounded(inbox: &Inbox) {
    inbox.storage().insert([new_event(1, "f")].into()).await.unwrap();
    for number in 1..=50 {
        end(inbox, retry(&number.to_string())).await;
        end(inbox, AttemptOutcome::Released).await;
    }
    let attempts = inbox.failed_attempts(new_event(1, "f").key).await.unwrap();
    let errors: Vec<_> = attempts.into_iter().map(|attempt| attempt.error).collect();
    assert_eq!(errors, (31..=50).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// A real inbox and worker record the activity.
async fn activity_counts_what_happened_by_minute(inbox: &Inbox) {
    let from = Timestamp::now() - 2.hours();
    inbox.store([0, 1, 2, 3, 0]).await;
    let worker = inbox
        .worker(|delivery: Delivery| async move {
            match (delivery.uuid(), delivery.attempt()) {
                ("uuid-1", _) => Err(HandlerError::permanent("no")),
                ("uuid-2", 1) => Err("not yet".into()),
                _ => Ok(()),
            }
        })
        .backoff(MOMENT, MOMENT)
        .spawn();
    inbox.wait_for_state(EventState::Completed, 3).await;
    // A shutdown writes what was counted.
    worker.shutdown().await.unwrap();
    let total = async |slot| {
        let slots = inbox.activity(from, slot).await.unwrap();
        slots.iter().fold([0; 4], |[stored, completed, retried, dead], slot| {
            [
                stored + slot.stored,
                completed + slot.completed,
                retried + slot.retried,
                dead + slot.dead_letters,
            ]
        })
    };
    poll_until(async || total(LONG).await == [4, 3, 1, 1]).await;
    let minutes = inbox.activity(from, Duration::from_secs(60)).await.unwrap();
    assert!((120..=122).contains(&minutes.len()), "{}", minutes.len());
    assert_eq!(total(Duration::from_secs(60)).await, [4, 3, 1, 1]);
    assert_eq!(inbox.activity(from, LONG * 24 * 400).await.unwrap().len(), 1);
    assert_eq!(inbox.activity(Timestamp::MIN, Duration::ZERO).await.unwrap().len(), 1500);
}

async fn activity_of_several_processes_is_added(database: &impl Fixture) {
    let (inbox, other) = (database.inbox().await, database.inbox().await);
    let now = Timestamp::now().as_second() / 60;
    let counts = |n| ActivityCounts {
        stored: n,
        completed: n,
        retried: n,
        dead_letters: n,
        handler_ms: n,
        max_handler_ms: n,
        max_waiting: n,
        max_overdue_ms: n,
    };
    for (inbox, minute, count) in
        [(&inbox, now - 1, 1), (&inbox, now, 2), (&other, now, 3), (&other, now - 1, 7)]
    {
        inbox.storage().record_activity(minute, counts(count)).await.unwrap();
    }
    let both = inbox.storage().activity(now - 1, 1).await.unwrap();
    let sum =
        |n, max| ActivityCounts { max_handler_ms: max, max_waiting: max, max_overdue_ms: max, ..counts(n) };
    assert_eq!(both.iter().find(|(slot, _)| *slot == now).unwrap().1, sum(5, 3));
    assert_eq!(both.iter().find(|(slot, _)| *slot == now - 1).unwrap().1, sum(8, 7));
}

async fn activity_is_kept_for_14_days(inbox: &Inbox) {
    let now = Timestamp::now().as_second() / 60;
    let stored = ActivityCounts { stored: 1, ..ActivityCounts::default() };
    let (kept, old) = (now - 14 * 24 * 60 + 5, now - 14 * 24 * 60 - 5);
    for minute in [old, kept, now] {
        inbox.storage().record_activity(minute, stored).await.unwrap();
    }
    inbox.storage().delete_old_activity().await.unwrap();
    let mut minutes: Vec<i64> =
        inbox.storage().activity(0, 1).await.unwrap().into_iter().map(|(minute, _)| minute).collect();
    minutes.sort_unstable();
    assert_eq!(minutes, [kept, now]);
}
