//! Inboxes to test on: a file in a folder of its own, a schema of its own on a real server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Inbox;
use crate::event::NewEvent;
use crate::storage::{ClaimRequest, Retention, Storage};
use jiff::Timestamp;
use smartshape_webhook::{Delivery, DeliveryKey, DeliveryMeta};

/// A folder that is deleted with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("smartshape-inbox-{}-{}", std::process::id(), unique()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn inbox(&self) -> String {
        self.path("inbox.db").to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An empty database of a test.
pub(crate) trait Fixture: Send + Sync + Sized + 'static {
    /// Opens this database; the same one each time.
    fn open(&self) -> impl Future<Output = Arc<dyn Storage>> + Send;

    /// Executes a statement in which WORKERS is the table of workers, and TIME a time.
    fn execute(&self, sql: &str, time: Timestamp) -> impl Future<Output = ()> + Send;
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
    made(&body)
}

pub(crate) fn made(body: &str) -> Delivery {
    let delivery = Delivery::for_test(body.to_owned()).unwrap();
    let key = DeliveryKey::for_webhook("fixture", delivery.uuid(), delivery.event_name(), "");
    let meta =
        DeliveryMeta { key: Some(key), received_at: delivery.received_at(), ..DeliveryMeta::default() };
    Delivery::restore(body.to_owned(), meta).unwrap()
}

pub(crate) fn new_event(number: u32, file: &str) -> NewEvent {
    NewEvent::of(&file_delivery(number, file))
}

pub(crate) fn new_events(numbers: std::ops::Range<u32>, file: &str) -> Arc<[NewEvent]> {
    numbers.map(|number| new_event(number, file)).collect()
}

fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct File(Folder);

impl File {
    pub(crate) fn new() -> Self {
        Self(Folder::new())
    }
}

impl Fixture for File {
    async fn open(&self) -> Arc<dyn Storage> {
        Arc::clone(Inbox::open(&self.0.inbox()).await.unwrap().storage())
    }

    #[cfg(feature = "sqlite")]
    async fn execute(&self, sql: &str, time: Timestamp) {
        use sqlx::{Connection as _, SqliteConnection};

        let sql = sql.replace("WORKERS", "workers").replace("TIME", &time.as_microsecond().to_string());
        let mut connection = SqliteConnection::connect(&self.0.inbox()).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }

    #[cfg(not(feature = "sqlite"))]
    async fn execute(&self, _: &str, _: Timestamp) {}
}

#[cfg(feature = "postgres")]
pub(crate) use server::Server;

#[cfg(feature = "postgres")]
mod server {
    use super::*;
    use sqlx::{Connection as _, PgConnection};

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
            let schema = format!("inbox_{}_{}", std::process::id(), unique());
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
            Arc::clone(Inbox::open(&self.url()).await.unwrap().storage())
        }

        async fn execute(&self, sql: &str, time: Timestamp) {
            let sql =
                sql.replace("WORKERS", "smartshape_inbox_workers").replace("TIME", &format!("'{time}'"));
            Self::execute(self, sql).await;
        }
    }
}
