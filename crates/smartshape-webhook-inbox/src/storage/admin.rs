//! What operators see and do: the part of the storage that no delivery waits for.

use std::fmt;
use std::time::Duration;

use smartshape_webhook::DeliveryKey;

use super::rows::{self, EVENT_COLUMNS, NO_REASON, count, timestamp_from_micros};
use super::statement::Parameter::{Bytes, Number, Text};
use super::statement::{Columns, Decoded, Dialect, EachRow, Statement};
use super::{MAX_EXAMINED, Storage, StorageFuture};
use crate::activity::ActivityCounts;
use crate::error::{InboxError, InboxErrorKind};
use crate::event::{StoredDelivery, StoredEvent};
use crate::filter::EventFilter;
use crate::operations::{FailedAttempt, Pause, WorkerInfo};
use crate::reason::{DeadLetterReason, ReasonId, without_ids};
use crate::stats::{Count, InboxCounts, InboxStats};

/// The schema from which on dead letters have a reason.
pub(crate) const SCHEMA_OF_REASONS: i64 = 3;
/// The schema from which on activity, failed attempts, workers and pauses are recorded.
pub(crate) const SCHEMA_OF_OPERATIONS: i64 = 4;
/// For how many minutes activity is kept: 14 days.
const ACTIVITY_MINUTES: i64 = 14 * 24 * 60;
/// A worker that has not reported for so many microseconds is not alive. Workers report every 15 seconds.
const WORKER_GONE_AFTER: i64 = 60 * 1_000_000;
/// A worker that has not reported for so many microseconds is forgotten.
const WORKER_FORGOTTEN_AFTER: i64 = 24 * 60 * 60 * 1_000_000;
/// Number of events that a replay or a purge changes in one transaction.
const CHUNK: u32 = 1000;

/// What the databases do each in its own way for operators. Other operations are statements that both understand.
pub(crate) trait StorageAdmin {
    /// Fails when the tables are of an older version than `schema`, which only an inbox that was opened read-only has.
    fn check_has(&self, schema: i64) -> Result<(), InboxError> {
        let _ = schema;
        Ok(())
    }

    fn dialect(&self) -> Dialect;

    /// The milliseconds until a time of the storage's clock, as a part of a statement.
    fn milliseconds_until(&self, time: &str) -> String;

    /// The bytes that the inbox takes on the disk, as a part of a statement.
    fn disk_bytes(&self) -> String;

    fn fetch<'a>(&'a self, statement: Statement, each: EachRow<'a>) -> StorageFuture<'a, ()>;

    fn execute(&self, statement: Statement) -> StorageFuture<'_, ()>;

    /// Changes the first events that match the filter, in one transaction. Returns the sequence numbers of the events
    /// that it found, and how many it changed.
    fn change(&self, action: AdminAction, chunk: EventFilter) -> StorageFuture<'_, (Vec<i64>, u64)>;
}

/// An operator's action on the events that match a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminAction {
    /// Makes dead letters, and completed events whose body is stored, wait again as if they had just arrived.
    Replay,
    /// Completes events that are not running, and deletes their bodies. Works on a full disk.
    Purge,
}

impl AdminAction {
    /// Appends the conditions of the action and the filter on the table `e`, and the filter's order and limit.
    pub(super) fn push_filter(self, statement: &mut Statement, filter: &EventFilter) {
        let has_body = "EXISTS (SELECT 1 FROM smartshape_inbox_bodies b WHERE b.seq = e.seq)";
        match self {
            Self::Replay => statement.push(format_args!("e.state >= 2 AND {has_body} AND ")),
            Self::Purge => statement.push(format_args!("e.state <> 1 AND (e.state <> 2 OR {has_body}) AND ")),
        };
        rows::push_filter(statement, filter);
    }
}

/// What a worker reports of itself.
#[derive(Clone, Debug)]
pub(crate) struct WorkerReport {
    pub(crate) id: i64,
    pub(crate) host: String,
    pub(crate) concurrency: u64,
    pub(crate) running: u64,
}

/// Selects the events that match `filter`, in its order.
pub(crate) fn list(filter: &EventFilter) -> Statement {
    let mut select = Statement::long(format!("SELECT {EVENT_COLUMNS} FROM smartshape_inbox_events e WHERE "));
    rows::push_filter(&mut select, filter);
    select
}

