//! A recorder that remembers, for tests of what is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Keeps the series of one thread, each under its text form, such as `name{label=value}`.
#[derive(Clone, Default)]
pub(crate) struct TestRecorder(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `name kind unit`
    described: BTreeSet<String>,
    series: BTreeMap<String, Arc<Series>>,
}

#[derive(Default)]
struct Series(Mutex<Values>, AtomicBool);

#[derive(Default)]
pub(crate) struct Values {
    pub(crate) now: f64,
    pub(crate) highest: f64,
    pub(crate) lowest: f64,
    pub(crate) recorded: Vec<f64>,
}

impl Series {
    fn add(&self, more: f64) {
        let mut values = self.0.lock().unwrap();
        values.now += more;
        values.highest = values.highest.max(values.now);
        values.lowest = values.lowest.min(values.now);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        assert!(!self.1.load(Ordering::Relaxed), "panics on purpose");
        self.add(value as f64);
    }

    fn absolute(&self, _: u64) {
        panic!("receivers of one process add up");
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        assert!(!self.1.load(Ordering::Relaxed), "panics on purpose");
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, _: f64) {
        panic!("receivers of one process add up");
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.add(1.0);
        self.0.lock().unwrap().recorded.push(value);
    }
}

impl TestRecorder {
    fn describe(&self, name: &KeyName, kind: &str, unit: Option<Unit>) {
        let unit = unit.map_or("", |unit| unit.as_str());
        self.0.lock().unwrap().described.insert(format!("{} {kind} {unit}", name.as_str()));
    }

    fn register(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().series.entry(name).or_default())
    }

    /// From now on, an increment of this series panics.
    pub(crate) fn break_series(&self, key: impl Into<Key>) {
        self.register(&key.into()).1.store(true, Ordering::Relaxed);
    }

    /// What was described, as `name kind unit`.
    pub(crate) fn described(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().described.clone()
    }

    pub(crate) fn series(&self) -> Vec<String> {
        self.0.lock().unwrap().series.keys().cloned().collect()
    }

    pub(crate) fn values<T>(&self, series: &str, look: impl Fn(&Values) -> T) -> Option<T> {
        let found = self.0.lock().unwrap().series.get(&format!("smartshape_webhook_{series}")).cloned();
        found.map(|series| look(&series.0.lock().unwrap()))
    }

    /// The series' value; how many values were recorded, of a histogram.
    pub(crate) fn now(&self, series: &str) -> f64 {
        self.values(series, |values| values.now).unwrap_or_default()
    }

    /// All series of this name that are not zero.
    pub(crate) fn all(&self, name: &str) -> BTreeMap<String, f64> {
        let state = self.0.lock().unwrap();
        let prefix = format!("smartshape_webhook_{name}{{");
        let of_name = state.series.iter().filter_map(|(series, values)| {
            let labels = series.strip_prefix(&prefix)?.strip_suffix('}')?;
            Some((labels.to_owned(), values.0.lock().unwrap().now))
        });
        of_name.filter(|(_, value)| *value != 0.0).collect()
    }
}

impl Recorder for TestRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, "counter", unit);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, "gauge", unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, "histogram", unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key))
    }
}
