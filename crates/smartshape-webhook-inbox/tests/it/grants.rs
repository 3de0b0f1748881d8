//! What a role needs, what it must not be able to do to others, and when the inbox is ready.

use smartshape_webhook::{ClaimState, DedupStore as _, Delivery, Handler as _, HandlerError, LeaseToken};

use crate::it::fixture::{
    Fixture as _, LONG, Server, assert_error, delivery, on_postgres, open_error, poll_until, succeed,
};
use crate::{EventFilter, EventState, Inbox, InboxErrorKind};

on_postgres! {
    database:
    documented_grants_are_enough_and_needed
    tables_created_from_migration_files_are_used
    server_without_privileges_is_not_ready
    server_with_sequence_behind_its_table_is_not_ready
    functions_of_other_roles_never_run
    tables_of_other_role_in_public_schema_are_rejected
    insert_forces_synchronous_commit
}

/// A role with a password, which is dropped with what it owns.
struct Role<'s> {
    server: &'s Server,
    name: String,
}

impl<'s> Role<'s> {
    async fn new(server: &'s Server, name: &str) -> Self {
        let name = format!("{name}_{}", server.schema());
        let role = Self { server, name };
        server.execute(format!("CREATE ROLE {} LOGIN PASSWORD 'of these tests'", role.name)).await;
        role
    }

    fn url(&self) -> String {
        self.server.as_role(&self.name, "of%20these%20tests")
    }

    async fn drop(self) {
        self.server.execute(format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name)).await;
    }
}

/// Asserts that the inbox is not ready, and says why.
async fn assert_unready(inbox: &Inbox, reason: &str) {
    let health = inbox.health().await;
    assert!(health.storage_error.as_ref().is_some_and(|text| text.contains(reason)), "{reason}: {health:?}");
}

/// The statements that the README gives.
fn documented_grants(schema: &str, role: &str) -> String {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```sql\nGRANT").unwrap();
    let grants = format!("GRANT{}", rest.split_once("```").unwrap().0);
    grants.replace("inbox_schema", schema).replace("inbox_role", role)
}

