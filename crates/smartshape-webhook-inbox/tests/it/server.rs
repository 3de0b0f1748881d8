//! Faults of a PostgreSQL server, and several processes on one database.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use smartshape_webhook::{Delivery, Handler as _, HandlerError};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc;

use crate::it::fixture::{
    Fixture as _, LONG, MOMENT, Server, assert_error, delivery, on_postgres, open_error, poll_until,
    recording_handler, succeed,
};
use crate::it::link::Link;
use crate::{EventFilter, EventState, Inbox, InboxErrorKind};

on_postgres! {
    database:
    server_that_can_lose_commits_is_rejected
    errors_give_advice_and_hide_password
    three_connections_are_enough
    worker_is_notified_of_events_of_other_processes
    workers_of_several_processes_share_events
    transactional_effect_and_completion_are_atomic
    transactional_effect_is_rolled_back_without_lease
    server_may_be_unavailable_at_start_and_later
    event_whose_body_cannot_be_read_fails_alone
}

async fn server_that_can_lose_commits_is_rejected(server: &Server) {
    let url = format!("{}%20-csynchronous_commit%3Doff", server.url());
    assert_error(&open_error(&url).await, InboxErrorKind::NotDurable, "synchronous_commit");
    let allowed = Inbox::builder(&url).danger_allow_asynchronous_commit(true).open().await;
    allowed.unwrap().store([1]).await;
}

/// Whatever the server's default isolation is.
#[tokio::test]
async fn concurrent_processes_migrate_once() {
    for isolation in ["read%5C%20committed", "repeatable%5C%20read", "serializable"] {
        let Some(server) = Server::new().await else { return };
        let url = format!("{}%20-cdefault_transaction_isolation%3D{isolation}", server.url());
        // A busy machine takes long for eight at once.
        let open = |_| Inbox::builder(&url).store_timeout(Duration::from_secs(60)).open();
        for opened in join_all((0..8).map(open)).await {
            opened.unwrap();
        }
    }
}

