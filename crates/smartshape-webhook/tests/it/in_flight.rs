//! Claims under random interleavings: real tasks, a paused clock, and a store that responds late, fails, or commits and
//! loses its response. Each seed repeats its choices.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smartshape_webhook::{Delivery, HandlerError, Receiver, WebhookResponse};

use crate::common::{builder, poll_at_most, serve, uploaded};
use crate::random::Random;
use crate::store::Store;
use crate::store::StoreBehavior::{Late, Unreliable};

const KEYS: [&str; 3] = ["one", "two", "three"];
const PERMITS: usize = 2;

#[test]
fn two_receivers_with_one_store_handle_a_delivery_once() {
    for seed in 0..150 {
        run(Simulation::new(seed, 2, Some(Duration::from_secs(600))));
    }
}

#[test]
fn handler_that_outlasts_its_lease_runs_once_per_process() {
    for seed in 0..50 {
        run(Simulation::new(seed, 1, Some(Duration::from_millis(5))));
    }
}

#[test]
fn memory_store_handles_a_delivery_once() {
    for seed in 0..100 {
        run(Simulation::new(seed, 1, None));
    }
}

fn run(simulation: Simulation) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let simulation = Arc::new(simulation);
        // Tokens are hashed on other threads, which a paused clock does not wait for.
        for receiver in 0..simulation.receivers.len() {
            assert_eq!(simulation.serve(receiver, "warm").await.status(), 200);
        }
        tokio::time::pause();
        // A completion never fails: a delivery without one may be handled again, as documented.
        simulation.store.set(Unreliable, Late, Unreliable);
        let seed = simulation.seed;
        // A claim that could not be released ends with its lease; everything else must proceed before that.
        let timeout = 2 * simulation.lease.unwrap_or_default() + Duration::from_secs(120);
        tokio::time::timeout(timeout, simulate(simulation))
            .await
            .unwrap_or_else(|_| panic!("stuck, with seed {seed}"));
    });
}

async fn simulate(simulation: Arc<Simulation>) {
    let senders: Vec<_> = (0..8).map(|_| tokio::spawn(send(Arc::clone(&simulation)))).collect();
    for sender in senders {
        sender.await.unwrap();
    }
    simulation.store.set(Late, Late, Late);
    for uuid in KEYS {
        while simulation.serve(0, uuid).await.status() != 200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    for receiver in &simulation.receivers {
        assert_eq!(receiver.drain(Duration::from_secs(3600)).await, 0, "with seed {}", simulation.seed);
    }
    simulation.check();
    let handled = simulation.handled.lock().unwrap();
    for uuid in KEYS {
        let one = &handled[uuid];
        assert_eq!((one.in_flight, one.done), (0, 1), "{uuid} with seed {}", simulation.seed);
    }
}

/// Sends random deliveries, and sometimes drops the request.
async fn send(simulation: Arc<Simulation>) {
    for _ in 0..6 {
        simulation.yield_randomly().await;
        let uuid = simulation.random.pick(&KEYS);
        let receiver = simulation.random.below(simulation.receivers.len() as u64) as usize;
        let response = pin!(simulation.serve(receiver, uuid));
        let max_polls = if simulation.random.one_in(3) { simulation.random.below(8) } else { u64::MAX };
        let Some(response) = poll_at_most(max_polls, response).await else { continue };
        simulation.check();
        if response.status() == 200 {
            let handled = simulation.handled.lock().unwrap();
            let done = handled.get(uuid).map_or(0, |one| one.done);
            assert_eq!(done, 1, "{uuid} was acknowledged, with seed {}", simulation.seed);
        }
    }
}

struct Simulation {
    seed: u64,
    lease: Option<Duration>,
    random: Arc<Random>,
    store: Store,
    receivers: Vec<Receiver>,
    handled: Mutex<HashMap<String, Handled>>,
    /// Running handlers of each receiver.
    in_flight: Vec<AtomicUsize>,
}

#[derive(Default)]
struct Handled {
    in_flight: usize,
    twice_at_once: bool,
    done: usize,
}

impl Simulation {
    /// Without a lease, receivers use the built-in memory store.
    fn new(seed: u64, receivers: usize, lease: Option<Duration>) -> Self {
        let random = Arc::new(Random::new(seed));
        let store = Store::with_random(Arc::clone(&random));
        let receiver = || {
            let builder = builder().verify_threads(1).max_in_flight(PERMITS);
            match lease {
                Some(ttl) => builder.dedup_store(store.clone(), ttl),
                None => builder,
            }
            .build()
            .unwrap()
        };
        Self {
            seed,
            lease,
            random,
            receivers: (0..receivers).map(|_| receiver()).collect(),
            store,
            handled: Mutex::default(),
            in_flight: (0..receivers).map(|_| AtomicUsize::default()).collect(),
        }
    }

    async fn yield_randomly(&self) {
        self.random.yield_randomly().await;
        self.check();
    }

    /// Checks the invariants.
    fn check(&self) {
        for in_flight in &self.in_flight {
            assert!(in_flight.load(Ordering::SeqCst) <= PERMITS, "with seed {}", self.seed);
        }
        for (uuid, one) in &*self.handled.lock().unwrap() {
            assert!(!one.twice_at_once && one.done <= 1, "{uuid} twice, with seed {}", self.seed);
        }
    }

    async fn serve(self: &Arc<Self>, receiver: usize, uuid: &str) -> WebhookResponse {
        let simulation = Arc::clone(self);
        let handler = move |delivery: Delivery| handle(Arc::clone(&simulation), receiver, delivery);
        serve(&self.receivers[receiver], uploaded(uuid), handler).await
    }
}

/// Yields at random, and sometimes fails, fails permanently or panics.
async fn handle(
    simulation: Arc<Simulation>,
    receiver: usize,
    delivery: Delivery,
) -> Result<(), HandlerError> {
    let uuid = delivery.uuid().to_owned();
    let in_flight = InFlight::begin(Arc::clone(&simulation), receiver, uuid.clone());
    if uuid != "warm" {
        simulation.yield_randomly().await;
        match simulation.random.below(8) {
            0 => return Err("failed".into()),
            1 => return Err(HandlerError::retry_after(Duration::from_secs(1), "later")),
            // Without the message that a panic prints.
            2 => std::panic::resume_unwind(Box::new("on purpose")),
            _ => {}
        }
    }
    simulation.handled.lock().unwrap().entry(uuid).or_default().done += 1;
    drop(in_flight);
    if simulation.random.one_in(8) { Err(HandlerError::permanent("never again")) } else { Ok(()) }
}

struct InFlight {
    simulation: Arc<Simulation>,
    receiver: usize,
    uuid: String,
}

impl InFlight {
    fn begin(simulation: Arc<Simulation>, receiver: usize, uuid: String) -> Self {
        simulation.in_flight[receiver].fetch_add(1, Ordering::SeqCst);
        let mut handled = simulation.handled.lock().unwrap();
        let one = handled.entry(uuid.clone()).or_default();
        one.in_flight += 1;
        one.twice_at_once |= one.in_flight > 1;
        drop(handled);
        Self { simulation, receiver, uuid }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.simulation.in_flight[self.receiver].fetch_sub(1, Ordering::SeqCst);
        self.simulation.handled.lock().unwrap().entry(self.uuid.clone()).or_default().in_flight -= 1;
    }
}
