//! Runs the statements of operators, and has replays and purges in its own form.

use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::settle::{delete_attempts, delete_bodies};
use super::{OnFull, Sqlite, error, json_array};
use crate::error::InboxError;
use crate::filter::EventFilter;
use crate::storage::StorageFuture;
use crate::storage::admin::{AdminAction, StorageAdmin, check_has};
use crate::storage::rows::{self, decoded};
use crate::storage::statement::Parameter::Text;
use crate::storage::statement::{Dialect, EachRow, Statement};

const SELECT_SEQS: &str = "SELECT e.seq FROM events e WHERE ";
/// The storage's time. It is filled in when the statement runs, since a read may wait for a longer one.
const NOW: &str = ":now";

impl StorageAdmin for Sqlite {
    fn check_has(&self, schema: i64) -> Result<(), InboxError> {
        check_has(&self.0.path.display(), self.0.schema, schema)
    }

    fn dialect(&self) -> Dialect {
        Dialect::SQLITE
    }

    fn milliseconds_until(&self, time: &str) -> String {
        format!("{time} - {NOW}")
    }

    fn disk_bytes(&self) -> String {
        let pages = "pragma_page_count, pragma_freelist_count, pragma_page_size";
        let wal = self.0.wal.bytes();
        format!("(SELECT (page_count - freelist_count) * page_size + {wal} FROM {pages})")
    }

    fn fetch<'a>(&'a self, mut statement: Statement, each: EachRow<'a>) -> StorageFuture<'a, ()> {
        Box::pin(self.0.read(async move |connection, now| {
            statement.sql = statement.sql.replace(NOW, &now.to_string());
            for row in bound(statement).fetch_all(connection).await? {
                each(&row).map_err(sqlx::Error::Decode)?;
            }
            Ok(())
        }))
    }

    fn execute(&self, statement: Statement) -> StorageFuture<'_, ()> {
        self.write(OnFull::Fail, move |connection, _| {
            let query = bound(statement.clone());
            Box::pin(async { query.execute(connection).await.map(drop) })
        })
    }

    /// Finds the events on a connection of its own: without an index for the filter that takes seconds, for which
    /// neither deliveries nor other reads must wait.
    fn change(&self, action: AdminAction, chunk: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)> {
        Box::pin(async move {
            let mut finder = self.0.connect().await?;
            let all = Statement::new(SELECT_SEQS);
            let found = select(&mut finder.connection, all, action, &chunk).await;
            drop(finder);
            let found: Arc<[i64]> = found.map_err(|error| error::from_sqlx(&self.0.path, error))?.into();
            if found.is_empty() {
                return Ok((Vec::new(), 0));
            }
            self.write(OnFull::UseBallast, move |connection, now| {
                Box::pin(change(connection, now, action, chunk.clone(), Arc::clone(&found)))
            })
            .await
        })
    }
}

/// Not to be prepared for later: a text with the time in place of [`NOW`] is another each time.
fn bound(statement: Statement) -> Query<'static, sqlx::Sqlite, SqliteArguments> {
    rows::bound(statement, "").persistent(false)
}

/// Selects by the conditions of the action and the filter too. May read all events, so it must not run in a transaction
/// that writes unless the statement names the events already.
async fn select(
    connection: &mut SqliteConnection,
    mut statement: Statement,
    action: AdminAction,
    filter: &EventFilter,
) -> sqlx::Result<Vec<i64>> {
    action.push_filter(&mut statement, filter);
    decoded(&bound(statement).fetch_all(connection).await?, |row| row.number("seq"))
}

/// Changes those events of a chunk that still match.
async fn change(
    connection: &mut SqliteConnection,
    now: i64,
    action: AdminAction,
    filter: EventFilter,
    found: Arc<[i64]>,
) -> sqlx::Result<(Vec<i64>, u64)> {
    let mut among = Statement::new(SELECT_SEQS);
    among.push("e.seq IN (SELECT value FROM json_each(").push_bind(Text(json_array(&found))).push(")) AND ");
    let seqs = select(&mut *connection, among, action, &filter).await?;
    if action == AdminAction::Replay && !seqs.is_empty() {
        // The worker's process may have a clock that is behind this one's. It catches up with this time.
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('replayed', ?) \
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    let sql = match action {
        AdminAction::Replay => {
            "UPDATE events SET state = 0, attempts = 0, lost = 0, settled = NULL, error_group = NULL, due = ?1 \
             WHERE seq IN (SELECT value FROM json_each(?2))"
        }
        AdminAction::Purge => {
            "UPDATE events SET state = 2, settled = CASE WHEN state = 2 THEN settled ELSE ?1 END, error = NULL, \
             owner = NULL, secret = NULL, traceparent = NULL, \
             event = substr(event, 1, 64), file = substr(file, 1, 64), uuid = substr(uuid, 1, 64) \
             WHERE seq IN (SELECT value FROM json_each(?2))"
        }
    };
    let updated = sqlx::query(sql).bind(now).bind(json_array(&seqs)).execute(&mut *connection).await?;
    let changed = match action {
        AdminAction::Replay => updated.rows_affected(),
        AdminAction::Purge => {
            delete_attempts(&mut *connection, &seqs).await?;
            delete_bodies(connection, &seqs).await?
        }
    };
    Ok((found.to_vec(), changed))
}
