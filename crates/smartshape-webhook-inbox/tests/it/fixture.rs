//! Inboxes to test on: a file in a folder of its own, a schema of its own on a real server.

use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::NewEvent;
use crate::storage::{Attempt, AttemptOutcome, AttemptResult, ClaimRequest, Lease, Retention, Storage};
use crate::{EventFilter, EventState, Inbox, InboxError, InboxErrorKind, StoredEvent, Worker};
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta, Handler, HandlerError, HandlerErrorKind};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

/// An empty database of a test.
pub(crate) trait Fixture {
    type Connection;

    fn url(&self) -> String;

    /// Selects what is meant for this database.
    fn either<T>(&self, sqlite: T, postgres: T) -> T;

    async fn connect(&self) -> Self::Connection;

    async fn run(connection: &mut Self::Connection, sql: impl Into<String>);

    /// The number that `sql` selects.
    async fn select(connection: &mut Self::Connection, sql: impl Into<String>) -> i64;

    async fn execute(&self, sql: impl Into<String>);

    async fn number(&self, sql: impl Into<String>) -> i64 {
        Self::select(&mut self.connect().await, sql).await
    }

    async fn execute_either(&self, sqlite: &str, postgres: &str) {
        self.execute(self.either(sqlite, postgres)).await;
    }

    /// Opens this database; the same one each time.
    async fn storage(&self) -> Arc<dyn Storage> {
        // A busy machine takes long for a long body.
        let inbox = Inbox::builder(&self.url()).store_timeout(Duration::from_secs(60)).open();
        Arc::clone(inbox.await.unwrap().storage())
    }

    async fn inbox(&self) -> Inbox {
        Inbox::with_storage(self.storage().await, &Inbox::builder("fixture"))
    }

    /// The error with which this database cannot be opened.
    async fn open_error(&self) -> InboxError {
        open_error(&self.url()).await
    }
}

#[track_caller]
pub(crate) fn assert_error(error: &InboxError, kind: InboxErrorKind, text: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

pub(crate) async fn open_error(url: &str) -> InboxError {
    Inbox::builder(url).connect_timeout(Duration::ZERO).open().await.unwrap_err()
}

/// A folder that is deleted with the test. As a fixture, the file `inbox.db` in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[cfg(feature = "sqlite")]
impl Fixture for Folder {
    type Connection = sqlx::SqliteConnection;

    fn url(&self) -> String {
        self.path("inbox.db").to_str().unwrap().to_owned()
    }

    fn either<T>(&self, sqlite: T, _: T) -> T {
        sqlite
    }

    async fn connect(&self) -> Self::Connection {
        let file = sqlx::sqlite::SqliteConnectOptions::new().filename(self.url());
        sqlx::ConnectOptions::connect(&file.create_if_missing(true)).await.unwrap()
    }

    async fn run(connection: &mut Self::Connection, sql: impl Into<String>) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.into())).execute(connection).await.unwrap();
    }

    async fn execute(&self, sql: impl Into<String>) {
        let mut connection = self.connect().await;
        Self::run(&mut connection, sql).await;
        sqlx::Connection::close(connection).await.unwrap();
    }

    async fn select(connection: &mut Self::Connection, sql: impl Into<String>) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.into())).fetch_one(connection).await.unwrap()
    }
}

/// An inbox in a file, and its folder.
#[cfg(feature = "sqlite")]
pub(crate) async fn file_inbox() -> (Folder, Inbox) {
    let folder = Folder::new();
    let inbox = folder.inbox().await;
    (folder, inbox)
}

/// Makes a test of each case, for each storage. A case is given the `database`, or what was opened in it: the
/// `inbox` or the `storage`.
macro_rules! on_each_storage {
    ($($given:ident: $($case:ident)*);+) => {
        #[cfg(feature = "sqlite")]
        mod sqlite {
            use crate::it::fixture::{Folder, given};

            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let folder = Folder::new();
                super::$case(given!($given, folder)).await;
            })*)+
        }

        #[cfg(feature = "postgres")]
        crate::it::fixture::on_postgres! { $($given: $($case)*);+ }
    };
}

