//! Connections that fall silent, and rows and results that hold up others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use smartshape_webhook::{Delivery, Handler as _, HandlerError};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::it::fixture::{
    Fixture as _, MOMENT, Server, dead_letter, delivery, file_delivery, handler_recording_to, on_postgres,
    poll_until, recording_handler, succeed,
};
use crate::it::link::Link;
use crate::{EventFilter, EventState, Inbox};

on_postgres! {
    database:
    silent_connections_stop_neither_inserts_nor_workers
    silent_count_stops_no_worker
    locked_row_delays_no_other
    locked_row_delays_no_other_file
    abandoned_statement_ends_at_server
    locks_of_other_programs_stop_nothing
    rejected_result_delays_no_other
    serialization_failures_and_deadlocks_are_repeated
    database_with_other_encoding_is_rejected
}

/// Longer than anything here takes on a busy machine, and what is promised for a silent connection.
const IN_TIME: Duration = Duration::from_secs(30);

/// Silences the connections of the inbox, of its worker and of a transactional worker, all at once and a second time.
async fn silent_connections_stop_neither_inserts_nor_workers(server: &Server) {
    let mut link = Link::to(server.host()).await;
    link.join();
    let url = link.through(&server.url());
    let inbox = Inbox::builder(&url).store_timeout(Duration::from_secs(1)).open().await.unwrap();
    let (sender, mut handled) = mpsc::unbounded_channel();
    let plain = inbox.worker(handler_recording_to(sender.clone())).ordered_by_file();
    let plain = plain.lease_ttl(Duration::from_secs(10)).spawn();
    let transactional = inbox
        .transactional_worker(move |transaction, delivery| {
            let sent = sender.send(delivery.uuid().to_owned());
            Box::pin(async move {
                sqlx::query("SELECT 1").execute(&mut **transaction).await?;
                Ok(sent?)
            })
        })
        .unwrap()
        .lease_ttl(Duration::from_secs(10))
        .backoff(MOMENT, MOMENT)
        .spawn();
    let mut stored = HashSet::new();
    let mut number = 0;
    for _ in 0..3 {
        // Senders send several deliveries at once, and each again until it is acknowledged.
        for _ in 0..5 {
            let store = async |number| while inbox.handle(delivery(number)).await.is_err() {};
            timeout(IN_TIME, join_all((number..number + 8).map(store))).await.expect("inserts go on");
            stored.extend((number..number + 8).map(|number| format!("uuid-{number}")));
            number += 8;
        }
        link.go_silent();
    }
    let all = async {
        while !stored.is_empty() {
            stored.remove(&handled.recv().await.unwrap());
        }
    };
    timeout(IN_TIME, all).await.expect("workers go on");
    let ready = poll_until(async || inbox.health().await.is_ready());
    timeout(IN_TIME, ready).await.expect("it is ready again");
    plain.shutdown().await.unwrap();
    transactional.shutdown().await.unwrap();
}

/// The count of the stored bytes, for which there is the same connection as for the worker.
async fn silent_count_stops_no_worker(server: &Server) {
    drop(server.inbox().await);
    let mut link = Link::to(server.host()).await;
    link.go_silent_on("octet_length(error)");
    link.join();
    let url = link.through(&server.url());
    let builder = Inbox::builder(&url).max_connections(3).store_timeout(Duration::from_secs(1));
    let inbox = builder.open().await.unwrap();
    // The first delivery begins a count. On a busy machine it takes longer than a second.
    while inbox.handle(delivery(1)).await.is_err() {}
    let (handler, mut handled) = recording_handler();
    let worker = inbox.worker(handler).lease_ttl(Duration::from_secs(10)).spawn();
    timeout(IN_TIME, handled.recv()).await.expect("the worker goes on").unwrap();
    worker.shutdown().await.unwrap();
}

