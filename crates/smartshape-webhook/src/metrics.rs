//! Metrics, through the `metrics` facade: without an installed recorder they cost nothing.
//!
//! A label is always one of our own static texts: a label chosen by a sender would let anyone create series without
//! bound. METRICS.md lists the names for users; a test compares.
//!
//! A series is looked up in the recorder at each call. A handle made once with the receiver would save that, but a
//! handle belongs to the recorder that was installed when it was made: one made before the program installed its
//! recorder would record nothing for ever. The keys of the series that every delivery touches are made once.

use std::sync::LazyLock;
use std::time::Instant;

use metrics::{
    Counter, Gauge, IntoF64, Key, Label, Level, Metadata, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, with_recorder,
};

use crate::events::EventKind;

const DELIVERIES: &str = "smartshape_webhook_deliveries_total";
const REJECTIONS: &str = "smartshape_webhook_rejections_total";
const ACKNOWLEDGE: &str = "smartshape_webhook_acknowledge_seconds";
const IN_FLIGHT: &str = "smartshape_webhook_deliveries_in_flight";
const DIFFERING: &str = "smartshape_webhook_differing_duplicates_total";
const BODY_BYTES: &str = "smartshape_webhook_body_reserved_bytes";
const WAITING: &str = "smartshape_webhook_tokens_waiting";
const HASHING: &str = "smartshape_webhook_tokens_hashing";
const HASHED: &str = "smartshape_webhook_tokens_hashed_total";
const UNRECOGNIZED: &str = "smartshape_webhook_unrecognized_events_total";
const EVICTIONS: &str = "smartshape_webhook_evictions_total";

/// Defines labels, each with its values and their names.
macro_rules! labels {
    ($($(#[$doc:meta])* $label:ident { $($value:ident = $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $label {
            $($value,)*
        }

        impl $label {
            const ALL: &[Self] = &[$(Self::$value,)*];

            const fn name(self) -> &'static str {
                match self { $(Self::$value => $name,)* }
            }
        }
    )*};
}

labels! {
    /// How a delivery ended; the label `outcome`.
    DeliveryOutcome {
        Acknowledged = "acknowledged",
        Discarded = "discarded",
        Failed = "failed",
        Duplicate = "duplicate",
    }
    /// Why an acknowledged event had no documented form; the label `reason`.
    Unrecognized {
        Unknown = "unknown",
        Undecoded = "undecoded",
    }
    /// What a cache evicted; the label `what`.
    Evicted {
        VerifiedToken = "verified_token",
        RejectedToken = "rejected_token",
        CompletedKey = "completed_key",
    }
}

/// How many entries a use of a cache evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) what: Evicted,
    pub(crate) count: usize,
}

/// Gives the recorder units, descriptions and all counters at 0: `increase` of Prometheus compares samples, so it would
/// not see the first count of a series that is born with it. A recorder installed later does without.
pub(crate) fn describe(rejection_kinds: impl Iterator<Item = &'static str>) {
    describe_counter!(DELIVERIES, Unit::Count, "Deliveries by event and outcome");
    describe_counter!(REJECTIONS, Unit::Count, "Rejected requests by kind");
    describe_histogram!(ACKNOWLEDGE, Unit::Seconds, "Time from the request's head to the success response");
    describe_counter!(
        DIFFERING,
        Unit::Count,
        "Duplicates whose body differs from that of the delivery that they repeat"
    );
    describe_gauge!(IN_FLIGHT, Unit::Count, "Deliveries in flight");
    describe_gauge!(BODY_BYTES, Unit::Bytes, "Memory taken or reserved by bodies");
    describe_gauge!(WAITING, Unit::Count, "Tokens waiting to be hashed");
    describe_gauge!(HASHING, Unit::Count, "Tokens being hashed");
    describe_counter!(HASHED, Unit::Count, "Tokens hashed");
    describe_counter!(
        UNRECOGNIZED,
        Unit::Count,
        "Acknowledged events with an unknown name or undecodable data"
    );
    describe_counter!(EVICTIONS, Unit::Count, "Cached tokens and delivery keys evicted by newer ones");

    for key in KEYS.deliveries.iter().flatten() {
        with_recorder(|recorder| recorder.register_counter(key, &METADATA)).increment(0);
    }
    for kind in rejection_kinds {
        counter!(REJECTIONS, "kind" => kind).increment(0);
    }
    for reason in Unrecognized::ALL {
        counter!(UNRECOGNIZED, "reason" => reason.name()).increment(0);
    }
    for what in Evicted::ALL {
        counter!(EVICTIONS, "what" => what.name()).increment(0);
    }
    counter!(DIFFERING).increment(0);
    counter!(HASHED).increment(0);
}

/// Measures the time from a request's head to its response.
#[derive(Clone, Copy)]
pub(crate) struct Timer(Instant);

