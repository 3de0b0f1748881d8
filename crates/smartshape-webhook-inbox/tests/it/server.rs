//! Faults of a PostgreSQL server, and several processes on one database.
use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{Delivery, Handler as _, HandlerError, HandlerErrorKind};

use crate::{Count, EventFilter, EventState, Inbox, InboxErrorKind, ReasonId};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc;

use crate::it::fixture::{Server, all_settled, delivery, recording_handler, settled};
use crate::it::link::Link;

async fn store(inbox: &Inbox, number: u32) {
    assert!(inbox.handle(delivery(number)).await.is_ok());
}

async fn number(server: &Server, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn server_that_can_lose_commits_is_rejected() {
    let Some(server) = Server::new().await else { return };
    let url = format!("{}%20-csynchronous_commit%3Doff", server.url());
    let error = Inbox::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::NotDurable, "{error}");
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
    let allowed = Inbox::builder(&url).danger_allow_asynchronous_commit(true).open().await;
    store(&allowed.unwrap(), 1).await;
}

/// Whatever the server's default isolation is.
#[tokio::test]
async fn concurrent_processes_migrate_once() {
    for isolation in ["read%5C%20committed", "repeatable%5C%20read", "serializable"] {
        let Some(server) = Server::new().await else { return };
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let url = format!("{}%20-cdefault_transaction_isolation%3D{isolation}", server.url());
                // A busy machine takes long for eight at once.
                let patient = Inbox::builder(&url).store_timeout(Duration::from_secs(60));
                tokio::spawn(patient.open())
            })
            .collect();
        for one in opening {
            one.await.unwrap().unwrap();
        }
    }
}

/// A newer program migrates while this one starts, too.
#[tokio::test]
async fn newer_schema_is_kept_by_concurrent_migration() {
    let Some(server) = Server::new().await else { return };
    server.execute(include_str!("../../migrations/postgres-0001.sql").to_owned()).await;
    let mut newer = PgConnection::connect(&server.url()).await.unwrap();
    let migrate = "BEGIN; UPDATE smartshape_inbox_meta SET value = 9 WHERE name = 'schema'";
    sqlx::raw_sql(migrate).execute(&mut newer).await.unwrap();
    let url = server.url();
    let mut opening = tokio::spawn(async move { Inbox::open(&url).await });
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut opening).await.is_err(), "it waits");
    sqlx::raw_sql("COMMIT").execute(&mut newer).await.unwrap();
    opening.await.unwrap().unwrap();
    let schema = "SELECT value FROM smartshape_inbox_meta WHERE name = 'schema'";
    assert_eq!(number(&server, schema).await, 9);
}

