//! Connections and rows that several use at once.

use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, HandlerError};
use sqlx::Connection as _;

use crate::event::NewEvent;
use crate::it::fixture::{
    Fixture as _, LONG, Server, attempt_recording_handler, delivery, on_postgres, poll_until,
    recording_handler, succeed,
};
use crate::storage::ClaimRequest;
use crate::{EventFilter, EventState, Inbox};

on_postgres! {
    database:
    transactional_handlers_leave_connections_for_others
    replay_during_purge_does_nothing
    retry_after_maximum_duration_is_recorded
    ordered_claim_updates_only_claimed_rows
    claim_reads_few_rows_of_unanalyzed_table
    claim_attempts_no_event_beyond_maximum
    ordered_worker_processes_rows_of_older_programs_and_crashes
    pass_over_all_queues_marks_every_head
    event_stored_behind_duplicate_becomes_runnable
}

/// Handlers hold a connection each, for as long as they run; all else must still get one.
async fn transactional_handlers_leave_connections_for_others(server: &Server) {
    let inbox = Inbox::builder(&server.url()).max_connections(3).open().await.unwrap();
    inbox.store(0..12).await;
    // Each waits for all.
    let together = Arc::new(tokio::sync::Barrier::new(13));
    let inner = Arc::clone(&together);
    let worker = inbox
        .transactional_worker(move |transaction, _| {
            let together = Arc::clone(&inner);
            Box::pin(async move {
                sqlx::query("SELECT 1").execute(&mut **transaction).await?;
                together.wait().await;
                Ok(())
            })
        })
        .unwrap()
        .concurrency(12)
        .spawn();
    poll_until(async || inbox.stats().await.unwrap().running >= 12).await;
    inbox.store([100]).await;
    tokio::time::timeout(Duration::from_secs(60), together.wait()).await.unwrap();
    inbox.wait_for_state(EventState::Completed, 12).await;
    drop(worker);
}

/// An event that is purged while it is replayed does not come back without its body.
async fn replay_during_purge_does_nothing(server: &Server) {
    let inbox = server.inbox().await;
    inbox.store([1]).await;
    server.execute("UPDATE smartshape_inbox_events SET state = 3, settled = now()").await;
    let mut purging = server.connect().await;
    let pid = Server::select(&mut purging, "SELECT pg_backend_pid()::bigint").await;
    let mut purge = purging.begin().await.unwrap();
    let steps = "UPDATE smartshape_inbox_events SET state = 2; DELETE FROM smartshape_inbox_bodies";
    sqlx::raw_sql(steps).execute(&mut *purge).await.unwrap();
    let replay = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.replay(EventFilter::default()).await.unwrap() }
    });
    let mut watching = server.connect().await;
    let waits = format!("SELECT count(*) FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))");
    poll_until(async || replay.is_finished() || Server::select(&mut watching, &waits).await > 0).await;
    purge.commit().await.unwrap();
    assert_eq!(replay.await.unwrap(), 0);
    let event = inbox.events().await.pop().unwrap();
    assert_eq!(event.state, EventState::Completed);
}

/// A `retry_after` beyond the range of the database's timestamps is recorded.
async fn retry_after_maximum_duration_is_recorded(server: &Server) {
    let forever = Duration::MAX;
    let builder = Inbox::builder(&server.url()).dedup_retention(forever).body_retention(forever);
    let inbox = builder.connect_timeout(forever).worker_lock_timeout(forever).open().await.unwrap();
    inbox.store([1]).await;
    let busy = move |_: Delivery| async move { Err(HandlerError::retry_after(forever, "much later")) };
    let worker = inbox.worker(busy).lease_ttl(forever).spawn();
    poll_until(async || inbox.events().await[0].error.is_some()).await;
    worker.shutdown().await.unwrap();
    let event = inbox.events().await.pop().unwrap();
    assert_eq!((event.state, event.attempts), (EventState::Waiting, 1));
}

/// One file has a long queue, and others wait behind an event in back-off: a claim writes neither.
async fn ordered_claim_updates_only_claimed_rows(server: &Server) {
    let inbox = server.inbox().await;
    let due = "now() + CASE WHEN n BETWEEN 2 AND 100 THEN interval '1 h' ELSE interval '-1 s' END";
    server.fill(5000, &format!("n % 100, 0, {due}, NULL, n > 100")).await;
    server.execute("INSERT INTO smartshape_inbox_bodies SELECT seq, 'x' FROM smartshape_inbox_events").await;
    let mut connection = server.connect().await;
    let sql = "SELECT seq, xmin::text || ctid::text FROM smartshape_inbox_events ORDER BY seq";
    let before: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    let claimed = inbox.storage().claim(ClaimRequest::ordered(8, LONG)).await.unwrap();
    assert_eq!(claimed.attempts.iter().map(|attempt| attempt.lease.seq).collect::<Vec<_>>(), [1]);
    let after: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    let touched = before.iter().zip(&after).filter(|(before, after)| before != after).map(|(one, _)| one.0);
    assert_eq!(touched.collect::<Vec<_>>(), [1]);
}