/// Makes a test of each case, on PostgreSQL.
#[cfg(feature = "postgres")]
macro_rules! on_postgres {
    ($($given:ident: $($case:ident)*);+) => {
        mod postgres {
            use crate::it::fixture::{Server, given};

            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(server) = Server::new().await {
                    super::$case(given!($given, server)).await;
                }
            })*)+
        }
    };
}

macro_rules! given {
    (database, $fixture:ident) => {
        &$fixture
    };
    ($opened:ident, $fixture:ident) => {
        &crate::it::fixture::Fixture::$opened(&$fixture).await
    };
}

pub(crate) use given;
pub(crate) use on_each_storage;
#[cfg(feature = "postgres")]
pub(crate) use on_postgres;

impl ClaimRequest {
    /// Without order; dead-letters after 10 attempts or 3 lost leases.
    pub(crate) fn new(max_events: u32, lease_ttl: Duration) -> Self {
        Self { max_events, lease_ttl, ordered: false, max_attempts: 10, max_lost_leases: 3 }
    }

    pub(crate) fn ordered(max_events: u32, lease_ttl: Duration) -> Self {
        Self { ordered: true, ..Self::new(max_events, lease_ttl) }
    }
}

pub(crate) const COMPLETED: AttemptOutcome = AttemptOutcome::Completed { keep_body: false };

pub(crate) fn retry(after: Duration) -> AttemptOutcome {
    AttemptOutcome::Retry { after, error: "not yet".to_owned() }
}

pub(crate) fn dead_letter(error: &str) -> AttemptOutcome {
    AttemptOutcome::DeadLetter { error: error.to_owned() }
}

/// What tests do with a storage.
impl dyn Storage {
    /// Claims without order. Returns the attempts.
    pub(crate) async fn attempts(&self, max_events: u32, lease_ttl: Duration) -> Vec<Attempt> {
        self.claim(ClaimRequest::new(max_events, lease_ttl)).await.unwrap().attempts
    }

    /// Claims the one event that is due.
    pub(crate) async fn attempt(&self, lease_ttl: Duration) -> Attempt {
        self.attempts(1, lease_ttl).await.pop().unwrap()
    }

    /// Ends an attempt. Returns whether its lease was held.
    pub(crate) async fn end(&self, lease: Lease, outcome: AttemptOutcome) -> bool {
        self.settle([result(lease, outcome)].into()).await.unwrap().recorded == [lease]
    }

    pub(crate) async fn in_state(&self, state: EventState) -> Vec<StoredEvent> {
        self.list(EventFilter::default().state(state)).await.unwrap()
    }
}

pub(crate) fn result(lease: Lease, outcome: AttemptOutcome) -> AttemptResult {
    AttemptResult { lease, outcome, took: Duration::ZERO }
}

/// What tests do with an inbox.
impl Inbox {
    /// Stores the [`delivery`] of each number.
    pub(crate) async fn store(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.handle(delivery(number)).await.unwrap();
        }
    }

    /// Sends the [`delivery`] of the number, which the sender is to send again. Returns why.
    pub(crate) async fn rejection(&self, number: u32) -> String {
        let error = self.handle(delivery(number)).await.unwrap_err();
        assert!(matches!(error.kind(), HandlerErrorKind::RetryAfter(_)), "{error}");
        error.to_string()
    }

    /// All events, the earliest first.
    pub(crate) async fn events(&self) -> Vec<StoredEvent> {
        self.list(EventFilter::default()).await.unwrap()
    }

    pub(crate) async fn in_state(&self, state: EventState) -> Vec<StoredEvent> {
        self.storage().in_state(state).await
    }

    /// Waits until nothing waits or runs.
    pub(crate) async fn wait_until_idle(&self) {
        poll_until(async || {
            let stats = self.stats().await.unwrap();
            stats.waiting + stats.running == 0
        })
        .await;
    }

    /// Waits until so many events have the state.
    pub(crate) async fn wait_for_state(&self, state: EventState, count: usize) {
        poll_until(async || self.in_state(state).await.len() >= count).await;
    }

    /// Runs a worker that handles everything until nothing waits or runs.
    pub(crate) async fn drain(&self) {
        self.drain_by(self.worker(succeed)).await;
    }

    /// Runs this worker until nothing waits or runs.
    pub(crate) async fn drain_by(&self, worker: Worker) {
        let worker = worker.spawn();
        self.wait_until_idle().await;
        worker.shutdown().await.unwrap();
    }
}