#[tokio::test]
async fn errors_give_advice_and_hide_password() {
    let Some(server) = Server::new().await else { return };
    let url = server.url();
    let base = url.split_once("://").unwrap().1;
    let host = base.rsplit_once('@').map_or(base, |(_, host)| host).split_once('/').unwrap().0;
    for (url, kind, advice) in [
        (
            format!("postgres://nobody-known:hunter2@{host}/none"),
            InboxErrorKind::InvalidSettings,
            "check user",
        ),
        (
            "postgres://me:hunter2@localhost:notaport/x".to_owned(),
            InboxErrorKind::InvalidSettings,
            "cannot be read",
        ),
        ("postgres://me:hunter2@127.0.0.1:1/x".to_owned(), InboxErrorKind::Unavailable, "not available"),
    ] {
        let error = Inbox::builder(&url).connect_timeout(Duration::ZERO).open().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        // A server that trusts everybody gets as far as the database's name.
        let no_database = error.to_string().contains("create it") && kind == InboxErrorKind::InvalidSettings;
        assert!(no_database || error.to_string().contains(advice), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn newer_schema_is_used_if_compatible() {
    let Some(server) = Server::new().await else { return };
    store(&Inbox::open(&server.url()).await.unwrap(), 1).await;
    let newer = "ALTER TABLE smartshape_inbox_events ADD later text; \
         UPDATE smartshape_inbox_meta SET value = 9 WHERE name = 'schema'";
    server.execute(newer.to_owned()).await;
    store(&Inbox::open(&server.url()).await.unwrap(), 2).await;
    server.execute("UPDATE smartshape_inbox_meta SET value = 9 WHERE name = 'reads_from'".to_owned()).await;
    let error = Inbox::open(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::NewerSchema, "{error}");
}

#[tokio::test]
async fn size_limit_rejects_until_events_are_completed() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::builder(&server.url()).max_size_bytes(100).open().await.unwrap();
    let error = inbox.handle(delivery(1)).await.unwrap_err();
    assert!(
        matches!(error.kind(), HandlerErrorKind::RetryAfter(_)) && error.to_string().contains("maximum size")
    );
    assert_eq!(inbox.stats().await.unwrap().waiting, 0);
}

/// Senders, a listener and a worker get by with as few connections as can be set.
#[tokio::test]
async fn three_connections_are_enough() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::builder(&server.url()).max_connections(3).open().await.unwrap();
    let (handler, mut handled) = recording_handler();
    let worker = inbox.worker(handler).spawn();
    let storing: Vec<_> = (0..100)
        .map(|number| {
            let inbox = inbox.clone();
            tokio::spawn(async move { inbox.handle(delivery(number)).await.is_ok() })
        })
        .collect();
    for one in storing {
        assert!(one.await.unwrap());
    }
    for _ in 0..100 {
        assert!(handled.recv().await.is_some());
    }
    worker.shutdown().await.unwrap();
}

/// A worker that would look by itself only in an hour hears of what another process stored.
#[tokio::test]
async fn worker_is_notified_of_events_of_other_processes() {
    let Some(server) = Server::new().await else { return };
    let (receiving, working) =
        (Inbox::open(&server.url()).await.unwrap(), Inbox::open(&server.url()).await.unwrap());
    let (handler, mut handled) = recording_handler();
    let worker = working.worker(handler).poll_interval(Duration::from_secs(3600)).spawn();
    // Nothing shows that the worker listens until its first look, so the events are stored one after the other.
    for event in 0.. {
        store(&receiving, event).await;
        if tokio::time::timeout(Duration::from_millis(100), handled.recv()).await.is_ok() && event > 2 {
            break;
        }
    }
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn workers_of_several_processes_share_events() {
    let Some(server) = Server::new().await else { return };
    let (sender, mut handled) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let inbox = Inbox::open(&server.url()).await.unwrap();
        let sender = sender.clone();
        let work = move |delivery: Delivery| {
            let sent = sender.send(delivery.uuid().to_owned());
            async move { Ok(sent?) }
        };
        workers.push((inbox.worker(work).concurrency(4).spawn(), inbox));
    }
    drop(sender);
    for event in 0..100 {
        store(&workers[event as usize % 3].1, event).await;
        // A duplicate at another machine.
        store(&workers[(event as usize + 1) % 3].1, event).await;
    }
    all_settled(&workers[0].1).await;
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

#[tokio::test]
async fn transactional_effect_and_completion_are_atomic() {
    let Some(server) = Server::new().await else { return };
    server.execute("CREATE TABLE effects (key text)".to_owned()).await;
    let inbox = Inbox::open(&server.url()).await.unwrap();
    for event in 0..20 {
        store(&inbox, event).await;
    }
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
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .spawn();
    all_settled(&inbox).await;
    worker.shutdown().await.unwrap();
    assert_eq!(number(&server, "SELECT count(*) FROM effects").await, 19);
    assert_eq!(number(&server, "SELECT count(DISTINCT key) FROM effects").await, 19);
    let dead = inbox.list(EventFilter::default().state(EventState::DeadLetter)).await.unwrap();
    assert_eq!((dead.len(), dead[0].uuid.as_str()), (1, "uuid-5"));
}

/// Another attempt has the event by the time the first one is done: the first one's effect is undone.
#[tokio::test]
async fn transactional_effect_is_rolled_back_without_lease() {
    let Some(server) = Server::new().await else { return };
    server.execute("CREATE TABLE effects (key text)".to_owned()).await;
    let inbox = Inbox::open(&server.url()).await.unwrap();
    store(&inbox, 1).await;
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
        .unwrap()
        .spawn();
    all_settled(&inbox).await;
    worker.shutdown().await.unwrap();
    assert_eq!(number(&server, "SELECT count(*) FROM effects").await, 1);
    let event = inbox.list(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((event.state, event.attempts), (EventState::Completed, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_may_be_unavailable_at_start_and_later() {
    let Some(server) = Server::new().await else { return };
    let url = server.url();
    let mut link = Link::to(server.host()).await;
    let linked = link.through(&url);
    let error = Inbox::builder(&linked).connect_timeout(Duration::from_millis(50)).open().await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Unavailable, "{error}");

    let opening =
        tokio::spawn(
            async move { Inbox::builder(&linked).store_timeout(Duration::from_secs(3)).open().await },
        );
    link.join();
    let inbox = opening.await.unwrap().unwrap();
    let (handler, mut handled) = recording_handler();
    let worker = inbox.worker(handler).spawn();
    store(&inbox, 1).await;
    assert_eq!(handled.recv().await.as_deref(), Some("uuid-1"));

    link.cut().await;
    let error = inbox.handle(delivery(2)).await.unwrap_err();
    assert!(matches!(error.kind(), HandlerErrorKind::RetryAfter(_)), "{error}");
    assert!(!inbox.health().await.is_ready());
    link.join();
    // The sender sends a rejected delivery again, too.
    while inbox.handle(delivery(2)).await.is_err() {}
    assert_eq!(handled.recv().await.as_deref(), Some("uuid-2"));
    while !inbox.health().await.is_ready() {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
}

/// A process of the version before goes on beside a new one, and its dead letters get a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_second_schema_are_migrated() {
    let Some(server) = Server::new().await else { return };
    server.execute(include_str!("../../migrations/postgres-0001.sql").to_owned()).await;
    server.execute(include_str!("../../migrations/postgres-0002.sql").to_owned()).await;
    let dead = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, error) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 3, now(), n, 'e', 'f', 'u', 0, 1, \
           'no part 5c6aeed079bf3f432d3c929' || n || ' in the catalogue' FROM generate_series(FROM, FROM + 1) n";
    server.execute(dead.replace("FROM, FROM", "1, 1")).await;
    let reading = Inbox::builder(&server.url()).read_only(true).open().await.unwrap();
    assert_eq!(reading.counts().await.unwrap().dead_letters, Count::Exactly(2));
    let error = reading.dead_letter_reasons(9).await.unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::OlderSchema, "{error}");
    drop(reading);

    let inbox = Inbox::open(&server.url()).await.unwrap();
    server.execute(dead.replace("FROM, FROM", "3, 3")).await;
    let worker = inbox.worker(|_: Delivery| async { Ok(()) }).spawn();
    while inbox.dead_letter_reasons(9).await.unwrap()[0].text.is_empty()
        || inbox.dead_letter_reasons(9).await.unwrap()[0].id == ReasonId(0)
    {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
    let reasons = inbox.dead_letter_reasons(9).await.unwrap();
    let shown: Vec<_> = reasons.iter().map(|reason| (&*reason.text, reason.dead_letters)).collect();
    assert_eq!(shown, [("no part … in the catalogue", 4)]);
}

/// Released with the events beside it, it would be claimed with them again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_whose_body_cannot_be_read_fails_alone() {
    let Some(server) = Server::new().await else { return };
    let inbox = Inbox::open(&server.url()).await.unwrap();
    for number in 1..=6 {
        store(&inbox, number).await;
    }
    let damaged = "CREATE FUNCTION readable(body bytea, seq bigint) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN \
         IF seq = (SELECT min(e.seq) + 2 FROM SCHEMA.smartshape_inbox_events e) THEN RAISE 'missing chunk'; END IF; \
         RETURN body; END $$; \
         ALTER TABLE smartshape_inbox_bodies RENAME TO bodies; \
         CREATE VIEW smartshape_inbox_bodies AS SELECT seq, readable(body, seq) AS body FROM bodies";
    server.execute(damaged.replace("SCHEMA", server.schema())).await;
    let worker = inbox
        .worker(|_: Delivery| async { Ok(()) })
        .max_attempts(2)
        .backoff(Duration::ZERO, Duration::ZERO)
        .spawn();
    settled(&inbox, EventState::Completed, 5).await;
    settled(&inbox, EventState::DeadLetter, 1).await;
    worker.shutdown().await.unwrap();
    let dead = inbox.list(EventFilter::default().state(EventState::DeadLetter)).await.unwrap();
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