/// A server that has not analyzed the table yet expects few events, and would rather read and sort all that are due.
async fn claim_reads_few_rows_of_unanalyzed_table(server: &Server) {
    let inbox = server.inbox().await;
    server.execute("ALTER TABLE smartshape_inbox_events SET (autovacuum_enabled = off)").await;
    server.fill(10_000, "n, 0, now() - interval '1 s', NULL, false").await;
    server.execute("INSERT INTO smartshape_inbox_bodies SELECT seq, 'x' FROM smartshape_inbox_events").await;
    for ordered in [false, true] {
        let request = ClaimRequest { ordered, ..ClaimRequest::new(1, LONG) };
        assert_eq!(inbox.storage().claim(request).await.unwrap().attempts.len(), 1);
    }
    // A session reports what it has read when it ends.
    drop(inbox);
    let mut connection = server.connect().await;
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relid = 'smartshape_inbox_events'::regclass";
    poll_until(async || Server::select(&mut connection, read).await > 0).await;
    let rows = Server::select(&mut connection, read).await;
    assert!(rows < 1000, "{rows}");
}

/// A lease that expires between the two statements of a claim: here while the first one reads whether workers pause.
async fn claim_attempts_no_event_beyond_maximum(server: &Server) {
    let inbox = server.inbox().await;
    inbox.store([1]).await;
    let slow = "ALTER TABLE smartshape_inbox_pause RENAME TO pause; \
         CREATE VIEW smartshape_inbox_pause AS SELECT 1 FROM (SELECT pg_sleep(1)::text AS slept) AS s WHERE slept = 'never'; \
         UPDATE smartshape_inbox_events SET state = 1, attempts = 3, lost = 2, due = now() + interval '500 ms'";
    server.execute(slow).await;
    let request = ClaimRequest::new(8, LONG);
    let mut claimed = inbox.storage().claim(request).await.unwrap();
    assert!(claimed.attempts.is_empty(), "{:?}", claimed.attempts);
    while claimed.dead_lettered == 0 {
        claimed = inbox.storage().claim(request).await.unwrap();
    }
    let dead = inbox.events().await.pop().unwrap();
    assert_eq!((dead.state, dead.attempts, dead.lost_leases), (EventState::DeadLetter, 3, 3));
}

/// Tables of schema version 1 with an older program's events, and the rows of a process that ended after it had
/// completed an event and before it marked the next one runnable.
async fn ordered_worker_processes_rows_of_older_programs_and_crashes(server: &Server) {
    server.execute(include_str!("../../migrations/postgres-0001.sql")).await;
    let body = r#"{"file":"f","event":"file_uploaded","data":{},"owner":"o","runTimestamp":1,"uuid":"u"}"#;
    let fill = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 0, now(), n % 2, 'e', 'f', 'u', 0, 1 FROM generate_series(1, 9) n; \
         INSERT INTO smartshape_inbox_bodies SELECT seq, convert_to('BODY', 'UTF8') FROM smartshape_inbox_events";
    server.execute(fill.replace("BODY", body)).await;
    let inbox = server.inbox().await;
    assert_eq!(server.number("SELECT count(*) FROM smartshape_inbox_events WHERE behind").await, 7);
    server.execute("UPDATE smartshape_inbox_events SET behind = true").await;
    let (handler, mut handled) = attempt_recording_handler(succeed);
    let worker = inbox.worker(handler).ordered_by_file().spawn();
    for _ in 0..9 {
        assert_eq!(handled.recv().await, Some(("u".to_owned(), 1)));
    }
    worker.shutdown().await.unwrap();
}

/// The pass reaches all queues, even if there are more of them than one of its statements reads.
async fn pass_over_all_queues_marks_every_head(server: &Server) {
    let inbox = server.inbox().await;
    server.fill(5000, "n % 2500, 0, now(), NULL, true").await;
    inbox.storage().claim(ClaimRequest::ordered(1, LONG)).await.unwrap();
    let behind = "SELECT count(*) FROM smartshape_inbox_events WHERE behind";
    let mut connection = server.connect().await;
    poll_until(async || Server::select(&mut connection, behind).await <= 2500).await;
}

/// The event that it was stored behind may be completed or was never stored: here it is a duplicate in the same batch.
async fn event_stored_behind_duplicate_becomes_runnable(server: &Server) {
    let inbox = server.inbox().await;
    let (handler, mut handled) = recording_handler();
    let worker = inbox.worker(handler).ordered_by_file().spawn();
    inbox.store([1]).await;
    assert_eq!(handled.recv().await.as_deref(), Some("uuid-1"));
    inbox.wait_until_idle().await;
    let group = [1, 2].map(|number| NewEvent::from(&delivery(number)));
    assert_eq!(inbox.storage().insert(group.into()).await.unwrap(), [false, true]);
    inbox.storage().notify();
    // Without waiting for the next sweep, which comes after a minute.
    let called = tokio::time::timeout(Duration::from_secs(30), handled.recv()).await;
    assert_eq!(called.unwrap().as_deref(), Some("uuid-2"));
    worker.shutdown().await.unwrap();
}
