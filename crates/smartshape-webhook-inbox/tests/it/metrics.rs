//! What is measured, by the names that METRICS.md documents.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::{EventFilter, Inbox};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use smartshape_webhook::{Delivery, Handler as _, HandlerError};

use crate::it::fixture::{Folder, delivery};

/// What was measured: the series, written as Prometheus does, and its value or count.
pub(crate) type Series = Arc<Mutex<BTreeMap<String, f64>>>;

#[derive(Clone, Default)]
pub(crate) struct Measured(pub(crate) Series);

struct Cell(Series, String);

impl Cell {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut series = self.0.lock().unwrap();
        let value = series.entry(self.1.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, by: u64) {
        self.change(|value| value + f64::from(u32::try_from(by).unwrap()));
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Cell {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, to: f64) {
        self.change(|_| to);
    }
}

impl HistogramFn for Cell {
    fn record(&self, _: f64) {
        self.change(|count| count + 1.0);
    }
}

impl Measured {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Cell(Arc::clone(&self.0), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

impl Recorder for Measured {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

#[test]
fn metrics_match_documentation() {
    let measured = Measured(Series::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The recorder is this thread's, on which the whole runtime runs.
    metrics::with_local_recorder(&measured, || runtime.block_on(run()));
    let series = measured.0.lock().unwrap();
    for (name, expected) in [
        ("smartshape_inbox_deliveries_total{outcome=stored}", 3.0),
        ("smartshape_inbox_deliveries_total{outcome=duplicate}", 1.0),
        ("smartshape_inbox_deliveries_total{outcome=full}", 1.0),
        ("smartshape_inbox_store_seconds{}", 4.0),
        ("smartshape_inbox_attempts_total{outcome=completed}", 2.0),
        ("smartshape_inbox_attempts_total{outcome=retry}", 1.0),
        ("smartshape_inbox_attempts_total{outcome=dead_letter}", 1.0),
        ("smartshape_inbox_attempt_seconds{}", 4.0),
        ("smartshape_inbox_events{state=waiting}", 3.0),
        ("smartshape_inbox_events{state=dead_letter}", 0.0),
    ] {
        assert_eq!(series.get(name), Some(&expected), "{name} in {series:#?}");
    }
    let documented: BTreeSet<&str> = include_str!("../../METRICS.md")
        .split('`')
        .filter(|word| word.starts_with("smartshape_inbox_"))
        .collect();
    let emitted: BTreeSet<&str> = series.keys().map(|name| name.split('{').next().unwrap()).collect();
    assert_eq!(
        documented,
        emitted.into_iter().filter(|name| name.starts_with("smartshape_inbox_")).collect()
    );
}

/// Not under the outcome that its late result has as well.
#[test]
fn attempt_that_lost_its_lease_is_counted_once() {
    use sqlx::{Connection as _, SqliteConnection};

    let measured = Measured(Series::default());
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
    metrics::with_local_recorder(&measured, || runtime.block_on(run));
    let series = measured.0.lock().unwrap();
    let attempts = |outcome| series.get(&format!("smartshape_inbox_attempts_total{{outcome={outcome}}}"));
    assert_eq!((attempts("lease_lost"), attempts("completed")), (Some(&1.0), Some(&1.0)), "{series:#?}");
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
