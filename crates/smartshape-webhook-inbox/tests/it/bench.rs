//! Stores to test on: a file in a folder of its own, a schema of its own on a real server.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

use std::path::PathBuf;
use std::sync::Arc;

use smartshape_webhook::Delivery;
use smartshape_webhook_inbox::suite::Bench;
use smartshape_webhook_inbox::{Engine, Inbox};

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

/// A delivery that no other has.
pub(crate) fn delivery(number: u32) -> Delivery {
    Delivery::for_test(format!(
        r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"uuid-{number}"}}"#
    ))
    .unwrap()
}

fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct File(pub(crate) Folder);

impl Bench for File {
    async fn new() -> Option<Self> {
        Some(Self(Folder::new()))
    }

    async fn open(&self) -> Arc<dyn Engine> {
        Arc::clone(Inbox::open(&self.0.inbox()).await.unwrap().engine())
    }
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

    impl Bench for Server {
        async fn new() -> Option<Self> {
            let Ok(base) = std::env::var("DATABASE_URL") else {
                println!("skipped: DATABASE_URL names no PostgreSQL server; `cargo xtask test` provides one");
                return None;
            };
            let schema = format!("inbox_{}_{}", std::process::id(), unique());
            let bench = Self { base, schema };
            // Left over from an earlier process of the same number, if it is there.
            bench
                .execute(format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", bench.schema))
                .await;
            Some(bench)
        }

        async fn open(&self) -> Arc<dyn Engine> {
            Arc::clone(Inbox::open(&self.url()).await.unwrap().engine())
        }
    }
}