/// Selects the event after `skipped` others within the filter's bounds, state and reason, in the filter's order. Its
/// other conditions do not count.
pub(crate) fn seq_after(filter: &EventFilter, skipped: u32) -> Statement {
    let mut select = Statement::new("SELECT e.seq FROM smartshape_inbox_events e WHERE ");
    rows::push_scope(&mut select, filter);
    rows::push_order(&mut select, filter);
    select.push(" LIMIT 1 OFFSET ").push_bind(Number(skipped.into()));
    select
}

impl dyn Storage + '_ {
    async fn rows<T: Send>(
        &self,
        statement: Statement,
        decode: impl Fn(&dyn Columns) -> Decoded<T> + Send + Sync,
    ) -> Result<Vec<T>, InboxError> {
        let mut rows = Vec::new();
        let mut each = |row: &dyn Columns| -> Decoded<()> {
            rows.push(decode(row)?);
            Ok(())
        };
        self.fetch(statement, &mut each).await?;
        Ok(rows)
    }

    pub(crate) async fn list(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, InboxError> {
        self.rows(list(&filter), rows::stored).await
    }

    /// One event with its body.
    pub(crate) async fn get(&self, key: DeliveryKey) -> Result<Option<StoredDelivery>, InboxError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS}, (SELECT b.body FROM smartshape_inbox_bodies b WHERE b.seq = e.seq) AS body, \
             CASE WHEN e.state = 0 THEN {} END AS wait FROM smartshape_inbox_events e WHERE e.key = $1",
            self.milliseconds_until("e.due")
        );
        let select = Statement::long(sql).bind(Bytes(key.as_bytes().to_vec()));
        let found = self.rows(select, |row| {
            Ok(StoredDelivery {
                event: rows::stored(row)?,
                body: row.optional_bytes("body")?.map(Into::into),
                next_attempt_at: row.optional_number("wait")?.map(rows::from_now),
            })
        });
        Ok(found.await?.pop())
    }

    pub(crate) async fn stats(&self) -> Result<InboxStats, InboxError> {
        // One scan of an index, without sorting what may be millions of rows.
        let select = Statement::long(format!(
            "SELECT count(*) FILTER (WHERE state = 0) AS waiting, count(*) FILTER (WHERE state = 1) AS running, \
               {} AS oldest_wait, (SELECT count(*) FROM smartshape_inbox_events WHERE state = 3) AS dead_letters, \
               {} AS disk_bytes FROM smartshape_inbox_events WHERE state <= 1",
            self.milliseconds_until("min(stored) FILTER (WHERE state = 0)"),
            self.disk_bytes()
        ));
        let found = self.rows(select, |row| {
            Ok(InboxStats {
                waiting: count(row.number("waiting")?),
                running: count(row.number("running")?),
                dead_letters: count(row.number("dead_letters")?),
                oldest_waiting: row.optional_number("oldest_wait")?.map(elapsed),
                disk_bytes: count(row.number("disk_bytes")?),
            })
        });
        Ok(found.await?.pop().unwrap_or_default())
    }

    /// Like [`stats`](Self::stats), but counts up to [`MAX_EXAMINED`] rows of each state.
    pub(crate) async fn counts(&self) -> Result<InboxCounts, InboxError> {
        let select = Statement::new(format!(
            "SELECT u.*, d.*, {} AS stored, {} AS disk_bytes FROM \
               (SELECT count(*) AS unfinished, count(*) FILTER (WHERE state = 0) AS waiting, \
                 count(*) FILTER (WHERE state = 0 AND wait > 0) AS retrying, min(wait) FILTER (WHERE state = 0) AS wait \
               FROM (SELECT state, {} AS wait FROM smartshape_inbox_events WHERE state <= 1 ORDER BY due LIMIT $1) e) u, \
               (SELECT count(*) AS dead_letters FROM \
                 (SELECT seq FROM smartshape_inbox_events WHERE state = 3 LIMIT $1) e) d",
            self.dialect().estimated_events,
            self.disk_bytes(),
            self.milliseconds_until("due")
        ));
        let found = self.rows(select.bind(Number(MAX_EXAMINED.into())), |row| {
            let (unfinished, waiting) = (row.number("unfinished")?, row.number("waiting")?);
            // When not all unfinished events were counted, none of their numbers is exact.
            let part = |rows| match bounded_count(unfinished) {
                Count::AtLeast(_) => Count::AtLeast(count(rows)),
                Count::Exactly(_) => bounded_count(rows),
            };
            Ok(InboxCounts {
                waiting: part(waiting),
                retrying: part(row.number("retrying")?),
                running: part(unfinished - waiting),
                dead_letters: bounded_count(row.number("dead_letters")?),
                stored: count(row.number("stored")?),
                overdue: row.optional_number("wait")?.map(elapsed).filter(|overdue| !overdue.is_zero()),
                disk_bytes: count(row.number("disk_bytes")?),
            })
        });
        Ok(found.await?.pop().unwrap_or_default())
    }

    pub(crate) async fn seq_after(
        &self,
        filter: EventFilter,
        skipped: u32,
    ) -> Result<Option<i64>, InboxError> {
        Ok(self.rows(seq_after(&filter, skipped), |row| row.number("seq")).await?.pop())
    }

    /// Number of events that match, by name, the most frequent first; at most 100 names. Reads all that match.
    pub(crate) async fn count_by_event(&self, filter: EventFilter) -> Result<Vec<(String, u64)>, InboxError> {
        let mut select =
            Statement::new("SELECT e.event, count(*) AS events FROM smartshape_inbox_events e WHERE ");
        rows::push_conditions(&mut select, &filter);
        select.push(" GROUP BY e.event ORDER BY 2 DESC, 1 LIMIT 100");
        self.rows(select, |row| Ok((row.text("event")?, count(row.number("events")?)))).await
    }

    /// The most frequent reasons of dead letters, of which at most [`MAX_EXAMINED`] are examined.
    pub(crate) async fn reasons(&self, limit: u32) -> Result<Vec<DeadLetterReason>, InboxError> {
        let select = Statement::new(
            "SELECT g.error_group, g.dead_letters, e.seq, e.event, e.received, e.error FROM \
               (SELECT d.error_group, count(*) AS dead_letters, max(d.seq) AS latest FROM \
                 (SELECT error_group, seq FROM smartshape_inbox_events WHERE state = 3 ORDER BY error_group, seq LIMIT $1) d \
               GROUP BY d.error_group ORDER BY 2 DESC, 3 DESC LIMIT $2) g \
             JOIN smartshape_inbox_events e ON e.seq = g.latest ORDER BY g.dead_letters DESC, g.latest DESC",
        );
        let select = select.bind(Number(MAX_EXAMINED.into())).bind(Number(limit.into()));
        self.rows(select, |row| {
            Ok(DeadLetterReason {
                id: row.optional_number("error_group")?.map_or(NO_REASON, ReasonId),
                text: without_ids(&row.optional_text("error")?.unwrap_or_default()),
                dead_letters: count(row.number("dead_letters")?),
                last_seq: row.number("seq")?,
                last_event_name: row.text("event")?,
                last_received_at: timestamp_from_micros(row.number("received")?)?,
            })
        })
        .await
    }

    /// Adds to the activity of a minute.
    pub(crate) async fn record_activity(
        &self,
        minute: i64,
        counts: ActivityCounts,
    ) -> Result<(), InboxError> {
        let greatest = self.dialect().greatest;
        let add = Statement::new(format!(
            "INSERT INTO smartshape_inbox_activity AS a VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (minute) DO UPDATE SET stored = a.stored + excluded.stored, \
               completed = a.completed + excluded.completed, retried = a.retried + excluded.retried, \
               dead_letters = a.dead_letters + excluded.dead_letters, handler_ms = a.handler_ms + excluded.handler_ms, \
               max_handler_ms = {greatest}(a.max_handler_ms, excluded.max_handler_ms), \
               max_waiting = {greatest}(a.max_waiting, excluded.max_waiting), \
               max_overdue_ms = {greatest}(a.max_overdue_ms, excluded.max_overdue_ms)"
        ));
        let add = add
            .bind(Number(minute))
            .bind(Number(counts.stored))
            .bind(Number(counts.completed))
            .bind(Number(counts.retried))
            .bind(Number(counts.dead_letters))
            .bind(Number(counts.handler_ms))
            .bind(Number(counts.max_handler_ms))
            .bind(Number(counts.max_waiting))
            .bind(Number(counts.max_overdue_ms));
        self.execute(add).await
    }

    /// Deletes the activity of minutes older than [`ACTIVITY_MINUTES`], by the clock that all processes share.
    pub(crate) async fn delete_old_activity(&self) -> Result<(), InboxError> {
        let Dialect { now, since_epoch, .. } = self.dialect();
        let minute = format!("{} / 60000000", since_epoch(now));
        let old = format!("DELETE FROM smartshape_inbox_activity WHERE minute < {minute} - $1");
        self.execute(Statement::new(old).bind(Number(ACTIVITY_MINUTES))).await
    }

    /// The activity from the minute `from` on, in slots of `width` minutes, each with its number: `minute / width`.
    pub(crate) async fn activity(
        &self,
        from: i64,
        width: i64,
    ) -> Result<Vec<(i64, ActivityCounts)>, InboxError> {
        let select = Statement::new(
            "SELECT minute / $2 AS slot, CAST(sum(stored) AS bigint) AS stored, \
               CAST(sum(completed) AS bigint) AS completed, CAST(sum(retried) AS bigint) AS retried, \
               CAST(sum(dead_letters) AS bigint) AS dead_letters, CAST(sum(handler_ms) AS bigint) AS handler_ms, \
               max(max_handler_ms) AS max_handler_ms, max(max_waiting) AS max_waiting, \
               max(max_overdue_ms) AS max_overdue_ms FROM smartshape_inbox_activity WHERE minute >= $1 GROUP BY 1",
        );
        self.rows(select.bind(Number(from)).bind(Number(width)), |row| {
            let counts = ActivityCounts {
                stored: row.number("stored")?,
                completed: row.number("completed")?,
                retried: row.number("retried")?,
                dead_letters: row.number("dead_letters")?,
                handler_ms: row.number("handler_ms")?,
                max_handler_ms: row.number("max_handler_ms")?,
                max_waiting: row.number("max_waiting")?,
                max_overdue_ms: row.number("max_overdue_ms")?,
            };
            Ok((row.number("slot")?, counts))
        })
        .await
    }

    /// The failed attempts at an event, the earliest first.
    pub(crate) async fn failed_attempts(&self, key: DeliveryKey) -> Result<Vec<FailedAttempt>, InboxError> {
        let sql = format!(
            "SELECT CAST(a.number AS bigint) AS number, {} AS ended, a.took_ms, a.error \
             FROM smartshape_inbox_failed_attempts a JOIN smartshape_inbox_events e ON e.seq = a.seq \
             WHERE e.key = $1 ORDER BY a.fence LIMIT 100",
            (self.dialect().since_epoch)("a.ended")
        );
        self.rows(Statement::new(sql).bind(Bytes(key.as_bytes().to_vec())), |row| {
            Ok(FailedAttempt {
                number: u32::try_from(row.number("number")?).unwrap_or(u32::MAX),
                ended_at: timestamp_from_micros(row.number("ended")?)?,
                took: Duration::from_millis(count(row.number("took_ms")?)),
                error: row.text("error")?,
            })
        })
        .await
    }

    /// Pauses the workers of all processes: from then on no claim returns an event.
    pub(crate) async fn pause(&self, by: String) -> Result<(), InboxError> {
        let sql = format!(
            "INSERT INTO smartshape_inbox_pause (id, since, paused_by) VALUES (1, {}, $1) ON CONFLICT DO NOTHING",
            self.dialect().now
        );
        self.execute(Statement::new(sql).bind(Text(by))).await
    }

    pub(crate) async fn resume(&self) -> Result<(), InboxError> {
        self.execute(Statement::new("DELETE FROM smartshape_inbox_pause")).await
    }

    pub(crate) async fn paused(&self) -> Result<Option<Pause>, InboxError> {
        let since = (self.dialect().since_epoch)("since");
        let select =
            Statement::new(format!("SELECT {since} AS since, paused_by FROM smartshape_inbox_pause"));
        let found = self.rows(select, |row| {
            Ok(Pause { since: timestamp_from_micros(row.number("since")?)?, by: row.text("paused_by")? })
        });
        Ok(found.await?.pop())
    }

    /// Records that a worker is alive, and forgets those that have not reported for long.
    pub(crate) async fn report_worker(&self, report: WorkerReport) -> Result<(), InboxError> {
        let Dialect { now, microsecond, .. } = self.dialect();
        let forget = format!("DELETE FROM smartshape_inbox_workers WHERE seen < {now} - $1 * {microsecond}");
        self.execute(Statement::new(forget).bind(Number(WORKER_FORGOTTEN_AFTER))).await?;
        let add = format!(
            "INSERT INTO smartshape_inbox_workers (id, host, pid, version, concurrency, running, started, seen) \
             VALUES ($1, $2, $3, $4, $5, $6, {now}, {now}) \
             ON CONFLICT (id) DO UPDATE SET running = excluded.running, seen = excluded.seen"
        );
        let add = Statement::new(add)
            .bind(Number(report.id))
            .bind(Text(report.host))
            .bind(Number(std::process::id().into()))
            .bind(Text(env!("CARGO_PKG_VERSION").to_owned()))
            .bind(Number(report.concurrency.cast_signed()))
            .bind(Number(report.running.cast_signed()));
        self.execute(add).await
    }

    pub(crate) async fn remove_worker(&self, id: i64) -> Result<(), InboxError> {
        let remove = "DELETE FROM smartshape_inbox_workers WHERE id = $1";
        self.execute(Statement::new(remove).bind(Number(id))).await
    }

    /// The workers that are alive, the earliest started first.
    pub(crate) async fn workers(&self) -> Result<Vec<WorkerInfo>, InboxError> {
        let Dialect { now, microsecond, since_epoch, .. } = self.dialect();
        let sql = format!(
            "SELECT host, pid, version, concurrency, running, {} AS started, {} AS seen FROM smartshape_inbox_workers \
             WHERE seen >= {now} - $1 * {microsecond} ORDER BY started, id LIMIT 1000",
            since_epoch("started"),
            since_epoch("seen")
        );
        self.rows(Statement::new(sql).bind(Number(WORKER_GONE_AFTER)), |row| {
            Ok(WorkerInfo {
                host: row.text("host")?,
                pid: u32::try_from(row.number("pid")?).unwrap_or(0),
                version: row.text("version")?,
                concurrency: count(row.number("concurrency")?),
                running: count(row.number("running")?),
                started_at: timestamp_from_micros(row.number("started")?)?,
                seen_at: timestamp_from_micros(row.number("seen")?)?,
            })
        })
        .await
    }

    /// Returns the number of events that wait again.
    pub(crate) async fn replay(&self, filter: EventFilter) -> Result<u64, InboxError> {
        self.change_all(AdminAction::Replay, filter).await
    }

    /// Returns the number of bodies deleted.
    pub(crate) async fn purge(&self, filter: EventFilter) -> Result<u64, InboxError> {
        self.change_all(AdminAction::Purge, filter).await
    }

    /// Works in chunks, so that deliveries can be stored in between. When a chunk fails, the chunks before it stay
    /// changed.
    async fn change_all(&self, action: AdminAction, mut filter: EventFilter) -> Result<u64, InboxError> {
        let (mut changed, mut left) = (0, filter.limit);
        loop {
            let limit = left.min(CHUNK);
            let (found, done) = self.change(action, filter.clone().limit(limit)).await?;
            changed += done;
            left -= limit;
            match found.last() {
                Some(last) if left > 0 && found.len() == limit as usize => filter.after = *last,
                _ => return Ok(changed),
            }
        }
    }
}

/// The count of a query that stops at [`MAX_EXAMINED`] rows.
fn bounded_count(rows: i64) -> Count {
    let count = count(rows);
    if count < u64::from(MAX_EXAMINED) { Count::Exactly(count) } else { Count::AtLeast(count) }
}

/// How long ago a time was, by the milliseconds until it; zero if it is still to come.
fn elapsed(milliseconds_until: i64) -> Duration {
    Duration::from_millis(count(-milliseconds_until))
}

/// Fails when the schema that was `found` lacks what the one that is `needed` brought.
pub(super) fn check_has(storage: &dyn fmt::Display, found: i64, needed: i64) -> Result<(), InboxError> {
    if found >= needed {
        return Ok(());
    }
    let text = format!(
        "inbox {storage}: it was opened read-only and has the tables of an older version: open it once for writing"
    );
    Err(InboxError::new(InboxErrorKind::OlderSchema, text))
}
