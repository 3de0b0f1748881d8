//! Connections and rows that several use at once.
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _};

use crate::event::NewEvent;
use crate::storage::ClaimRequest;
use crate::{EventFilter, EventState, Inbox};
use sqlx::{Connection as _, PgConnection};

use crate::it::fixture::{
    Server, all_settled, attempt_recording_handler, delivery, recording_handler, settled,
};

/// Handlers hold a connection each, for as long as they run; all else must still get one.
#[tokio::test]
async fn transactional_handlers_leave_connections_for_others() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::builder(&server.url()).max_connections(3).open().await.unwrap();
    for event in 0..12 {
        assert!(inbox.handle(delivery(event)).await.is_ok());
    }
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
    while inbox.stats().await.unwrap().running < 12 {
        tokio::task::yield_now().await;
    }
    assert!(inbox.handle(delivery(100)).await.is_ok());
    tokio::time::timeout(Duration::from_secs(60), together.wait()).await.unwrap();
    settled(&inbox, EventState::Completed, 12).await;
    drop(worker);
}

/// An event that is purged while it is replayed does not come back without its body.
#[tokio::test]
async fn replay_during_purge_does_nothing() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    server.execute("UPDATE smartshape_inbox_events SET state = 3, settled = now()".to_owned()).await;
    let mut purging = PgConnection::connect(&server.url()).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut purging).await.unwrap();
    let mut purge = purging.begin().await.unwrap();
    let steps = "UPDATE smartshape_inbox_events SET state = 2; DELETE FROM smartshape_inbox_bodies";
    sqlx::raw_sql(steps).execute(&mut *purge).await.unwrap();
    let replay = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.replay(EventFilter::default()).await.unwrap() }
    });
    let mut watching = PgConnection::connect(&server.url()).await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    while !replay.is_finished()
        && sqlx::query_scalar::<_, i64>(waits).bind(pid).fetch_one(&mut watching).await.unwrap() == 0
    {
        tokio::task::yield_now().await;
    }
    purge.commit().await.unwrap();
    assert_eq!(replay.await.unwrap(), 0);
    let event = inbox.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!(event.state, EventState::Completed);
}

/// Each chunk of 1000 events is committed, whatever becomes of the next one, and no event is left out.
#[tokio::test]
async fn replay_and_purge_commit_in_chunks() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    inbox
        .storage()
        .insert((0..3500).map(|number| NewEvent::from(&delivery(number))).collect())
        .await
        .unwrap();
    let reject = "UPDATE smartshape_inbox_events SET state = 3, settled = now(); \
         CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$; \
         CREATE TRIGGER reject BEFORE UPDATE ON smartshape_inbox_events FOR EACH ROW WHEN (OLD.seq = 2500) \
         EXECUTE FUNCTION reject()";
    server.execute(reject.to_owned()).await;
    let all = || EventFilter::default().limit(u32::MAX);
    assert!(inbox.replay(all()).await.is_err());
    assert_eq!(inbox.stats().await.unwrap().waiting, 2000);
    server.execute("DROP TRIGGER reject ON smartshape_inbox_events".to_owned()).await;
    assert_eq!(inbox.replay(EventFilter::default().limit(1200)).await.unwrap(), 1200);
    assert_eq!(inbox.replay(all()).await.unwrap(), 300);
    assert_eq!(inbox.purge(all()).await.unwrap(), 3500);
    assert_eq!(inbox.stats().await.unwrap().waiting, 0);
}

/// A `retry_after` beyond the range of the database's timestamps is recorded.
#[tokio::test]
async fn retry_after_maximum_duration_is_recorded() {
    let Some(server) = Server::new().await else { return };
    let forever = Duration::MAX;
    let builder = Inbox::builder(&server.url()).dedup_retention(forever).body_retention(forever);
    let inbox = builder.connect_timeout(forever).worker_lock_timeout(forever).open().await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let worker = inbox
        .worker(move |_: Delivery| async move {
            Err(smartshape_webhook::HandlerError::retry_after(forever, "much later"))
        })
        .lease_ttl(forever)
        .spawn();
    while inbox.list(EventFilter::default()).await.unwrap()[0].error.is_none() {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
    let event = inbox.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((event.state, event.attempts), (EventState::Waiting, 1));
}

/// One file has a long queue, and others wait behind an event in back-off: a claim writes neither.
#[tokio::test]
async fn ordered_claim_updates_only_claimed_rows() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    let fill = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, behind) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 0, now() + CASE WHEN n BETWEEN 2 AND 100 THEN interval '1 h' \
           ELSE interval '-1 s' END, n % 100, 'e', 'f', 'u', 0, 1, n > 100 FROM generate_series(1, 5000) n; \
         INSERT INTO smartshape_inbox_bodies SELECT seq, 'x' FROM smartshape_inbox_events";
    server.execute(fill.to_owned()).await;
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let sql = "SELECT seq, xmin::text || ctid::text FROM smartshape_inbox_events ORDER BY seq";
    let before: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    let claimed = inbox.storage().claim(ClaimRequest::ordered(8, Duration::from_secs(60))).await.unwrap();
    assert_eq!(claimed.attempts.iter().map(|attempt| attempt.lease.seq).collect::<Vec<_>>(), [1]);
    let after: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    let touched = before.iter().zip(&after).filter(|(before, after)| before != after).map(|(one, _)| one.0);
    assert_eq!(touched.collect::<Vec<_>>(), [1]);
}