/// A row stays locked when a transactional handler's machine loses its power before the commit.
async fn locked_row_delays_no_other(server: &Server) {
    let inbox = Inbox::builder(&server.url()).store_timeout(Duration::from_secs(2)).open().await.unwrap();
    inbox.store(1..5).await;
    let (release, started) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (released, starts) = (Arc::clone(&release), Arc::clone(&started));
    let worker = inbox
        .worker(move |_: Delivery| {
            starts.add_permits(1);
            let released = Arc::clone(&released);
            async move {
                released.acquire().await?.forget();
                Ok(())
            }
        })
        .lease_ttl(Duration::from_secs(6))
        .spawn();
    started.acquire_many(4).await.unwrap().forget();
    let mut dead = lock_first_row(server).await;

    let mut watching = server.connect().await;
    let first: Vec<i64> = leases(&mut watching).await;
    let mut renewed =
        async || leases(&mut watching).await.iter().zip(&first).filter(|(now, first)| now > first).count();
    poll_until(async || renewed().await >= 3).await;
    release.add_permits(4);
    inbox.wait_for_state(EventState::Completed, 3).await;
    inbox.store([5]).await;
    release.add_permits(2);
    inbox.wait_for_state(EventState::Completed, 4).await;
    Server::run(&mut dead, "ROLLBACK").await;
    // The locked event's result is recorded late.
    inbox.wait_for_state(EventState::Completed, 5).await;
    assert!(inbox.events().await.iter().all(|event| event.attempts == 1));
    worker.shutdown().await.unwrap();
}

/// A process ended before it marked the next events of two files runnable, and the row of one of them is locked.
async fn locked_row_delays_no_other_file(server: &Server) {
    let inbox = Inbox::open(&server.url()).await.unwrap();
    for number in 1..3 {
        inbox.handle(file_delivery(number, &format!("file-{number}"))).await.unwrap();
    }
    server.execute("UPDATE smartshape_inbox_events SET behind = true").await;
    let _dead = lock_first_row(server).await;
    let worker = inbox.worker(succeed).ordered_by_file().spawn();
    timeout(IN_TIME, inbox.wait_for_state(EventState::Completed, 1)).await.expect("it is handled");
    worker.shutdown().await.unwrap();
}

/// A server notices that a client has gone only when it sends something, so statements have a timeout.
async fn abandoned_statement_ends_at_server(server: &Server) {
    let inbox = Inbox::builder(&server.url()).store_timeout(Duration::from_millis(200)).open().await.unwrap();
    while inbox.handle(delivery(1)).await.is_err() {}
    let sleep = "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_catalog.pg_sleep(CASE WHEN TG_OP = 'INSERT' THEN 3600 ELSE 1 END); RETURN NEW; END $$; \
         UPDATE smartshape_inbox_events SET state = 3, settled = now(); \
         CREATE TRIGGER sleep BEFORE INSERT OR UPDATE ON smartshape_inbox_events FOR EACH ROW EXECUTE FUNCTION sleep()";
    server.execute(sleep).await;
    assert!(inbox.handle(delivery(2)).await.is_err());
    let mut watching = server.connect().await;
    let asleep = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND position('{}' IN query) > 0",
        server.schema()
    );
    let ended = poll_until(async || Server::select(&mut watching, &asleep).await == 0);
    timeout(IN_TIME, ended).await.expect("the server ends it");
    // An operator's statements may take longer.
    assert_eq!(inbox.replay(EventFilter::default()).await.unwrap(), 1);
}

/// A client whose transaction has locked the first event, and never ends.
async fn lock_first_row(server: &Server) -> PgConnection {
    let mut dead = server.connect().await;
    let lock = "BEGIN; UPDATE smartshape_inbox_events SET error = 'locked' WHERE seq = 1";
    Server::run(&mut dead, lock).await;
    dead
}

/// When each event's lease ends.
async fn leases(connection: &mut PgConnection) -> Vec<i64> {
    sqlx::query_scalar("SELECT extract(epoch FROM due)::bigint FROM smartshape_inbox_events ORDER BY seq")
        .fetch_all(connection)
        .await
        .unwrap()
}

/// The inbox takes no advisory locks, which other programs could hold.
async fn locks_of_other_programs_stop_nothing(server: &Server) {
    let mut other = server.connect().await;
    // Those that the inbox once used.
    Server::run(
        &mut other,
        "SELECT pg_advisory_lock(x'696e626f78'::bigint), pg_advisory_lock(x'6f72646572'::bigint)",
    )
    .await;
    let url = server.url();
    let inbox = timeout(IN_TIME, Inbox::open(&url)).await.expect("it is opened").unwrap();
    inbox.store([1]).await;
    let worker = inbox.worker(succeed).ordered_by_file().spawn();
    timeout(IN_TIME, inbox.wait_for_state(EventState::Completed, 1)).await.expect("it is handled");
    worker.shutdown().await.unwrap();
    other.close().await.unwrap();
}

