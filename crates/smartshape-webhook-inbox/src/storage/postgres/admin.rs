//! Runs the statements of operators.

use super::connections::retry_on_conflict;
use super::{ADMIN_TIMEOUT, Postgres, replay};
use crate::error::InboxError;
use crate::filter::EventFilter;
use crate::storage::StorageFuture;
use crate::storage::admin::{AdminAction, StorageAdmin, check_has};
use crate::storage::statement::{Dialect, EachRow, Statement};

impl StorageAdmin for Postgres {
    fn check_has(&self, schema: i64) -> Result<(), InboxError> {
        check_has(&"on PostgreSQL", self.schema, schema)
    }

    fn dialect(&self) -> Dialect {
        Dialect::POSTGRES
    }

    fn milliseconds_until(&self, time: &str) -> String {
        format!("(extract(epoch FROM {time} - clock_timestamp()) * 1000)::bigint")
    }

    fn disk_bytes(&self) -> String {
        let size = |table| format!("pg_total_relation_size('smartshape_inbox_{table}')");
        format!("{} + {}", size("events"), size("bodies"))
    }

    fn fetch<'a>(&'a self, statement: Statement, each: EachRow<'a>) -> StorageFuture<'a, ()> {
        let usual = self.connections.connect.statement_timeout;
        let limit = if statement.may_take_minutes { ADMIN_TIMEOUT } else { usual };
        Box::pin(self.connections.run_within(limit, async move |session| {
            let query = session.tables.bound(statement);
            for row in query.fetch_all(&mut session.connection).await? {
                each(&row).map_err(sqlx::Error::Decode)?;
            }
            Ok(())
        }))
    }

    fn execute(&self, statement: Statement) -> StorageFuture<'_, ()> {
        Box::pin(self.connections.run(async move |session| {
            session.tables.bound(statement).execute(&mut session.connection).await.map(drop)
        }))
    }

    fn change(&self, action: AdminAction, chunk: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)> {
        Box::pin(retry_on_conflict(move || {
            let chunk = chunk.clone();
            self.connections.run_within(ADMIN_TIMEOUT, async move |session| match action {
                AdminAction::Replay => replay::replay(session, &chunk).await,
                AdminAction::Purge => replay::purge(session, &chunk).await,
            })
        }))
    }
}
