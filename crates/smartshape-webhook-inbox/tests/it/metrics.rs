//! The inbox records the metrics that METRICS.md documents, by the same names.
use std::collections::BTreeSet;

use crate::{EventFilter, Inbox};
use metrics_exporter_prometheus::PrometheusBuilder;
use smartshape_webhook::{Delivery, Handler as _, HandlerError};

use crate::it::fixture::{Folder, delivery};

#[test]
fn metrics_match_documentation() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The recorder is this thread's, on which the whole runtime runs.
    metrics::with_local_recorder(&recorder, || runtime.block_on(run()));
    let page = recorder.handle().render();
    for expected in [
        r#"smartshape_inbox_deliveries_total{outcome="stored"} 3"#,
        r#"smartshape_inbox_deliveries_total{outcome="duplicate"} 1"#,
        r#"smartshape_inbox_deliveries_total{outcome="full"} 1"#,
        "smartshape_inbox_store_seconds_count 4",
        r#"smartshape_inbox_attempts_total{outcome="completed"} 2"#,
        r#"smartshape_inbox_attempts_total{outcome="retry"} 1"#,
        r#"smartshape_inbox_attempts_total{outcome="dead_letter"} 1"#,
        "smartshape_inbox_attempt_seconds_count 4",
        // Without the 0, Prometheus' `increase` would not see the first count.
        r#"smartshape_inbox_deliveries_total{outcome="failed"} 0"#,
        r#"smartshape_inbox_attempts_total{outcome="released"} 0"#,
        r#"smartshape_inbox_attempts_total{outcome="lease_lost"} 0"#,
        r#"smartshape_inbox_attempts_total{outcome="lost_leases_exceeded"} 0"#,
        r#"smartshape_inbox_events{state="waiting"} 3"#,
        r#"smartshape_inbox_events{state="dead_letter"} 0"#,
    ] {
        assert!(page.lines().any(|line| line == expected), "{expected} in {page}");
    }
    let documented: BTreeSet<String> = include_str!("../../METRICS.md")
        .split('`')
        .filter(|word| word.starts_with("smartshape_inbox_"))
        .map(str::to_owned)
        .collect();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE smartshape_inbox_"));
    let emitted = types.map(|name| format!("smartshape_inbox_{}", name.split(' ').next().unwrap()));
    assert_eq!(documented, emitted.collect());
}

/// A result after a lost lease is counted as `lease_lost` only.
#[test]
fn attempt_that_lost_its_lease_is_counted_once() {
    use sqlx::{Connection as _, SqliteConnection};

    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = async {
        let folder = Folder::new();
        let path = folder.inbox();
        let inbox = Inbox::open(&path).await.unwrap();
        assert!(inbox.handle(delivery(1)).await.is_ok());
        let worker = inbox.worker(move |delivery: Delivery| {
            let path = path.clone();
            async move {
                if delivery.attempt() == 1 {
                    let mut other = SqliteConnection::connect(&path).await?;
                    let sql = "UPDATE events SET fence = fence + 1, due = 0";
                    sqlx::query(sql).execute(&mut other).await?;
                }
                Ok(())
            }
        });
        let worker = worker.spawn();
        while inbox.list(EventFilter::default()).await.unwrap()[0].state.number() < 2 {
            tokio::task::yield_now().await;
        }
        worker.shutdown().await.unwrap();
    };
    metrics::with_local_recorder(&recorder, || runtime.block_on(run));
    let page = recorder.handle().render();
    for outcome in ["lease_lost", "completed"] {
        let once = format!("smartshape_inbox_attempts_total{{outcome=\"{outcome}\"}} 1");
        assert!(page.lines().any(|line| line == once), "{once} in {page}");
    }
}

async fn run() {
    let folder = Folder::new();
    let inbox = Inbox::open(&folder.inbox()).await.unwrap();
    for number in [1, 2, 3, 3] {
        assert!(inbox.handle(delivery(number)).await.is_ok());
    }
    let full =
        Inbox::builder(&folder.path("full.db").to_string_lossy()).max_size_bytes(1).open().await.unwrap();
    assert!(full.handle(delivery(1)).await.is_err());
    let worker = inbox.worker(|delivery: Delivery| async move {
        match (delivery.uuid(), delivery.attempt()) {
            ("uuid-1", 1) => Err(HandlerError::retry("not yet")),
            ("uuid-2", _) => Err(HandlerError::permanent("never")),
            _ => Ok(()),
        }
    });
    let millisecond = std::time::Duration::from_millis(1);
    let worker = worker.backoff(millisecond, millisecond).spawn();
    while !inbox.list(EventFilter::default()).await.unwrap().iter().all(|event| event.state.number() >= 2) {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await.unwrap();
}