/// One result that the database rejects is given up by itself.
async fn rejected_result_delays_no_other(server: &Server) {
    let inbox = server.inbox().await;
    let reject = "CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.error = 'poison' THEN RAISE EXCEPTION 'no poison here'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER reject BEFORE UPDATE ON smartshape_inbox_events FOR EACH ROW EXECUTE FUNCTION reject()";
    server.execute(reject).await;
    inbox.store(0..7).await;
    let together = Arc::new(tokio::sync::Barrier::new(7));
    let worker = inbox
        .worker(move |delivery: Delivery| {
            let together = Arc::clone(&together);
            async move {
                if delivery.uuid() != "uuid-9" {
                    together.wait().await;
                }
                let error = if delivery.uuid() == "uuid-3" { "poison" } else { "not now" };
                Err(HandlerError::permanent(error))
            }
        })
        .spawn();
    inbox.wait_for_state(EventState::DeadLetter, 6).await;
    inbox.store([9]).await;
    inbox.wait_for_state(EventState::DeadLetter, 7).await;
    let running = inbox.in_state(EventState::Running).await;
    assert_eq!(running.iter().map(|event| &*event.uuid).collect::<Vec<_>>(), ["uuid-3"]);
    worker.shutdown().await.unwrap();
}

/// Each statement has a conflict twice before it succeeds.
async fn serialization_failures_and_deadlocks_are_repeated(server: &Server) {
    let inbox = server.inbox().await;
    // A sequence counts what is rolled back, too.
    let conflict = "CREATE SEQUENCE tries; CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('SCHEMA.tries') % 3 <> 0 THEN RAISE EXCEPTION 'try again' USING ERRCODE = TG_ARGV[0]; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER inserts BEFORE INSERT ON smartshape_inbox_events FOR EACH ROW EXECUTE FUNCTION conflict('40001'); \
         CREATE TRIGGER updates BEFORE UPDATE ON smartshape_inbox_events FOR EACH ROW EXECUTE FUNCTION conflict('40P01')";
    server.execute(conflict.replace("SCHEMA", server.schema())).await;
    inbox.store([1]).await;
    let storage = inbox.storage();
    let lease = storage.attempt(IN_TIME).await.lease;
    assert_eq!(storage.renew(vec![lease], IN_TIME).await.unwrap(), [lease]);
    assert!(storage.end(lease, dead_letter("never")).await);
    assert_eq!(inbox.replay(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap(), 1);
    // A conflict is not retried forever.
    server.execute("ALTER SEQUENCE tries INCREMENT 3 RESTART WITH 1").await;
    assert!(inbox.handle(delivery(2)).await.is_err());
}

async fn database_with_other_encoding_is_rejected(server: &Server) {
    let name = format!("latin_{}", std::process::id());
    let create =
        format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    server.execute(create).await;
    let error = Inbox::open(&server.database(&name)).await.unwrap_err();
    server.execute(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    assert!(error.to_string().contains("LATIN1"), "{error}");
}

/// Renewing the lease changes the event's row while the handler runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactional_handlers_work_under_every_default_isolation() {
    for isolation in ["repeatable%5C%20read", "serializable"] {
        let Some(server) = Server::new().await else { return };
        let url = format!("{}%20-cdefault_transaction_isolation%3D{isolation}", server.url());
        let inbox = Inbox::open(&url).await.unwrap();
        inbox.store([1]).await;
        let watched: Arc<str> = server.url().into();
        let worker = inbox
            .transactional_worker(move |transaction, _| {
                let url = Arc::clone(&watched);
                Box::pin(async move {
                    // The snapshot of a stricter level is taken here.
                    sqlx::query("SELECT count(*) FROM smartshape_inbox_events")
                        .execute(&mut **transaction)
                        .await?;
                    let mut other = PgConnection::connect(&url).await?;
                    sqlx::query("UPDATE smartshape_inbox_events SET due = due").execute(&mut other).await?;
                    Ok(())
                })
            })
            .unwrap()
            .spawn();
        inbox.wait_for_state(EventState::Completed, 1).await;
        assert_eq!(inbox.events().await[0].attempts, 1);
        worker.shutdown().await.unwrap();
    }
}
