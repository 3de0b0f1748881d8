//! The databases that an inbox can have: a file beside this program, or a schema of a PostgreSQL server.

use smartshape_webhook_inbox::Inbox;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::Result;

#[derive(Clone, Debug)]
pub(super) enum Engine {
    Sqlite,
    /// With the server's URL.
    Postgres(String),
}

/// An empty database.
pub(super) struct Database {
    pub(super) url: String,
    /// SQLite deletes the log when the last connection is closed, which happens after an inbox is dropped, and would
    /// delete the log of a file that has taken its place: so each file has a folder of its own.
    _folder: Option<TempDir>,
}

impl Engine {
    /// Measures SQLite, and PostgreSQL where `DATABASE_URL` names a server, on which nothing is left.
    pub(super) async fn measure_each(measure: impl AsyncFn(&Self) -> Result<()>) -> Result<()> {
        measure(&Self::Sqlite).await?;
        if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            let outcome = measure(&Self::Postgres(url.clone())).await;
            execute(&url, "DROP SCHEMA IF EXISTS bench_0, bench_1 CASCADE").await?;
            outcome?;
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// An empty database, and an inbox in it.
    pub(super) async fn inbox(&self) -> Result<(Database, Inbox)> {
        let database = self.database(0).await?;
        let inbox = Inbox::open(&database.url).await?;
        Ok((database, inbox))
    }

    /// An empty database, instead of the one with this number, 0 or 1, on a PostgreSQL server.
    pub(super) async fn database(&self, number: usize) -> Result<Database> {
        let Self::Postgres(url) = self else {
            // The system's folder for such files may be in memory.
            let program = std::env::current_exe()?;
            let beside = program.parent().ok_or("the program is in no folder")?;
            let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?;
            let url = folder.path().join("inbox.db").display().to_string();
            return Ok(Database { url, _folder: Some(folder) });
        };
        let schema = format!("bench_{number}");
        execute(url, &format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")).await?;
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}options=-csearch_path%3D{schema}");
        Ok(Database { url, _folder: None })
    }
}

async fn execute(url: &str, sql: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    Ok(())
}
