//! Connections and rows that are wanted by several at once.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _};
use smartshape_webhook_inbox::suite::Bench as _;
use smartshape_webhook_inbox::{Filter, Inbox, State};
use sqlx::{Connection as _, PgConnection};

use crate::bench::{Server, delivery};

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
        .transactional(move |transaction, _| {
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
    while inbox.stats().await.unwrap().at_work < 12 {
        tokio::task::yield_now().await;
    }
    assert!(inbox.handle(delivery(100)).await.is_ok());
    tokio::time::timeout(Duration::from_secs(60), together.wait()).await.unwrap();
    let done = Filter::default().state(State::Completed);
    while inbox.list(done.clone()).await.unwrap().len() < 12 {
        tokio::task::yield_now().await;
    }
    assert!(inbox.list(done).await.unwrap().iter().all(|event| event.attempts == 1));
    drop(worker);
}

/// An event that is purged while it is replayed does not come back without its body.
#[tokio::test]
async fn a_replay_that_meets_a_purge_does_nothing() {
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
        async move { inbox.replay(Filter::default()).await.unwrap() }
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
    let event = inbox.list(Filter::default()).await.unwrap().pop().unwrap();
    assert_eq!(event.state, State::Completed);
}

/// What a handler asks for is not what the store cannot express.
#[tokio::test]
async fn waits_without_end_are_recorded() {
    let Some(server) = Server::new().await else { return };
    let forever = Duration::MAX;
    let builder = Inbox::builder(&server.url()).keep_tombstones(forever).keep_bodies(forever);
    let inbox = builder.open_deadline(forever).worker_wait(forever).open().await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let worker = inbox
        .worker(move |_: Delivery| async move {
            Err(smartshape_webhook::HandlerError::retry_after(forever, "much later"))
        })
        .lease(forever)
        .spawn();
    while inbox.list(Filter::default()).await.unwrap()[0].error.is_none() {
        tokio::task::yield_now().await;
    }
    worker.finish().await.unwrap();
    let event = inbox.list(Filter::default()).await.unwrap().pop().unwrap();
    assert_eq!((event.state, event.attempts), (State::Waiting, 1));
}
