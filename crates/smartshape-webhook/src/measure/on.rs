//! The names, and every call to the facade. METRICS.md lists the same for users; a test compares.
//!
//! A series is looked up in the recorder at each call. A handle made once with the receiver would
//! save that, but a handle belongs to the recorder that was there when it was made: one made
//! before the program installed its recorder would stay deaf for ever. What every delivery touches
//! is looked up by keys made once.

use std::sync::LazyLock;
use std::time::Instant;

use metrics::{
    Counter, Gauge, Key, Label, Level, Metadata, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, with_recorder,
};

use super::{Drift, Outcome};
use crate::delivery::Delivery;
use crate::events::EventKind;
use crate::refusal::RefusalKind;
use crate::verify::Verdict;

const DELIVERIES: &str = "smartshape_webhook_deliveries_total";
const REFUSALS: &str = "smartshape_webhook_refusals_total";
const ACKNOWLEDGE: &str = "smartshape_webhook_acknowledge_seconds";
const AT_WORK: &str = "smartshape_webhook_deliveries_at_work";
const DIFFERING: &str = "smartshape_webhook_differing_duplicates_total";
const RESERVED: &str = "smartshape_webhook_body_reserved_bytes";
const WAITING: &str = "smartshape_webhook_tokens_waiting";
const HASHING: &str = "smartshape_webhook_tokens_hashing";
const HASHED: &str = "smartshape_webhook_tokens_hashed_total";
const DRIFTED: &str = "smartshape_webhook_drifted_events_total";
const EVICTIONS: &str = "smartshape_webhook_evictions_total";

/// Tells the recorder units and meanings. One that is installed later does without.
pub(crate) fn describe() {
    describe_counter!(DELIVERIES, Unit::Count, "Deliveries, by event and by what became of them");
    describe_counter!(REFUSALS, Unit::Count, "Refused requests");
    describe_histogram!(ACKNOWLEDGE, Unit::Seconds, "From the request's head to the success answer");
    describe_counter!(
        DIFFERING,
        Unit::Count,
        "Duplicates whose body was not that of the delivery that they repeat"
    );
    describe_gauge!(AT_WORK, Unit::Count, "Deliveries at work");
    describe_gauge!(RESERVED, Unit::Bytes, "What bodies take, or have reserved, of the byte budget");
    describe_gauge!(WAITING, Unit::Count, "Tokens that wait to be hashed");
    describe_gauge!(HASHING, Unit::Count, "Tokens that are being hashed");
    describe_counter!(HASHED, Unit::Count, "Tokens that were hashed");
    describe_counter!(DRIFTED, Unit::Count, "Acknowledged events of unknown name or undecodable data");
    describe_counter!(EVICTIONS, Unit::Count, "Remembered tokens and deliveries pushed out by newer ones");
}

/// When a request's head was there: the start of the latency.
#[derive(Clone, Copy)]
pub(crate) struct Arrived(Instant);

impl Arrived {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }
}

/// A documented event's name, or that it is none: what a sender wrote is no label.
#[derive(Clone, Copy)]
pub(crate) struct Event(usize);

impl Event {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let kind = delivery.kind();
        Self(EventKind::ALL.iter().position(|of| Some(*of) == kind).unwrap_or(EventKind::ALL.len()))
    }
}

/// Counts a delivery, and takes the time of one whose sender is told of success.
pub(crate) fn ended(event: Event, outcome: Outcome, arrived: Arrived) {
    let counted = &KEYS.deliveries[event.0][outcome as usize];
    with_recorder(|recorder| recorder.register_counter(counted, &METADATA)).increment(1);
    if !matches!(outcome, Outcome::Failed) {
        let timed = &KEYS.acknowledge[outcome as usize];
        with_recorder(|recorder| recorder.register_histogram(timed, &METADATA)).record(arrived.0.elapsed());
    }
}

pub(crate) fn refused(kind: RefusalKind) {
    counter!(REFUSALS, "kind" => kind.name()).increment(1);
}

pub(crate) fn differing_duplicate() {
    counter!(DIFFERING).increment(1);
}

pub(crate) fn drifted(drift: Drift) {
    let reason = match drift {
        Drift::Unknown => "unknown",
        Drift::Undecoded => "undecoded",
    };
    counter!(DRIFTED, "reason" => reason).increment(1);
}

/// Counts what the use of a remembered token pushed out.
pub(crate) fn tokens_evicted(verdict: Verdict, count: usize) {
    if count > 0 {
        let evictions = match verdict {
            Verdict::Matches(_) => evictions("known_token"),
            Verdict::MatchesNone => evictions("refused_token"),
        };
        evictions.increment(count as u64);
    }
}

pub(crate) fn keys_evicted(count: usize) {
    if count > 0 {
        evictions("seen_key").increment(count as u64);
    }
}

fn evictions(what: &'static str) -> Counter {
    counter!(EVICTIONS, "what" => what)
}

/// What one thing adds to a gauge. It is taken away through the handle that added it, so a
/// recorder installed meanwhile does not see it leave without having come, and the receivers of
/// one process add up.
#[derive(Debug)]
pub(crate) struct Share {
    gauge: Gauge,
    amount: f64,
}

impl Share {
    fn of(gauge: Gauge, amount: u64) -> Self {
        let mut share = Self { gauge, amount: 0.0 };
        share.add(amount);
        share
    }

    pub(crate) fn add(&mut self, more: u64) {
        self.gauge.increment(more as f64);
        self.amount += more as f64;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

pub(crate) fn at_work() -> Share {
    Share::of(gauge(&KEYS.at_work), 1)
}

pub(crate) fn reserved_bytes() -> Share {
    Share::of(gauge(&KEYS.reserved), 0)
}

/// A token in the queue. Made by the thread that asks, since a recorder may be that thread's own.
pub(crate) struct WaitingToken {
    waiting: Share,
    hashing: Gauge,
    hashed: Counter,
}

impl WaitingToken {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Share::of(gauge(&Key::from_static_name(WAITING)), 1),
            hashing: gauge(&Key::from_static_name(HASHING)),
            hashed: counter!(HASHED),
        }
    }

    pub(crate) fn begin(self) -> HashingToken {
        drop(self.waiting);
        HashingToken { hashing: Share::of(self.hashing, 1), hashed: self.hashed }
    }
}

/// A token on a hashing thread.
pub(crate) struct HashingToken {
    hashing: Share,
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
    /// By event, unknown ones last, and by outcome.
    deliveries: [[Key; OUTCOMES.len()]; EventKind::ALL.len() + 1],
    acknowledge: [Key; OUTCOMES.len()],
    at_work: Key,
    reserved: Key,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let outcome = |outcome: Outcome| Label::from_static_parts("outcome", name(outcome));
    Keys {
        deliveries: std::array::from_fn(|index| {
            let event = EventKind::ALL.get(index).map_or("unknown", |kind| kind.as_str());
            let event = Label::from_static_parts("event", event);
            OUTCOMES.map(|of| Key::from_parts(DELIVERIES, vec![event.clone(), outcome(of)]))
        }),
        acknowledge: OUTCOMES.map(|of| Key::from_parts(ACKNOWLEDGE, vec![outcome(of)])),
        at_work: Key::from_static_name(AT_WORK),
        reserved: Key::from_static_name(RESERVED),
    }
});

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const OUTCOMES: [Outcome; 4] =
    [Outcome::Acknowledged, Outcome::Abandoned, Outcome::Failed, Outcome::Duplicate];

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Acknowledged => "acknowledged",
        Outcome::Abandoned => "abandoned",
        Outcome::Failed => "failed",
        Outcome::Duplicate => "duplicate",
    }
}
