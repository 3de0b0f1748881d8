//! Marks the earliest open event of a queue runnable.

use super::Queue;
use crate::storage::postgres::connections::Session;

/// Marks the earliest open event of each queue runnable. To be called after a commit that ended
/// an event, and after one that stored an event behind another: of two concurrent commits, the later call
/// sees the effects of both.
pub(crate) async fn mark_runnable(session: &mut Session, queues: &[Queue]) -> sqlx::Result<()> {
    if queues.is_empty() {
        return Ok(());
    }
    let sql = session.tables.sql(&format!(
        "WITH heads AS (SELECT (SELECT n.seq FROM smartshape_inbox_events n WHERE n.state <= 1 AND n.file_hash = q.queue \
           ORDER BY n.seq LIMIT 1) AS seq FROM unnest($1::bigint[]) AS q (queue)), {MARK_HEADS} SELECT true"
    ));
    sqlx::query(sql).bind(queues).execute(&mut session.connection).await.map(drop)
}

/// Whoever has locked a row marks it itself, or leaves it to the next pass, so nobody waits here: neither in a deadlock nor
/// for a client that is gone.
const MARK_HEADS: &str = "locked AS MATERIALIZED (SELECT e.seq FROM smartshape_inbox_events e \
       WHERE e.behind AND e.seq = ANY (ARRAY(SELECT seq FROM heads)) FOR UPDATE SKIP LOCKED), \
     marked AS (UPDATE smartshape_inbox_events e SET behind = false FROM locked WHERE e.seq = locked.seq)";

/// Number of queues that one statement of a pass over all queues reads, so that other statements get its connection and
/// its rows in between.
const MARK_QUEUES: i64 = 1000;

/// Does what [`mark_runnable`] does for all queues from `first` on: a process may have ended between its commit and its
/// call, or be of a version that does not call. Returns the queue to continue with.
pub(crate) async fn mark_all_runnable(session: &mut Session, first: Queue) -> sqlx::Result<Option<Queue>> {
    let sql = session.tables.sql(&format!(
        "WITH RECURSIVE heads (queue, seq, number) AS ( \
           (SELECT file_hash, seq, 1 FROM smartshape_inbox_events WHERE state <= 1 AND file_hash >= $1 \
             ORDER BY file_hash, seq LIMIT 1) UNION ALL \
           SELECT n.file_hash, n.seq, heads.number + 1 FROM heads CROSS JOIN LATERAL (SELECT o.file_hash, o.seq \
             FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash > heads.queue \
             ORDER BY o.file_hash, o.seq LIMIT 1) n WHERE heads.number < $2), \
         {MARK_HEADS} SELECT max(queue) FROM heads HAVING count(*) = $2"
    ));
    let last: Option<Queue> =
        sqlx::query_scalar(sql).bind(first).bind(MARK_QUEUES).fetch_optional(&mut session.connection).await?;
    Ok(last.and_then(|last| last.checked_add(1)))
}
