//! Maintenance costs little, however many events are stored.

use std::time::Duration;

use crate::it::fixture::{Fixture, on_each_storage, retention};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

on_each_storage! {
    database:
    sweep_deletes_bodies_of_all_completed_events
}

/// Some of them were completed at the same time, and are more than a portion; others have no body.
async fn sweep_deletes_bodies_of_all_completed_events(database: &impl Fixture) {
    let storage = database.storage().await;
    let sqlite = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored, settled) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         SELECT 1, randomblob(16), 2, 0, i, 'e', 'f', 'u', 0, 1, 0, min(i, 2500) - 9000 FROM n; \
         INSERT INTO bodies SELECT seq, 'x' FROM events WHERE seq > 1250 AND seq <= 4750";
    let postgres = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, settled) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), 2, now(), n, 'e', 'f', 'u', 0, 1, now() + (least(n, 2500) - 9000) * interval '1 ms' \
         FROM generate_series(1, 5000) n; \
         INSERT INTO smartshape_inbox_bodies SELECT n, 'x' FROM generate_series(1251, 4750) n";
    database.execute_either(sqlite, postgres).await;
    let mut deleted = 0;
    loop {
        match storage.sweep(retention(DAY, Duration::ZERO)).await.unwrap() {
            0 => break,
            rows => deleted += rows,
        }
    }
    assert_eq!(deleted, 3500);
}

#[cfg(feature = "postgres")]
mod server {
    use super::*;
    use crate::Inbox;
    use crate::it::fixture::{Server, poll_until};
    use crate::storage::{ClaimRequest, Retention};

    /// Number of rows of a table that the inbox has read: a session reports them when it ends.
    async fn rows_read(server: &Server, inbox: Inbox, table: &str) -> i64 {
        drop(inbox);
        let mut connection = server.connect().await;
        let read = format!(
            "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relid = '{table}'::regclass) \
             + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = '{table}'::regclass)::bigint"
        );
        let mut rows = 0;
        poll_until(async || {
            rows = Server::select(&mut connection, &*read).await;
            rows > 0
        })
        .await;
        rows
    }

    #[tokio::test]
    async fn sweep_reads_no_bodies_of_open_events() {
        let Some(server) = Server::new().await else { return };
        let inbox = server.inbox().await;
        server.fill(30_000, "n, CASE WHEN n > 10000 THEN 2 ELSE 0 END, now(), now(), false").await;
        let bodies = "INSERT INTO smartshape_inbox_bodies SELECT n, 'x' FROM generate_series(1, 10001) n; \
             ANALYZE smartshape_inbox_events; ANALYZE smartshape_inbox_bodies";
        server.execute(bodies).await;
        assert_eq!(inbox.storage().sweep(retention(DAY, Duration::ZERO)).await.unwrap(), 1);
        let rows = rows_read(&server, inbox, "smartshape_inbox_bodies").await;
        assert!(rows < 1000, "{rows}");
    }

    #[tokio::test]
    async fn sweep_counts_no_events_below_capacity() {
        let Some(server) = Server::new().await else { return };
        let inbox = server.inbox().await;
        server.fill(20_000, "n, 2, now(), now(), false").await;
        server.execute("ANALYZE smartshape_inbox_events").await;
        let retention = Retention { dedup_capacity: 10_000_000, ..retention(DAY, DAY) };
        assert_eq!(inbox.storage().sweep(retention).await.unwrap(), 0);
        let rows = rows_read(&server, inbox, "smartshape_inbox_events").await;
        assert!(rows < 1000, "{rows}");
    }

    #[tokio::test]
    async fn expired_events_are_deleted_when_bodies_cannot_be() {
        let Some(server) = Server::new().await else { return };
        let inbox = server.inbox().await;
        server.fill(2, "n, 2, now(), now() - (n - 1) * interval '2 days', false").await;
        let reject = "INSERT INTO smartshape_inbox_bodies VALUES (1, 'x'); \
             CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$; \
             CREATE TRIGGER reject BEFORE DELETE ON smartshape_inbox_bodies FOR EACH ROW EXECUTE FUNCTION reject()";
        server.execute(reject).await;
        assert!(inbox.storage().sweep(retention(DAY, Duration::ZERO)).await.is_err());
        let left = "SELECT sum(seq)::bigint FROM smartshape_inbox_events";
        assert_eq!(server.number(left).await, 1);
    }

    /// Of many queues, only one has an event behind another.
    #[tokio::test]
    async fn pass_over_all_queues_reads_those_with_events_behind() {
        let Some(server) = Server::new().await else { return };
        let inbox = server.inbox().await;
        server.fill(20_000, "n, 0, now() + interval '1 h', NULL, false").await;
        let blocked = "UPDATE smartshape_inbox_events SET behind = true, due = now() WHERE seq = 20000";
        server.execute(format!("{blocked}; ANALYZE smartshape_inbox_events")).await;
        let before = "SELECT pg_stat_reset_single_table_counters('smartshape_inbox_events'::regclass); \
             SELECT pg_stat_reset_single_table_counters(indexrelid) FROM pg_index WHERE indrelid = 'smartshape_inbox_events'::regclass";
        server.execute(before).await;
        let request = ClaimRequest::ordered(1, DAY);
        poll_until(async || !inbox.storage().claim(request).await.unwrap().attempts.is_empty()).await;
        let rows = rows_read(&server, inbox, "smartshape_inbox_events").await;
        assert!(rows < 20_000, "{rows}");
    }
}