impl Timer {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

/// Called only if there is a recorder, without which the clock is not read again.
impl IntoF64 for Timer {
    fn into_f64(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// The label `event`: a documented event's name, or `unknown`.
#[derive(Clone, Copy)]
pub(crate) struct EventLabel(usize);

impl From<Option<EventKind>> for EventLabel {
    fn from(kind: Option<EventKind>) -> Self {
        Self(EventKind::ALL.iter().position(|event| Some(*event) == kind).unwrap_or(EventKind::ALL.len()))
    }
}

/// Counts a delivery, and records its latency if the response is a success.
pub(crate) fn record_delivery(event: EventLabel, outcome: DeliveryOutcome, timer: Timer) {
    let counted = &KEYS.deliveries[event.0][outcome as usize];
    with_recorder(|recorder| recorder.register_counter(counted, &METADATA)).increment(1);
    if !matches!(outcome, DeliveryOutcome::Failed) {
        let timed = &KEYS.acknowledge[outcome as usize];
        with_recorder(|recorder| recorder.register_histogram(timed, &METADATA)).record(timer);
    }
}

pub(crate) fn record_rejection(kind: &'static str) {
    counter!(REJECTIONS, "kind" => kind).increment(1);
}

pub(crate) fn record_differing_duplicate() {
    counter!(DIFFERING).increment(1);
}

pub(crate) fn record_unrecognized(reason: Unrecognized) {
    counter!(UNRECOGNIZED, "reason" => reason.name()).increment(1);
}

pub(crate) fn record_eviction(eviction: Eviction) {
    if eviction.count > 0 {
        counter!(EVICTIONS, "what" => eviction.what.name()).increment(eviction.count as u64);
    }
}

/// A contribution to a gauge, subtracted on drop. It is subtracted through the handle that added it, so that a recorder
/// installed meanwhile does not count down what it never counted up.
#[derive(Debug)]
pub(crate) struct GaugeGuard {
    gauge: Gauge,
    amount: f64,
}

impl GaugeGuard {
    fn new(gauge: Gauge, amount: u64) -> Self {
        let mut guard = Self { gauge, amount: 0.0 };
        guard.add(amount);
        guard
    }

    pub(crate) fn add(&mut self, more: u64) {
        self.gauge.increment(more as f64);
        self.amount += more as f64;
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

pub(crate) fn deliveries_in_flight() -> GaugeGuard {
    GaugeGuard::new(gauge(&KEYS.in_flight), 1)
}

pub(crate) fn body_bytes() -> GaugeGuard {
    GaugeGuard::new(gauge(&KEYS.body_bytes), 0)
}

/// Counts a token in the queue. Made by the caller's thread and not by the worker's, since a recorder may be local to a
/// thread.
pub(crate) struct QueuedTokenGauge {
    waiting: GaugeGuard,
    hashing: Gauge,
    hashed: Counter,
}

impl QueuedTokenGauge {
    pub(crate) fn new() -> Self {
        Self {
            waiting: GaugeGuard::new(gauge(&Key::from_static_name(WAITING)), 1),
            hashing: gauge(&Key::from_static_name(HASHING)),
            hashed: counter!(HASHED),
        }
    }

    pub(crate) fn begin(self) -> HashingToken {
        drop(self.waiting);
        HashingToken { hashing: GaugeGuard::new(self.hashing, 1), hashed: self.hashed }
    }
}

/// A token that a worker hashes.
pub(crate) struct HashingToken {
    hashing: GaugeGuard,
    hashed: Counter,
}

impl HashingToken {
    pub(crate) fn end(self) {
        drop(self.hashing);
        self.hashed.increment(1);
    }
}

fn gauge(key: &Key) -> Gauge {
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
}

/// Keys of the series that every delivery touches; making one allocates and hashes.
struct Keys {
    /// Indexed by event, `unknown` last, then by outcome.
    deliveries: [[Key; DeliveryOutcome::ALL.len()]; EventKind::ALL.len() + 1],
    acknowledge: [Key; DeliveryOutcome::ALL.len()],
    in_flight: Key,
    body_bytes: Key,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let label = |outcome: usize| Label::from_static_parts("outcome", DeliveryOutcome::ALL[outcome].name());
    Keys {
        deliveries: std::array::from_fn(|index| {
            let event = EventKind::ALL.get(index).map_or("unknown", |kind| kind.as_str());
            let event = Label::from_static_parts("event", event);
            std::array::from_fn(|outcome| Key::from_parts(DELIVERIES, vec![event.clone(), label(outcome)]))
        }),
        acknowledge: std::array::from_fn(|outcome| Key::from_parts(ACKNOWLEDGE, vec![label(outcome)])),
        in_flight: Key::from_static_name(IN_FLIGHT),
        body_bytes: Key::from_static_name(BODY_BYTES),
    }
});

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
