//! The statements for pages, counts and reasons read an index, however many events there are.

use crate::event::EventState;
use crate::filter::EventFilter;
use crate::it::fixture::Fixture as _;
use crate::reason::ReasonId;
use crate::storage::rows;

/// Pages and the index that each is read from, without sorting.
fn pages() -> Vec<(EventFilter, [&'static str; 2])> {
    let page = |filter: EventFilter| {
        let newest = EventFilter { newest_first: true, ..filter.limit(51) };
        let older = newest.clone().up_to(90_000);
        let newer = EventFilter { newest_first: false, ..newest.clone() }.after(90_000);
        [newest, older, newer]
    };
    let by_state = |state| EventFilter::default().state(state);
    let scan = EventFilter::default().after(40_000).event("e").text("x");
    let with_indexes = |filter, indexes| page(filter).map(|filter| (filter, indexes));
    [
        with_indexes(EventFilter::default(), ["INTEGER PRIMARY KEY", "_events_pkey"]),
        with_indexes(scan, ["INTEGER PRIMARY KEY", "_events_pkey"]),
        with_indexes(by_state(EventState::Waiting), ["events_open", "_open"]),
        with_indexes(by_state(EventState::DeadLetter), ["events_dead", "_dead"]),
        with_indexes(EventFilter::default().reason(ReasonId(7)), ["events_dead_of_group", "_dead_of_group"]),
    ]
    .concat()
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sqlite_reads_pages_from_an_index() {
    use sqlx::{QueryBuilder, Row as _, Sqlite};

    let (folder, inbox) = crate::it::fixture::file_inbox().await;
    drop(inbox);
    let mut connection = folder.connect().await;
    let fill = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored, error_group) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
         SELECT 1, randomblob(16), iif(i % 100 = 0, 3, iif(i % 100 = 1, i / 100 % 2, 2)), i, i, 'e', 'f', 'u', i, 1, i, i % 7 FROM n";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    for statistics in ["SELECT 1", "ANALYZE"] {
        sqlx::query(statistics).execute(&mut connection).await.unwrap();
        let mut plan = async |start: &str, rest: &dyn Fn(&mut QueryBuilder<Sqlite>)| {
            let mut query = QueryBuilder::<Sqlite>::new(format!("EXPLAIN QUERY PLAN {start}"));
            rest(&mut query);
            let steps = query.build().fetch_all(&mut connection).await.unwrap();
            steps.iter().map(|step| step.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
        };
        for (filter, [index, _]) in pages() {
            let list =
                plan("SELECT * FROM events e WHERE ", &|query| rows::push_filter(query, &filter)).await;
            assert!(list.contains(index) && !list.contains("TEMP B-TREE"), "{filter:?}: {list}");
            let nth =
                plan("SELECT e.seq FROM events e WHERE ", &|query| rows::push_seq_after(query, &filter, 9))
                    .await;
            assert!(nth.contains(index) && !nth.contains("TEMP B-TREE"), "{filter:?}: {nth}");
        }
        // The few running ones are sorted.
        let running = EventFilter { newest_first: true, ..EventFilter::default() }.state(EventState::Running);
        for filter in [running.clone(), running.up_to(90_000)] {
            let list =
                plan("SELECT * FROM events e WHERE ", &|query| rows::push_filter(query, &filter)).await;
            assert!(list.contains("events_at_work_of_file"), "{list}");
        }
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_reads_pages_from_an_index() {
    use sqlx::{Postgres, QueryBuilder};

    let Some(server) = crate::it::fixture::Server::new().await else { return };
    drop(server.inbox().await);
    let fill = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, error_group) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), CASE n % 100 WHEN 0 THEN 3 WHEN 1 THEN n / 100 % 2 ELSE 2 END, now(), n, \
           'e', 'f', 'u', n, 1, n % 7 FROM generate_series(1, 100000) n";
    server.execute(format!("{fill}; ANALYZE smartshape_inbox_events")).await;
    let mut connection = server.connect().await;
    let mut plan = async |start: &str, rest: &dyn Fn(&mut QueryBuilder<Postgres>)| {
        let mut query = QueryBuilder::<Postgres>::new(format!("EXPLAIN {start}"));
        rest(&mut query);
        let steps: Vec<String> = query.build_query_scalar().fetch_all(&mut connection).await.unwrap();
        steps.join("; ")
    };
    let columns = "SELECT * FROM smartshape_inbox_events e WHERE ";
    let seq = "SELECT e.seq FROM smartshape_inbox_events e WHERE ";
    for (filter, [_, index]) in pages() {
        let list = plan(columns, &|query| rows::push_filter(query, &filter)).await;
        assert!(list.contains(index) && !list.contains("Sort"), "{filter:?}: {list}");
        let nth = plan(seq, &|query| rows::push_seq_after(query, &filter, 9)).await;
        assert!(nth.contains(index) && !nth.contains("Sort"), "{filter:?}: {nth}");
    }
    let running = EventFilter { newest_first: true, ..EventFilter::default() }.state(EventState::Running);
    for filter in [running.clone(), running.up_to(90_000)] {
        let list = plan(columns, &|query| rows::push_filter(query, &filter)).await;
        assert!(list.contains("_at_work_of_file") || list.contains("_leases"), "{list}");
    }
}
