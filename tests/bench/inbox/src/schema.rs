//! Schemas of our own on a PostgreSQL server: one for the inbox, one for the bare loop.

use sqlx::{Connection as _, PgConnection};

use crate::Outcome;

const SIDES: [&str; 2] = ["inbox", "bare"];

pub(crate) struct Schema {
    url: String,
}

impl Schema {
    pub(crate) async fn create(url: &str) -> Outcome<Self> {
        let schema = Self { url: url.to_owned() };
        schema.recreate().await?;
        Ok(schema)
    }

    /// Empties both, so that each figure begins with empty tables.
    pub(crate) async fn recreate(&self) -> Outcome<()> {
        for side in SIDES {
            self.execute(format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", name(side))).await?;
        }
        Ok(())
    }

    pub(crate) async fn drop_it(&self) -> Outcome<()> {
        for side in SIDES {
            self.execute(format!("DROP SCHEMA IF EXISTS {} CASCADE", name(side))).await?;
        }
        Ok(())
    }

    pub(crate) async fn version(&self) -> Outcome<String> {
        let mut connection = PgConnection::connect(&self.url).await?;
        Ok(sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?)
    }

    pub(crate) fn inbox(&self) -> String {
        self.side(SIDES[0])
    }

    pub(crate) fn bare(&self) -> String {
        self.side(SIDES[1])
    }

    fn side(&self, side: &str) -> String {
        let sign = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{sign}options=-csearch_path%3D{}", self.url, name(side))
    }

    async fn execute(&self, sql: String) -> Outcome<()> {
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(())
    }
}

fn name(side: &str) -> String {
    format!("bench_{side}_{}", std::process::id())
}
