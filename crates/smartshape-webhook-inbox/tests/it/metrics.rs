//! The inbox records the metrics that METRICS.md documents, by the same names.

use std::collections::BTreeSet;

use metrics_exporter_prometheus::PrometheusBuilder;
use smartshape_webhook::{Delivery, Handler as _, HandlerError};
use sqlx::{Connection as _, SqliteConnection};

use crate::Inbox;
use crate::it::fixture::{Fixture as _, MOMENT, delivery, file_inbox};

/// The page of what `run` measures. The recorder is this thread's, on which the whole runtime runs.
fn measured(run: impl Future<Output = ()>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(run));
    recorder.handle().render()
}

#[test]
fn metrics_match_documentation() {
    let page = measured(async {
        let (folder, inbox) = file_inbox().await;
        inbox.store([1, 2, 3, 3]).await;
        let full = Inbox::builder(folder.path("full.db").to_str().unwrap()).max_size_bytes(1).open().await;
        assert!(full.unwrap().handle(delivery(1)).await.is_err());
        let worker = inbox.worker(|delivery: Delivery| async move {
            match (delivery.uuid(), delivery.attempt()) {
                ("uuid-1", 1) => Err(HandlerError::retry("not yet")),
                ("uuid-2", _) => Err(HandlerError::permanent("never")),
                _ => Ok(()),
            }
        });
        inbox.drain_by(worker.backoff(MOMENT, MOMENT)).await;
    });
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
    let page = measured(async {
        let (folder, inbox) = file_inbox().await;
        inbox.store([1]).await;
        let path = folder.url();
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
        inbox.drain_by(worker).await;
    });
    for outcome in ["lease_lost", "completed"] {
        let once = format!("smartshape_inbox_attempts_total{{outcome=\"{outcome}\"}} 1");
        assert!(page.lines().any(|line| line == once), "{once} in {page}");
    }
}