/// A server that has not analyzed the table yet expects few events, and would rather read and sort all that are due.
#[tokio::test]
async fn claim_reads_few_rows_of_unanalyzed_table() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    let fill = "ALTER TABLE smartshape_inbox_events SET (autovacuum_enabled = off); \
         INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 0, now() - interval '1 s', n, 'e', 'f', 'u', 0, 1 FROM generate_series(1, 10000) n; \
         INSERT INTO smartshape_inbox_bodies SELECT seq, 'x' FROM smartshape_inbox_events";
    server.execute(fill.to_owned()).await;
    for ordered in [false, true] {
        let request = ClaimRequest { ordered, ..ClaimRequest::new(1, Duration::from_secs(60)) };
        assert_eq!(inbox.storage().claim(request).await.unwrap().attempts.len(), 1);
    }
    // A session reports what it has read when it ends.
    drop(inbox);
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relid = 'smartshape_inbox_events'::regclass";
    let rows = loop {
        let rows: i64 = sqlx::query_scalar(read).fetch_one(&mut connection).await.unwrap();
        if rows > 0 {
            break rows;
        }
        tokio::task::yield_now().await;
    };
    assert!(rows < 1000, "{rows}");
}

/// A lease that expires between the two statements of a claim: here while the first one reads whether workers pause.
#[tokio::test]
async fn claim_attempts_no_event_beyond_maximum() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let slow = "ALTER TABLE smartshape_inbox_pause RENAME TO pause; \
         CREATE VIEW smartshape_inbox_pause AS SELECT 1 FROM (SELECT pg_sleep(1)::text AS slept) AS s WHERE slept = 'never'; \
         UPDATE smartshape_inbox_events SET state = 1, attempts = 3, lost = 2, due = now() + interval '500 ms'";
    server.execute(slow.to_owned()).await;
    let request = ClaimRequest::new(8, Duration::from_secs(60));
    let mut claimed = inbox.storage().claim(request).await.unwrap();
    assert!(claimed.attempts.is_empty(), "{:?}", claimed.attempts);
    while claimed.dead_lettered == 0 {
        claimed = inbox.storage().claim(request).await.unwrap();
    }
    let dead = inbox.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((dead.state, dead.attempts, dead.lost_leases), (EventState::DeadLetter, 3, 3));
}

/// Tables of schema version 1 with an older program's events, and the rows of a process that ended after it had
/// completed an event and before it marked the next one runnable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_worker_processes_rows_of_older_programs_and_crashes() {
    let Some(server) = Server::new().await else { return };
    server.execute(include_str!("../../migrations/postgres-0001.sql").to_owned()).await;
    let body = r#"{"file":"f","event":"file_uploaded","data":{},"owner":"o","runTimestamp":1,"uuid":"u"}"#;
    let fill = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 0, now(), n % 2, 'e', 'f', 'u', 0, 1 FROM generate_series(1, 9) n; \
         INSERT INTO smartshape_inbox_bodies SELECT seq, convert_to('BODY', 'UTF8') FROM smartshape_inbox_events";
    server.execute(fill.replace("BODY", body)).await;
    let inbox = Inbox::open(&server.url()).await.unwrap();
    let count = "SELECT count(*) FROM smartshape_inbox_events WHERE behind";
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection).await.unwrap(), 7);
    server.execute("UPDATE smartshape_inbox_events SET behind = true".to_owned()).await;
    let (handler, mut handled) = attempt_recording_handler(|_| async { Ok(()) });
    let worker = inbox.worker(handler).ordered_by_file().spawn();
    for _ in 0..9 {
        assert_eq!(handled.recv().await, Some(("u".to_owned(), 1)));
    }
    worker.shutdown().await.unwrap();
}

/// The pass reaches all queues, even if there are more of them than one of its statements reads.
#[tokio::test]
async fn pass_over_all_queues_marks_every_head() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    let fill = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, behind) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 0, now(), n % 2500, 'e', 'f', 'u', 0, 1, true FROM generate_series(1, 5000) n";
    server.execute(fill.to_owned()).await;
    let _guard = inbox.storage().lock_worker().await.unwrap();
    let behind = "SELECT count(*) FROM smartshape_inbox_events WHERE behind";
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    while sqlx::query_scalar::<_, i64>(behind).fetch_one(&mut connection).await.unwrap() > 2500 {
        tokio::task::yield_now().await;
    }
}

/// The event that it was stored behind may be completed or was never stored: here it is a duplicate in the same batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_stored_behind_duplicate_becomes_runnable() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    let (handler, mut handled) = recording_handler();
    let worker = inbox.worker(handler).ordered_by_file().spawn();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    assert_eq!(handled.recv().await.as_deref(), Some("uuid-1"));
    all_settled(&inbox).await;
    let group = [1, 2].map(|number| NewEvent::from(&delivery(number)));
    assert_eq!(inbox.storage().insert(group.into()).await.unwrap(), [false, true]);
    inbox.storage().notify();
    // Without waiting for the next sweep, which comes after a minute.
    let called = tokio::time::timeout(Duration::from_secs(30), handled.recv()).await;
    assert_eq!(called.unwrap().as_deref(), Some("uuid-2"));
    worker.shutdown().await.unwrap();
}