async fn documented_grants_are_enough_and_needed(server: &Server) {
    drop(server.inbox().await);
    let role = Role::new(server, "grants").await;
    let error = open_error(&role.url()).await;
    assert_ne!(error.kind(), InboxErrorKind::Unavailable, "{error}");

    server.execute(documented_grants(server.schema(), &role.name)).await;
    let inbox = Inbox::open(&role.url()).await.unwrap();
    inbox.store(0..4).await;
    let worker = inbox
        .worker(|delivery: Delivery| async move {
            if delivery.uuid() == "uuid-3" { Err(HandlerError::permanent("no")) } else { Ok(()) }
        })
        .ordered_by_file()
        .spawn();
    inbox.wait_for_state(EventState::Completed, 3).await;
    inbox.wait_for_state(EventState::DeadLetter, 1).await;
    assert!(inbox.health().await.is_ready());
    worker.shutdown().await.unwrap();
    assert_eq!(inbox.replay(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(inbox.purge(EventFilter::default()).await.unwrap(), 1);
    assert_eq!(inbox.stats().await.unwrap().waiting, 0);
    let (store, key, token) = (inbox.dedup_store().unwrap(), delivery(9).key(), LeaseToken::new(1));
    assert_eq!(store.claim(key, token, LONG).await.unwrap(), ClaimState::New);
    store.release(key, token).await.unwrap();
    store.complete(key, token).await.unwrap();

    // Without one of them, it says so.
    for (grant, advice) in [
        ("INSERT ON smartshape_inbox_events", "permission"),
        ("INSERT ON smartshape_inbox_bodies", "permission"),
        ("UPDATE ON smartshape_inbox_events", "permission"),
        ("DELETE ON smartshape_inbox_bodies", "permission"),
        ("USAGE ON SEQUENCE smartshape_inbox_events_seq_seq", "sequence"),
    ] {
        server.execute(format!("REVOKE {grant} FROM {}", role.name)).await;
        assert_unready(&inbox, advice).await;
        server.execute(format!("GRANT {grant} TO {}", role.name)).await;
        assert_eq!(inbox.health().await.storage_error, None);
    }
    drop(inbox);
    role.drop().await;
}

async fn tables_created_from_migration_files_are_used(server: &Server) {
    for file in [
        include_str!("../../migrations/postgres-0001.sql"),
        include_str!("../../migrations/postgres-0002.sql"),
        include_str!("../../migrations/postgres-0003.sql"),
        include_str!("../../migrations/postgres-0004.sql"),
        include_str!("../../migrations/postgres-0005.sql"),
        include_str!("../../migrations/postgres-0006.sql"),
    ] {
        server.execute(file).await;
    }
    let inbox = server.inbox().await;
    inbox.store([1]).await;
    assert_eq!(inbox.stats().await.unwrap().waiting, 1);
}

async fn server_without_privileges_is_not_ready(server: &Server) {
    let inbox = server.inbox().await;
    assert_eq!(inbox.health().await.storage_error, None);
    let read_only = format!("{}%20-cdefault_transaction_read_only%3Don", server.url());
    let standby = Inbox::open(&read_only).await.unwrap();
    assert_unready(&standby, "read-only").await;
    assert!(standby.handle(delivery(1)).await.is_err());
    server.execute("ALTER TABLE smartshape_inbox_events ALTER seq DROP IDENTITY").await;
    assert_unready(&inbox, "sequence").await;
    assert!(inbox.handle(delivery(1)).await.is_err());
}

/// Logical replication copies the rows, and leaves the sequence where it was.
async fn server_with_sequence_behind_its_table_is_not_ready(server: &Server) {
    let inbox = server.inbox().await;
    assert_eq!(inbox.health().await.storage_error, None);
    inbox.store(0..9).await;
    assert_eq!(inbox.health().await.storage_error, None);
    let sequence = "pg_get_serial_sequence('smartshape_inbox_events', 'seq')";
    // Whoever moves it to a number by hand may say that this number is the next one.
    server.execute(format!("SELECT setval({sequence}, 100, false)")).await;
    assert_eq!(inbox.health().await.storage_error, None);
    server.execute(format!("SELECT setval({sequence}, 1, false)")).await;
    assert!(inbox.handle(delivery(9)).await.is_err());
    let error = inbox.health().await.storage_error.unwrap();
    let (_, remedy) = error.split_once("SELECT setval(").unwrap_or_else(|| panic!("{error}"));
    server.execute(format!("SELECT setval({remedy}")).await;
    assert_eq!(inbox.health().await.storage_error, None);
    inbox.store([9]).await;
}

/// In a schema of the search path others may have made functions and operators that match our statements better
/// than PostgreSQL's own.
async fn functions_of_other_roles_never_run(server: &Server) {
    drop(server.inbox().await);
    let mut traps = "CREATE FUNCTION trap() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trap'; END $$;".to_owned();
    for function in [
        "nextval(text)",
        "pg_total_relation_size(text)",
        "md5(name)",
        "length(bytea)",
        "pg_notify(text, text)",
        "set_config(text, text, boolean)",
        "current_setting(text)",
        "pg_get_serial_sequence(text, text)",
    ] {
        traps += &format!(
            "CREATE FUNCTION {function} RETURNS bigint LANGUAGE sql AS 'SELECT {}.trap()';",
            server.schema()
        );
    }
    for (left, operator, right) in
        [("bigint", "*", "interval"), ("smallint", "=", "bigint"), ("bigint", "=", "integer")]
    {
        let name = format!("trap_{}", traps.len());
        traps += &format!(
            "CREATE FUNCTION {name}({left}, {right}) RETURNS bigint LANGUAGE sql AS 'SELECT {}.trap()'; \
             CREATE OPERATOR {operator} (FUNCTION = {name}, LEFTARG = {left}, RIGHTARG = {right});",
            server.schema()
        );
    }
    server.execute(traps).await;
    server.execute("CREATE TABLE effects (key text)").await;
    let inbox = server.inbox().await;
    inbox.store(0..6).await;
    assert!(inbox.health().await.storage_error.is_none() && inbox.stats().await.unwrap().waiting == 6);
    assert_eq!(inbox.purge(EventFilter::default().limit(1)).await.unwrap(), 1);
    let plain = inbox.worker(succeed).ordered_by_file().concurrency(1).spawn();
    let transactional = inbox
        .transactional_worker(|transaction, _| {
            Box::pin(async move {
                // The handler's own statements see the search path of the URL.
                sqlx::query("INSERT INTO effects VALUES ('x')").execute(&mut **transaction).await?;
                Ok(())
            })
        })
        .unwrap()
        .concurrency(1)
        .spawn();
    poll_until(async || {
        let events = inbox.events().await;
        assert!(events.iter().all(|event| event.error.is_none()), "{events:?}");
        events.iter().all(|event| event.state == EventState::Completed)
    })
    .await;
    plain.shutdown().await.unwrap();
    transactional.shutdown().await.unwrap();
}

/// Tables that somebody else has put there may have triggers.
async fn tables_of_other_role_in_public_schema_are_rejected(server: &Server) {
    let (app, other) = (Role::new(server, "app").await, Role::new(server, "other").await);
    server.execute(format!("GRANT USAGE, CREATE ON SCHEMA {} TO public", server.schema())).await;
    drop(Inbox::open(&other.url()).await.unwrap());
    assert_error(&open_error(&app.url()).await, InboxErrorKind::InvalidSettings, "REVOKE CREATE");
    other.drop().await;
    drop(Inbox::open(&app.url()).await.unwrap());
    app.drop().await;
}

/// Whatever the settings of role, database or server become after it was opened.
async fn insert_forces_synchronous_commit(server: &Server) {
    let inbox = server.inbox().await;
    let watch = "CREATE TABLE seen (level text); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           INSERT INTO SCHEMA.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER see AFTER INSERT ON smartshape_inbox_bodies DEFERRABLE INITIALLY DEFERRED \
           FOR EACH ROW EXECUTE FUNCTION see(); \
         CREATE FUNCTION hasten() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           PERFORM set_config('synchronous_commit', 'off', false); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER a_hasten AFTER INSERT ON smartshape_inbox_events DEFERRABLE INITIALLY DEFERRED \
           FOR EACH ROW WHEN (NEW.uuid = 'uuid-0') EXECUTE FUNCTION hasten()";
    server.execute(watch.replace("SCHEMA", server.schema())).await;
    // The first one leaves its connection, as a pooler or an operator could, with a setting that loses commits.
    inbox.store(0..3).await;
    let mut connection = server.connect().await;
    let levels: Vec<String> =
        sqlx::query_scalar("SELECT level FROM seen").fetch_all(&mut connection).await.unwrap();
    assert_eq!(levels[1..], ["on", "on"]);
}