async fn errors_give_advice_and_hide_password(server: &Server) {
    let unknown = format!("postgres://nobody-known:hunter2@{}/none", server.host());
    for (url, kind, advice) in [
        (unknown.as_str(), InboxErrorKind::InvalidSettings, "check user"),
        ("postgres://me:hunter2@localhost:notaport/x", InboxErrorKind::InvalidSettings, "cannot be read"),
        ("postgres://me:hunter2@127.0.0.1:1/x", InboxErrorKind::Unavailable, "not available"),
    ] {
        let error = open_error(url).await;
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        // A server that trusts everybody gets as far as the database's name.
        let no_database = error.to_string().contains("create it") && kind == InboxErrorKind::InvalidSettings;
        assert!(no_database || error.to_string().contains(advice), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

async fn three_connections_are_enough(server: &Server) {
    let inbox = Inbox::builder(&server.url()).max_connections(3).open().await.unwrap();
    let worker = inbox.worker(succeed).spawn();
    join_all((0..100).map(|number| inbox.store([number]))).await;
    inbox.wait_for_state(EventState::Completed, 100).await;
    worker.shutdown().await.unwrap();
}

/// A worker that would look by itself only in an hour hears of what another process stored.
async fn worker_is_notified_of_events_of_other_processes(server: &Server) {
    let (receiving, working) = (server.inbox().await, server.inbox().await);
    let (handler, mut handled) = recording_handler();
    let worker = working.worker(handler).poll_interval(LONG).spawn();
    // Nothing shows that the worker listens until its first look, so the events are stored one after the other.
    for event in 0.. {
        receiving.store([event]).await;
        if tokio::time::timeout(Duration::from_millis(100), handled.recv()).await.is_ok() && event > 2 {
            break;
        }
    }
    worker.shutdown().await.unwrap();
}

async fn workers_of_several_processes_share_events(server: &Server) {
    let (sender, mut handled) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let inbox = server.inbox().await;
        let sender = sender.clone();
        let work = move |delivery: Delivery| {
            let sent = sender.send(delivery.uuid().to_owned());
            async move { Ok(sent?) }
        };
        workers.push((inbox.worker(work).concurrency(4).spawn(), inbox));
    }
    drop(sender);
    for event in 0..100 {
        workers[event as usize % 3].1.store([event]).await;
        // A duplicate at another machine.
        workers[(event as usize + 1) % 3].1.store([event]).await;
    }
    workers[0].1.wait_until_idle().await;
    for (worker, _) in workers {
        worker.shutdown().await.unwrap();
    }
    let mut uuids = Vec::new();
    while let Some(uuid) = handled.recv().await {
        uuids.push(uuid);
    }
    uuids.sort_unstable();
    let all = uuids.len();
    uuids.dedup();
    assert_eq!((all, uuids.len()), (100, 100));
}

fn insert(
    transaction: &mut sqlx::PgTransaction<'static>,
    delivery: &Delivery,
) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
    let key = delivery.key().to_string();
    async move {
        sqlx::query("INSERT INTO effects (key) VALUES ($1)")
            .bind(key)
            .execute(&mut **transaction)
            .await
            .map(drop)
    }
}

async fn transactional_effect_and_completion_are_atomic(server: &Server) {
    server.execute("CREATE TABLE effects (key text)").await;
    let inbox = server.inbox().await;
    inbox.store(0..20).await;
    let worker = inbox
        .transactional_worker(|transaction, delivery| {
            Box::pin(async move {
                insert(transaction, &delivery).await?;
                // The effect of a failed attempt is undone, whether it says so or panics.
                match (delivery.attempt(), delivery.uuid()) {
                    (1, "uuid-3") => Err(HandlerError::retry("not yet")),
                    (1, "uuid-4") => std::panic::resume_unwind(Box::new("broken")),
                    (_, "uuid-5") => Err(HandlerError::permanent("never")),
                    _ => Ok(()),
                }
            })
        })
        .unwrap()
        .backoff(MOMENT, MOMENT);
    inbox.drain_by(worker).await;
    assert_eq!(server.number("SELECT count(*) FROM effects").await, 19);
    assert_eq!(server.number("SELECT count(DISTINCT key) FROM effects").await, 19);
    let dead = inbox.in_state(EventState::DeadLetter).await;
    assert_eq!((dead.len(), dead[0].uuid.as_str()), (1, "uuid-5"));
}

/// Another attempt has the event by the time the first one is done: the first one's effect is undone.
async fn transactional_effect_is_rolled_back_without_lease(server: &Server) {
    server.execute("CREATE TABLE effects (key text)").await;
    let inbox = server.inbox().await;
    inbox.store([1]).await;
    let url: Arc<str> = server.url().into();
    let worker = inbox
        .transactional_worker(move |transaction, delivery| {
            let url = Arc::clone(&url);
            Box::pin(async move {
                insert(transaction, &delivery).await?;
                if delivery.attempt() == 1 {
                    // The event looks as though its lease had ended and another worker had claimed it.
                    let mut other = PgConnection::connect(&url).await?;
                    let stolen = "UPDATE smartshape_inbox_events SET fence = fence + 1, due = now()";
                    sqlx::query(stolen).execute(&mut other).await?;
                }
                Ok(())
            })
        })
        .unwrap();
    inbox.drain_by(worker).await;
    assert_eq!(server.number("SELECT count(*) FROM effects").await, 1);
    let event = inbox.events().await.pop().unwrap();
    assert_eq!((event.state, event.attempts), (EventState::Completed, 2));
}

async fn server_may_be_unavailable_at_start_and_later(server: &Server) {
    let mut link = Link::to(server.host()).await;
    let linked = link.through(&server.url());
    assert_error(&open_error(&linked).await, InboxErrorKind::Unavailable, "");

    let opening = tokio::spawn(Inbox::builder(&linked).store_timeout(Duration::from_secs(3)).open());
    link.join();
    let inbox = opening.await.unwrap().unwrap();
    let (handler, mut handled) = recording_handler();
    let worker = inbox.worker(handler).spawn();
    inbox.store([1]).await;
    assert_eq!(handled.recv().await.as_deref(), Some("uuid-1"));

    link.cut().await;
    inbox.rejection(2).await;
    assert!(!inbox.health().await.is_ready());
    link.join();
    // The sender sends a rejected delivery again, too.
    while inbox.handle(delivery(2)).await.is_err() {}
    assert_eq!(handled.recv().await.as_deref(), Some("uuid-2"));
    poll_until(async || inbox.health().await.is_ready()).await;
    worker.shutdown().await.unwrap();
}

/// Released with the events beside it, it would be claimed with them again and again.
async fn event_whose_body_cannot_be_read_fails_alone(server: &Server) {
    let inbox = server.inbox().await;
    inbox.store(1..=6).await;
    let damaged = "CREATE FUNCTION readable(body bytea, seq bigint) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN \
         IF seq = (SELECT min(e.seq) + 2 FROM SCHEMA.smartshape_inbox_events e) THEN RAISE 'missing chunk'; END IF; \
         RETURN body; END $$; \
         ALTER TABLE smartshape_inbox_bodies RENAME TO bodies; \
         CREATE VIEW smartshape_inbox_bodies AS SELECT seq, readable(body, seq) AS body FROM bodies";
    server.execute(damaged.replace("SCHEMA", server.schema())).await;
    let worker = inbox.worker(succeed).max_attempts(2).backoff(Duration::ZERO, Duration::ZERO).spawn();
    inbox.wait_for_state(EventState::Completed, 5).await;
    inbox.wait_for_state(EventState::DeadLetter, 1).await;
    worker.shutdown().await.unwrap();
    let dead = inbox.in_state(EventState::DeadLetter).await;
    assert_eq!((dead[0].uuid.as_str(), dead[0].attempts), ("uuid-3", 2));
    assert!(dead[0].error.as_ref().unwrap().contains("missing chunk"), "{:?}", dead[0].error);
}

/// A runtime of actix-web stands still while a handler blocks its thread.
#[test]
fn runtime_that_stands_still_holds_up_no_other() {
    let opener = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = opener.block_on(Server::new()) else { return };
    let inbox = opener.block_on(Inbox::open(&server.url())).unwrap();
    let lists = async || {
        let list = || inbox.list(EventFilter::default());
        tokio::try_join!(list(), list(), list(), list())
    };
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(lists()).unwrap();
    // The connections that the other runtime has opened serve this one.
    opener.block_on(lists()).unwrap();
    opener.block_on(async { drop((inbox, server)) });
}