/// Maximum time until a condition holds, by the system's clock, since the runtime's may be paused.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Yields until `condition` returns true; panics after [`TIMEOUT`].
#[track_caller]
pub(crate) fn poll_until(mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let (caller, started_at) = (Location::caller(), Instant::now());
    async move {
        while !condition().await {
            assert!(started_at.elapsed() < TIMEOUT, "timed out: {caller}");
            tokio::task::yield_now().await;
        }
    }
}

/// A handler that succeeds.
pub(crate) async fn succeed(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

/// A handler that sends uuid and attempt of each delivery, and then does `work`.
pub(crate) fn attempt_recording_handler<F>(
    work: impl Fn(Delivery) -> F + Send + Sync + 'static,
) -> (impl Handler, UnboundedReceiver<(String, u32)>)
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let (sender, recorded) = unbounded_channel();
    let handler = move |delivery: Delivery| {
        let sent = sender.send((delivery.uuid().to_owned(), delivery.attempt()));
        let work = work(delivery);
        async move {
            sent?;
            work.await
        }
    };
    (handler, recorded)
}

/// A handler that succeeds, and the uuids that it gets.
pub(crate) fn recording_handler() -> (impl Handler, UnboundedReceiver<String>) {
    let (sender, handled) = unbounded_channel();
    (handler_recording_to(sender), handled)
}

/// A handler that succeeds, and sends the uuids that it gets.
pub(crate) fn handler_recording_to(sender: UnboundedSender<String>) -> impl Handler {
    move |delivery: Delivery| {
        let sent = sender.send(delivery.uuid().to_owned());
        async move { Ok(sent?) }
    }
}

/// A handler that says when it starts, and then blocks its thread until the sender is dropped.
pub(crate) fn blocking_handler() -> (impl Handler, UnboundedReceiver<()>, std::sync::mpsc::Sender<()>) {
    let (sender, started) = unbounded_channel();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let handler = move |_: Delivery| {
        let _ = sender.send(());
        let _ = blocked.lock().unwrap().recv();
        async { Ok(()) }
    };
    (handler, started, unblock)
}

/// Without `dedup_capacity`.
pub(crate) fn retention(dedup: Duration, bodies: Duration) -> Retention {
    Retention { dedup, bodies, dedup_capacity: u64::MAX }
}

/// A small delivery.
pub(crate) fn delivery(number: u32) -> Delivery {
    long_delivery(number, 0)
}

/// A delivery with at least so many bytes.
pub(crate) fn long_delivery(number: u32, bytes: usize) -> Delivery {
    let name = "z".repeat(bytes);
    Delivery::for_test(format!(
        r#"{{"file":"f","event":"file_uploaded","data":{{"name":"{name}"}},"owner":"o","runTimestamp":1,"uuid":"uuid-{number}"}}"#
    ))
    .unwrap()
}

/// A delivery of its own event about `file`. Its key does not follow from its body.
pub(crate) fn file_delivery(number: u32, file: &str) -> Delivery {
    let body = format!(
        r#"{{"file": "{file}", "event": "file_uploaded", "data": {{"n": {number}}}, "owner": "test@smartshape.io",
            "runTimestamp": 1550824748604, "uuid": "uuid-{number}"}}"#
    );
    delivery_from(&body)
}

pub(crate) fn delivery_from(body: &str) -> Delivery {
    let delivery = Delivery::for_test(body.to_owned()).unwrap();
    let key = DeliveryKey::for_webhook("fixture", delivery.uuid(), delivery.event_name(), "");
    let meta =
        DeliveryMeta { key: Some(key), received_at: delivery.received_at(), ..DeliveryMeta::default() };
    Delivery::restore(body.to_owned(), meta).unwrap()
}

