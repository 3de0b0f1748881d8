//! What an inbox takes before it rejects, on both engines.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::Duration;

use smartshape_webhook::Handler as _;
use smartshape_webhook_inbox::{Filter, Inbox, Record, Retention, Settlement, Verdict, Wanted};

use crate::bench::{Folder, delivery};

async fn does_not_fill_up_with_what_is_done(place: &str) {
    let inbox = Inbox::builder(place).max_stored_bytes(4 * 1024 * 1024).open().await.unwrap();
    let engine = inbox.engine();
    for part in 0..40 {
        let records = (part * 500..(part + 1) * 500).map(|number| Record::of(&delivery(number)));
        engine.insert(records.collect()).await.unwrap();
        let attempts = engine.claim(Wanted::new(500, Duration::from_secs(3600))).await.unwrap().attempts;
        let verdict = Verdict::Completed { keep_body: false };
        let completed = attempts.iter().map(|one| Settlement { lease: one.lease, verdict: verdict.clone() });
        assert_eq!(engine.settle(completed.collect()).await.unwrap().len(), 500);
    }
    assert!(inbox.handle(delivery(20_001)).await.is_ok());
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_does_not_fill_up_with_what_is_done() {
    does_not_fill_up_with_what_is_done(&Folder::new().inbox()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_server_does_not_fill_up_with_what_is_done() {
    use smartshape_webhook_inbox::suite::Bench as _;
    let Some(server) = crate::bench::Server::new().await else { return };
    does_not_fill_up_with_what_is_done(&server.url()).await;
}

/// A tombstone of a dead letter that is purged counts from then on, not from its death a day ago.
async fn remembers_from_the_purge_on(place: &str, make_older: impl AsyncFnOnce()) {
    let day = Duration::from_secs(24 * 60 * 60);
    let inbox = Inbox::builder(place).keep_tombstones(day / 2).open().await.unwrap();
    assert!(inbox.handle(delivery(1)).await.is_ok());
    let engine = inbox.engine();
    let attempt = engine.claim(Wanted::new(1, day)).await.unwrap().attempts.pop().unwrap();
    let verdict = Verdict::Dead { error: "no".to_owned() };
    engine.settle([Settlement { lease: attempt.lease, verdict }].into()).await.unwrap();
    make_older().await;
    assert_eq!(inbox.purge(Filter::default()).await.unwrap(), 1);
    assert_eq!(engine.sweep(Retention::new(day / 2, day)).await.unwrap(), 0);
    assert_eq!(engine.insert([Record::of(&delivery(1))].into()).await.unwrap(), [false]);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_remembers_from_the_purge_on() {
    use sqlx::Connection as _;
    let folder = Folder::new();
    let path = folder.inbox();
    let older = async || {
        let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
        let sql = "UPDATE events SET settled = settled - 86400000";
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    remembers_from_the_purge_on(&path, older).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_server_remembers_from_the_purge_on() {
    use smartshape_webhook_inbox::suite::Bench as _;
    let Some(server) = crate::bench::Server::new().await else { return };
    let sql = "UPDATE smartshape_inbox_events SET settled = settled - interval '1 day'";
    remembers_from_the_purge_on(&server.url(), async || server.execute(sql.to_owned()).await).await;
}
