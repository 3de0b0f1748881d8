//! Replays and purges the events that match a filter.

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::connections::{Session, Tables};
use super::queues::{Queue, mark_runnable};
use crate::filter::EventFilter;
use crate::storage::admin::AdminAction;
use crate::storage::rows::decoded;
use crate::storage::statement::Statement;

pub(super) async fn replay(session: &mut Session, filter: &EventFilter) -> sqlx::Result<(Vec<i64>, u64)> {
    let mut transaction = session.connection.begin().await?;
    let seqs = select(&mut transaction, &session.tables, AdminAction::Replay, filter, " FOR UPDATE").await?;
    // A purge or a sweep that held a row may have deleted its body while this waited.
    let waiting = session.tables.sql(
        "UPDATE smartshape_inbox_events e SET state = 0, attempts = 0, lost = 0, settled = NULL, error_group = NULL, due = now(), \
           behind = r.later OR (SELECT o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq LIMIT 1) IS NOT NULL \
         FROM (SELECT n.seq, row_number() OVER (PARTITION BY n.file_hash ORDER BY n.seq) > 1 AS later \
             FROM smartshape_inbox_events n JOIN smartshape_inbox_bodies b ON b.seq = n.seq WHERE n.seq = ANY ($1)) r \
         WHERE e.seq = r.seq RETURNING e.file_hash",
    );
    let queues: Vec<Queue> = sqlx::query_scalar(waiting).bind(&seqs).fetch_all(&mut *transaction).await?;
    // Events that were the first of their queues until now.
    let blocked = session.tables.sql(
        "WITH later AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e WHERE e.state <= 1 AND e.state = 0 \
           AND NOT e.behind AND e.file_hash = ANY ($1) AND (SELECT o.seq FROM smartshape_inbox_events o \
             WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq LIMIT 1) IS NOT NULL ORDER BY e.seq FOR UPDATE) \
         UPDATE smartshape_inbox_events e SET behind = true FROM later WHERE e.seq = later.seq",
    );
    sqlx::query(blocked).bind(&queues).execute(&mut *transaction).await?;
    transaction.commit().await?;
    mark_runnable(session, &queues).await?;
    Ok((seqs, queues.len() as u64))
}

pub(super) async fn purge(session: &mut Session, filter: &EventFilter) -> sqlx::Result<(Vec<i64>, u64)> {
    let mut transaction = session.connection.begin().await?;
    let (tables, locking) = (&session.tables, " FOR UPDATE SKIP LOCKED");
    let seqs = select(&mut transaction, tables, AdminAction::Purge, filter, locking).await?;
    let completed = session.tables.sql(
        "UPDATE smartshape_inbox_events SET state = 2, settled = CASE WHEN state = 2 THEN settled ELSE now() END, \
           error = NULL, owner = NULL, secret = NULL, traceparent = NULL, \
           event = left(event, 64), file = left(file, 64), uuid = left(uuid, 64) WHERE seq = ANY ($1) RETURNING file_hash",
    );
    let queues: Vec<Queue> = sqlx::query_scalar(completed).bind(&seqs).fetch_all(&mut *transaction).await?;
    let bodies = session.tables.sql("DELETE FROM smartshape_inbox_bodies WHERE seq = ANY ($1)");
    let purged = sqlx::query(bodies).bind(&seqs).execute(&mut *transaction).await?.rows_affected();
    let attempts = session.tables.sql("DELETE FROM smartshape_inbox_failed_attempts WHERE seq = ANY ($1)");
    sqlx::query(attempts).bind(&seqs).execute(&mut *transaction).await?;
    transaction.commit().await?;
    mark_runnable(session, &queues).await?;
    Ok((seqs, purged))
}

/// Locks the events that the action changes. Returns their sequence numbers.
async fn select(
    connection: &mut PgConnection,
    tables: &Tables,
    action: AdminAction,
    filter: &EventFilter,
    locking: &str,
) -> sqlx::Result<Vec<i64>> {
    let mut statement = Statement::new("SELECT e.seq FROM smartshape_inbox_events e WHERE ");
    action.push_filter(&mut statement, filter);
    statement.push(locking);
    decoded(&tables.bound(statement).fetch_all(connection).await?, |row| row.number("seq"))
}
