//! The statements for pages read an index, however many events there are.

use std::sync::Arc;

use crate::event::EventState;
use crate::filter::EventFilter;
use crate::it::fixture::{Fixture, on_each_storage};
use crate::reason::ReasonId;
use crate::storage::Storage;
use crate::storage::admin::{list, seq_after};
use crate::storage::statement::{Columns, Decoded, Statement};

on_each_storage! {
    database:
    pages_are_read_from_an_index
}

/// The first page, one behind an event and one before it.
fn pages(filter: EventFilter) -> [EventFilter; 3] {
    let newest = EventFilter { newest_first: true, ..filter.limit(51) };
    let older = newest.clone().up_to(90_000);
    let newer = EventFilter { newest_first: false, ..newest.clone() }.after(90_000);
    [newest, older, newer]
}

async fn pages_are_read_from_an_index(database: &impl Fixture) {
    let storage = database.storage().await;
    let sqlite = "INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, received, bytes, stored, error_group) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
         SELECT 1, randomblob(16), iif(i % 100 = 0, 3, iif(i % 100 = 1, i / 100 % 2, 2)), i, i, 'e', 'f', 'u', i, 1, i, i % 7 FROM n";
    let postgres = "INSERT INTO smartshape_inbox_events (version, key, state, due, file_hash, event, file, uuid, received, bytes, error_group) \
         SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), CASE n % 100 WHEN 0 THEN 3 WHEN 1 THEN n / 100 % 2 ELSE 2 END, now(), n, \
           'e', 'f', 'u', n, 1, n % 7 FROM generate_series(1, 100000) n; ANALYZE smartshape_inbox_events";
    database.execute_either(sqlite, postgres).await;
    let plan = async |statement: Statement| {
        let explain = database.either("EXPLAIN QUERY PLAN", "EXPLAIN");
        explained(&storage, explain, database.either("detail", "QUERY PLAN"), statement).await
    };
    let by_state = |state| EventFilter::default().state(state);
    let scan = EventFilter::default().after(40_000).event("e").text("x");
    // SQLite keeps to the index with statistics too. PostgreSQL has them from the start.
    for statistics in database.either(&["SELECT 1", "ANALYZE"][..], &["SELECT 1"][..]) {
        database.execute(*statistics).await;
        for (filter, sqlite, postgres) in [
            (EventFilter::default(), "INTEGER PRIMARY KEY", "_events_pkey"),
            (scan.clone(), "INTEGER PRIMARY KEY", "_events_pkey"),
            (by_state(EventState::Waiting), "events_open", "_open"),
            (by_state(EventState::DeadLetter), "events_dead", "_dead"),
            (EventFilter::default().reason(ReasonId(7)), "events_dead_of_group", "_dead_of_group"),
        ] {
            let (index, sort) = (database.either(sqlite, postgres), database.either("TEMP B-TREE", "Sort"));
            for filter in pages(filter) {
                for plan in [plan(list(&filter)).await, plan(seq_after(&filter, 9)).await] {
                    assert!(plan.contains(index) && !plan.contains(sort), "{filter:?}: {plan}");
                }
            }
        }
        // The few running ones are sorted.
        for filter in &pages(by_state(EventState::Running))[..2] {
            let plan = plan(list(filter)).await;
            assert!(plan.contains("_at_work_of_file") || plan.contains("_leases"), "{plan}");
        }
    }
}

/// The steps by which the database would run the statement.
async fn explained(
    storage: &Arc<dyn Storage>,
    explain: &str,
    column: &str,
    mut statement: Statement,
) -> String {
    let mut steps = Vec::new();
    statement.sql = format!("{explain} {}", statement.sql);
    let mut each = |row: &dyn Columns| -> Decoded<()> {
        steps.push(row.text(column)?);
        Ok(())
    };
    storage.fetch(statement, &mut each).await.unwrap();
    steps.join("; ")
}
