//! Marks the earliest open event of a queue runnable.

use std::sync::Arc;
use std::time::Instant;

use super::connections::{Connections, Session};
use super::{MAINTENANCE_INTERVAL, Postgres};

/// The hash of a file and webhook, by which events are ordered. Its column is named `file_hash`.
pub(super) type Queue = i64;

/// Number of queues that one statement of a pass over all queues reads, so that other statements get its connection and
/// its rows in between.
const MARK_QUEUES: i64 = 1000;
/// Whoever has locked a row marks it itself, or leaves it to the next pass, so nobody waits here: neither in a deadlock
/// nor for a client that is gone.
const MARK_HEADS: &str = "locked AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
       WHERE e.behind AND e.seq = ANY (ARRAY(SELECT seq FROM heads)) FOR UPDATE SKIP LOCKED), \
     marked AS (UPDATE smartshape_inbox_events e SET behind = false FROM locked WHERE e.seq = locked.seq)";

impl Postgres {
    /// Starts a pass over all queues: in the background and in chunks, since it takes seconds when hundreds of
    /// thousands of files have several open events, and once a minute at most, since it repairs what only a crash
    /// leaves behind.
    pub(super) fn mark_all_runnable_later(&self) {
        let Ok(mut marked_all_at) = Arc::clone(&self.marked_all_at).try_lock_owned() else { return };
        if marked_all_at.is_some_and(|at| at.elapsed() < MAINTENANCE_INTERVAL) {
            return;
        }
        let connections = Arc::clone(&self.connections);
        let _detached = tokio::spawn(async move {
            *marked_all_at = Some(Instant::now());
            let mut next = Some(i64::MIN);
            while let Some(first) = next {
                next = connections
                    .run(async |session| mark_all_runnable(session, first).await)
                    .await
                    .inspect_err(|error| {
                        tracing::debug!(%error, "the pass over all queues failed; the next one repeats it");
                    })
                    .unwrap_or(None);
            }
        });
    }
}

/// Marks the earliest open event of each queue runnable. To be called after a commit that ended
/// an event, and after one that stored an event behind another: of two concurrent commits, the later call
/// sees the effects of both.
pub(super) async fn mark_runnable(session: &mut Session, queues: &[Queue]) -> sqlx::Result<()> {
    if queues.is_empty() {
        return Ok(());
    }
    let sql = session.tables.sql(&format!(
        "WITH heads AS (SELECT (SELECT n.seq FROM smartshape_inbox_events n WHERE n.state <= 1 AND n.file_hash = q.queue \
           ORDER BY n.seq LIMIT 1) AS seq FROM unnest($1::bigint[]) AS q (queue)), {MARK_HEADS} SELECT true"
    ));
    sqlx::query(sql).bind(queues).execute(&mut session.connection).await.map(drop)
}

/// Does what [`mark_runnable`] does, on a connection of its own. A failure is repaired by the next pass over
/// all queues.
pub(super) async fn mark_runnable_after_commit(connections: &Connections, queues: &[Queue]) {
    if queues.is_empty() {
        return;
    }
    if let Err(error) = connections.run(async |session| mark_runnable(session, queues).await).await {
        tracing::debug!(%error, "the next events of some files were not marked runnable; the next pass over all queues does it");
    }
}

/// Does what [`mark_runnable`] does for all queues from `first` on in which an event is behind: a process may have
/// ended between its commit and its call, or be of a version that does not call. Returns the queue to continue with.
async fn mark_all_runnable(session: &mut Session, first: Queue) -> sqlx::Result<Option<Queue>> {
    let sql = session.tables.sql(&format!(
        "WITH RECURSIVE queues (queue, number) AS ( \
           (SELECT file_hash, 1 FROM smartshape_inbox_events WHERE state <= 1 AND behind AND file_hash >= $1 \
             ORDER BY file_hash LIMIT 1) UNION ALL \
           SELECT n.file_hash, q.number + 1 FROM queues q CROSS JOIN LATERAL (SELECT o.file_hash \
             FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.behind AND o.file_hash > q.queue \
             ORDER BY o.file_hash LIMIT 1) n WHERE q.number < $2), \
         heads AS (SELECT (SELECT n.seq FROM smartshape_inbox_events n WHERE n.state <= 1 AND n.file_hash = q.queue \
           ORDER BY n.seq LIMIT 1) AS seq FROM queues q), \
         {MARK_HEADS} SELECT max(queue) FROM queues HAVING count(*) = $2"
    ));
    let last: Option<Queue> =
        sqlx::query_scalar(sql).bind(first).bind(MARK_QUEUES).fetch_optional(&mut session.connection).await?;
    Ok(last.and_then(|last| last.checked_add(1)))
}
