//! Inboxes to test on: a file in a folder of its own, a schema of its own on a real server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::event::NewEvent;
use crate::storage::{AttemptOutcome, AttemptResult, ClaimRequest, Lease, Retention, Storage};
use crate::{EventFilter, EventState, Inbox};
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta, Handler, HandlerError};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A folder that is deleted with the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn inbox(&self) -> String {
        self.path("inbox.db").to_str().unwrap().to_owned()
    }
}

/// An empty database of a test.
pub(crate) trait Fixture: Send + Sync + Sized + 'static {
    /// Opens this database; the same one each time.
    fn open(&self) -> impl Future<Output = Arc<dyn Storage>> + Send;

    async fn inbox(&self) -> Inbox {
        Inbox::with_storage(self.open().await, &Inbox::builder("fixture"))
    }

    /// Executes the one for this database.
    fn execute(&self, sqlite: &'static str, postgres: &'static str) -> impl Future<Output = ()> + Send;

    fn url(&self) -> String;
}

/// Makes a test of each case, for each storage.
macro_rules! on_each_storage {
    ($($case:ident)*) => {
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(&crate::it::fixture::File::new()).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(server) = crate::it::fixture::Server::new().await {
                    super::$case(&server).await;
                }
            })*
        }
    };
}
pub(crate) use on_each_storage;

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

pub(crate) fn dead_letter(error: &str) -> AttemptOutcome {
    AttemptOutcome::DeadLetter { error: error.to_owned() }
}

/// Returns whether the lease was held.
pub(crate) async fn settle(storage: &dyn Storage, lease: Lease, outcome: AttemptOutcome) -> bool {
    let result = AttemptResult { lease, outcome, took: Duration::ZERO };
    storage.settle([result].into()).await.unwrap().recorded == [lease]
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
    let handler = move |delivery: Delivery| {
        let sent = sender.send(delivery.uuid().to_owned());
        async move { Ok(sent?) }
    };
    (handler, handled)
}

/// Waits until nothing waits or runs.
pub(crate) async fn all_settled(inbox: &Inbox) {
    loop {
        let stats = inbox.stats().await.unwrap();
        if stats.waiting + stats.running == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Waits until so many events have the state.
pub(crate) async fn settled(inbox: &Inbox, state: EventState, count: usize) {
    while inbox.list(EventFilter::default().state(state)).await.unwrap().len() < count {
        tokio::task::yield_now().await;
    }
}

/// Without `dedup_capacity`.
pub(crate) fn retention(dedup: Duration, bodies: Duration) -> Retention {
    Retention { dedup, bodies, dedup_capacity: u64::MAX }
}

/// A delivery that no other test uses.
pub(crate) fn delivery(number: u32) -> Delivery {
    Delivery::for_test(format!(
        r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"uuid-{number}"}}"#
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

pub(crate) struct File(Folder);

impl File {
    pub(crate) fn new() -> Self {
        Self(Folder::new())
    }
}

impl Fixture for File {
    async fn open(&self) -> Arc<dyn Storage> {
        Arc::clone(Inbox::open(&self.url()).await.unwrap().storage())
    }

    #[cfg(feature = "sqlite")]
    async fn execute(&self, sqlite: &'static str, _: &'static str) {
        use sqlx::{Connection as _, SqliteConnection};

        let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
        sqlx::raw_sql(sqlite).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    #[cfg(not(feature = "sqlite"))]
    async fn execute(&self, _: &'static str, _: &'static str) {}

    fn url(&self) -> String {
        self.0.inbox()
    }
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
        /// The URL under which only this schema is seen.
        pub(crate) fn url(&self) -> String {
            let sign = if self.base.contains('?') { '&' } else { '?' };
            format!("{}{sign}options=-csearch_path%3D{}", self.base, self.schema)
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

        pub(crate) async fn execute(&self, sql: String) {
            let mut connection = PgConnection::connect(&self.url()).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
    }

    impl Server {
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
        async fn open(&self) -> Arc<dyn Storage> {
            // A busy machine takes long for a long body.
            let inbox = Inbox::builder(&self.url()).store_timeout(Duration::from_secs(60)).open();
            Arc::clone(inbox.await.unwrap().storage())
        }

        async fn execute(&self, _: &'static str, postgres: &'static str) {
            Self::execute(self, postgres.to_owned()).await;
        }

        fn url(&self) -> String {
            Self::url(self)
        }
    }
}
