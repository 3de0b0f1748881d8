//! Replays and purges the events that match a filter.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::json_array;
use super::settle::{delete_attempts, delete_bodies};
use crate::event::EventFilter;
use crate::storage::{Chunk, rows};

/// An operator's action on the events that match a filter.
#[derive(Clone, Copy)]
pub(crate) enum AdminAction {
    Replay,
    Purge,
}

impl AdminAction {
    /// Selects the events that the action changes. Ends in AND.
    fn condition(self) -> &'static str {
        match self {
            Self::Replay => "e.state >= 2 AND EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq) AND ",
            Self::Purge => {
                "e.state <> 1 AND (e.state <> 2 OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq)) AND "
            }
        }
    }
}

/// Finds a chunk of the events to change. May read all events, so it must not run in a transaction that writes.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    action: AdminAction,
    filter: &EventFilter,
) -> sqlx::Result<Vec<i64>> {
    select(connection, QueryBuilder::new("SELECT e.seq FROM events e WHERE "), action, filter).await
}

async fn select(
    connection: &mut SqliteConnection,
    mut query: QueryBuilder<Sqlite>,
    action: AdminAction,
    filter: &EventFilter,
) -> sqlx::Result<Vec<i64>> {
    query.push(action.condition());
    rows::push_filter(&mut query, filter);
    query.build_query_scalar().fetch_all(connection).await
}

/// Changes those events of a chunk that still match.
pub(crate) async fn change(
    connection: &mut SqliteConnection,
    now: i64,
    action: AdminAction,
    filter: EventFilter,
    found: Arc<[i64]>,
) -> sqlx::Result<Chunk> {
    let mut among =
        QueryBuilder::new("SELECT e.seq FROM events e WHERE e.seq IN (SELECT value FROM json_each(");
    among.push_bind(json_array(&found)).push(")) AND ");
    let numbers = select(&mut *connection, among, action, &filter).await?;
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
    let updated = sqlx::query(sql).bind(now).bind(json_array(&numbers)).execute(&mut *connection).await?;
    let changed = match action {
        AdminAction::Replay => updated.rows_affected(),
        AdminAction::Purge => {
            delete_attempts(&mut *connection, &numbers).await?;
            delete_bodies(connection, &numbers).await?
        }
    };
    Ok(Chunk::new(&found, changed))
}