pub(crate) fn new_event(number: u32, file: &str) -> NewEvent {
    NewEvent::from(&file_delivery(number, file))
}

pub(crate) fn new_events(numbers: std::ops::Range<u32>, file: &str) -> Arc<[NewEvent]> {
    numbers.map(|number| new_event(number, file)).collect()
}

#[cfg(feature = "postgres")]
pub(crate) use server::Server;

#[cfg(feature = "postgres")]
mod server {
    use super::*;
    use sqlx::{Connection as _, PgConnection};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A schema of its own on the server that `DATABASE_URL` names.
    pub(crate) struct Server {
        base: String,
        schema: String,
    }

    impl Server {
        /// Stores the events 1 to `count`, each of its own key, with these values of the queue, the state, when it is
        /// due and was settled, and whether it is behind. `n` is the event's number.
        pub(crate) async fn fill(&self, count: u32, values: &str) {
            let fill = format!(
                "INSERT INTO smartshape_inbox_events (version, key, event, file, uuid, received, bytes, \
                   file_hash, state, due, settled, behind) \
                 SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 'e', 'f', 'u', 0, 1, {values} FROM generate_series(1, {count}) n"
            );
            self.execute(fill).await;
        }

        /// Host and port.
        pub(crate) fn host(&self) -> String {
            let authority = self.authority();
            authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned()
        }

        /// The schema's name.
        pub(crate) fn schema(&self) -> &str {
            &self.schema
        }

        /// The URL, as another user.
        pub(crate) fn as_role(&self, user: &str, password: &str) -> String {
            self.url().replacen(self.authority(), &format!("{user}:{password}@{}", self.host()), 1)
        }

        /// The URL of another database.
        pub(crate) fn database(&self, name: &str) -> String {
            let (scheme, _) = self.base.split_once("://").unwrap();
            format!("{scheme}://{}/{name}", self.authority())
        }

        /// User and password.
        #[cfg(unix)]
        pub(crate) fn credentials(&self) -> (&str, &str) {
            let credentials = self.authority().rsplit_once('@').map_or("", |(credentials, _)| credentials);
            credentials.split_once(':').unwrap_or((credentials, ""))
        }

        /// User, password, host and port.
        fn authority(&self) -> &str {
            let rest = self.base.split_once("://").unwrap().1;
            rest.split_once('/').map_or(rest, |(authority, _)| authority)
        }

        pub(crate) async fn new() -> Option<Self> {
            let Ok(base) = std::env::var("DATABASE_URL") else {
                println!("skipped: DATABASE_URL names no PostgreSQL server; `cargo xtask test` provides one");
                return None;
            };
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let schema = format!("inbox_{}_{number}", std::process::id());
            let fixture = Self { base, schema };
            // Left over from an earlier process of the same number, if it is there.
            fixture
                .execute(format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", fixture.schema))
                .await;
            Some(fixture)
        }
    }

    impl Fixture for Server {
        type Connection = PgConnection;

        /// The URL under which only this schema is seen.
        fn url(&self) -> String {
            let sign = if self.base.contains('?') { '&' } else { '?' };
            format!("{}{sign}options=-csearch_path%3D{}", self.base, self.schema)
        }

        fn either<T>(&self, _: T, postgres: T) -> T {
            postgres
        }

        async fn connect(&self) -> PgConnection {
            PgConnection::connect(&self.url()).await.unwrap()
        }

        async fn run(connection: &mut PgConnection, sql: impl Into<String>) {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.into())).execute(connection).await.unwrap();
        }

        async fn execute(&self, sql: impl Into<String>) {
            Self::run(&mut self.connect().await, sql).await;
        }

        async fn select(connection: &mut Self::Connection, sql: impl Into<String>) -> i64 {
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql.into())).fetch_one(connection).await.unwrap()
        }
    }
}
