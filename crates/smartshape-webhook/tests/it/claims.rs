//! Claims under random interleavings: real tasks, a clock that stands still, and a store that answers late,
//! fails, or forgets to say that it did not. Each seed repeats its choices.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use smartshape_webhook::{
    ClaimState, DedupStore, Delivery, DeliveryKey, Handler, HandlerError, LeaseToken, Receiver, RequestHead,
    Secret, StoreError, StoreFuture, TOKEN_HEADER, WebhookResponse,
};
use tokio::time::Instant;

use crate::random::Random;

const SECRET: &str = "the secret of these tests";
static TOKEN: LazyLock<String> =
    LazyLock::new(|| bcrypt::hash_with_salt(SECRET, 4, [7; 16]).unwrap().to_string());
const KEYS: [&str; 3] = ["one", "two", "three"];
const PERMITS: usize = 2;

#[test]
fn two_processes_with_one_store() {
    for seed in 0..150 {
        run(World::new(seed, 2, Some(Duration::from_secs(600))));
    }
}

#[test]
fn a_handler_that_outlasts_its_lease_is_not_run_twice_by_one_process() {
    for seed in 0..50 {
        run(World::new(seed, 1, Some(Duration::from_millis(5))));
    }
}

#[test]
fn one_process_that_remembers_in_memory() {
    for seed in 0..100 {
        run(World::new(seed, 1, None));
    }
}

fn run(world: World) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(world);
        // Tokens are hashed on threads of their own, which a clock that stands still does not wait for.
        for receiver in 0..world.receivers.len() {
            assert_eq!(world.serve(receiver, "warm").await.status(), 200);
        }
        tokio::time::pause();
        world.store.troubled.store(true, Ordering::SeqCst);
        let seed = world.seed;
        // What could not be given back ends with its lease; anything else must go on before that.
        let patience = 2 * world.lease.unwrap_or_default() + Duration::from_secs(120);
        tokio::time::timeout(patience, story(world))
            .await
            .unwrap_or_else(|_| panic!("stuck, with seed {seed}"));
    });
}

async fn story(world: Arc<World>) {
    let senders: Vec<_> = (0..8).map(|_| tokio::spawn(send(Arc::clone(&world)))).collect();
    for sender in senders {
        sender.await.unwrap();
    }
    world.store.troubled.store(false, Ordering::SeqCst);
    for uuid in KEYS {
        while world.serve(0, uuid).await.status() != 200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    for receiver in &world.receivers {
        assert_eq!(receiver.drain(Duration::from_secs(3600)).await, 0, "with seed {}", world.seed);
    }
    world.look();
    let handled = world.handled.lock().unwrap();
    for uuid in KEYS {
        let one = &handled[uuid];
        assert_eq!((one.in_flight, one.done), (0, 1), "{uuid} with seed {}", world.seed);
    }
}

/// Sends at random, and now and then hangs up.
async fn send(world: Arc<World>) {
    for _ in 0..6 {
        world.hesitate().await;
        let uuid = world.random.pick(&KEYS);
        let receiver = world.random.below(world.receivers.len() as u64) as usize;
        let mut answer = pin!(world.serve(receiver, uuid));
        let patience = if world.random.one_in(3) { world.random.below(8) } else { u64::MAX };
        let mut polls = 0;
        let answer = poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Pending if polls >= patience => Poll::Ready(None),
            outcome => {
                polls += 1;
                outcome.map(Some)
            }
        });
        let Some(answer) = answer.await else { continue };
        world.look();
        if answer.status() == 200 {
            let handled = world.handled.lock().unwrap();
            let done = handled.get(uuid).map_or(0, |one| one.done);
            assert_eq!(done, 1, "{uuid} was acknowledged, with seed {}", world.seed);
        }
    }
}

struct World {
    seed: u64,
    lease: Option<Duration>,
    random: Arc<Random>,
    store: Store,
    receivers: Vec<Receiver>,
    handled: Mutex<HashMap<String, Handled>>,
    /// Handlers at work, for each receiver.
    in_flight: Vec<AtomicUsize>,
}

#[derive(Default)]
struct Handled {
    in_flight: usize,
    twice_at_once: bool,
    done: usize,
}

impl World {
    /// Without a lease, the receiver's own memory is the store.
    fn new(seed: u64, receivers: usize, lease: Option<Duration>) -> Self {
        let random = Arc::new(Random::new(seed));
        let store = Store { random: Arc::clone(&random), troubled: Arc::default(), states: Arc::default() };
        let receiver = || {
            let builder = Receiver::builder()
                .secret(Secret::new(SECRET).unwrap())
                .verify_timeout(Duration::from_secs(60))
                .verify_threads(1)
                .max_in_flight(PERMITS);
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

    async fn hesitate(&self) {
        hesitate(&self.random).await;
        self.look();
    }

    /// What must hold at every moment.
    fn look(&self) {
        for in_flight in &self.in_flight {
            assert!(in_flight.load(Ordering::SeqCst) <= PERMITS, "with seed {}", self.seed);
        }
        for (uuid, one) in &*self.handled.lock().unwrap() {
            assert!(!one.twice_at_once && one.done <= 1, "{uuid} twice, with seed {}", self.seed);
        }
    }

    async fn serve(self: &Arc<Self>, receiver: usize, uuid: &str) -> WebhookResponse {
        let world = Arc::clone(self);
        let handler = move |delivery: Delivery| handle(Arc::clone(&world), receiver, delivery);
        serve(&self.receivers[receiver], uuid, handler).await
    }
}

async fn serve(receiver: &Receiver, uuid: &str, handler: impl Handler) -> WebhookResponse {
    let head = RequestHead::from_parts("POST", [(TOKEN_HEADER, TOKEN.as_bytes())]);
    let body = format!(
        r#"{{"file":"f","event":"file_uploaded","data":{{}},"owner":"o","runTimestamp":1,"uuid":"{uuid}"}}"#
    );
    let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
    receiver.serve(&head, body, Arc::new(handler)).await
}

/// Takes its time, and fails, gives up or panics now and then.
async fn handle(world: Arc<World>, receiver: usize, delivery: Delivery) -> Result<(), HandlerError> {
    let uuid = delivery.uuid().to_owned();
    let in_flight = InFlight::begin(Arc::clone(&world), receiver, uuid.clone());
    if uuid != "warm" {
        world.hesitate().await;
        match world.random.below(8) {
            0 => return Err("failed".into()),
            1 => return Err(HandlerError::retry_after(Duration::from_secs(1), "later")),
            // Without the message that a panic prints.
            2 => std::panic::resume_unwind(Box::new("on purpose")),
            _ => {}
        }
    }
    world.handled.lock().unwrap().entry(uuid).or_default().done += 1;
    drop(in_flight);
    if world.random.one_in(8) { Err(HandlerError::permanent("never again")) } else { Ok(()) }
}

struct InFlight {
    world: Arc<World>,
    receiver: usize,
    uuid: String,
}

impl InFlight {
    fn begin(world: Arc<World>, receiver: usize, uuid: String) -> Self {
        world.in_flight[receiver].fetch_add(1, Ordering::SeqCst);
        let mut handled = world.handled.lock().unwrap();
        let one = handled.entry(uuid.clone()).or_default();
        one.in_flight += 1;
        one.twice_at_once |= one.in_flight > 1;
        drop(handled);
        Self { world, receiver, uuid }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.world.in_flight[self.receiver].fetch_sub(1, Ordering::SeqCst);
        self.world.handled.lock().unwrap().entry(self.uuid.clone()).or_default().in_flight -= 1;
    }
}

/// Lets others go first, or waits for a moment of the clock that stands still.
async fn hesitate(random: &Random) {
    for _ in 0..random.below(4) {
        tokio::task::yield_now().await;
    }
    if random.one_in(4) {
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
}

/// A database as a process sees it: what it did, and what came back of that, are two things.
#[derive(Clone)]
struct Store {
    random: Arc<Random>,
    troubled: Arc<AtomicBool>,
    states: Arc<Mutex<HashMap<DeliveryKey, State>>>,
}

#[derive(Clone, Copy)]
enum State {
    Claimed(LeaseToken, Instant),
    Done,
}

impl Store {
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HashMap<DeliveryKey, State>) -> T + Send + 'static,
        may_fail: bool,
    ) -> StoreFuture<'_, T> {
        Box::pin(async move {
            let trouble = || may_fail && self.troubled.load(Ordering::SeqCst) && self.random.one_in(8);
            hesitate(&self.random).await;
            if trouble() {
                return Err(StoreError::new("out of reach"));
            }
            let outcome = work(&mut self.states.lock().unwrap());
            hesitate(&self.random).await;
            if trouble() { Err(StoreError::new("the answer was lost")) } else { Ok(outcome) }
        })
    }
}

impl DedupStore for Store {
    fn claim(&self, key: DeliveryKey, holder: LeaseToken, lease: Duration) -> StoreFuture<'_, ClaimState> {
        let claim = move |states: &mut HashMap<_, _>| match states.get(&key) {
            Some(State::Done) => ClaimState::Done,
            Some(State::Claimed(_, end)) if *end > Instant::now() => ClaimState::InFlight,
            _ => {
                states.insert(key, State::Claimed(holder, Instant::now() + lease));
                ClaimState::New
            }
        };
        self.run(claim, true)
    }

    /// Does not fail: a completion that is not recorded may be handled again, as documented.
    fn complete(&self, key: DeliveryKey, _: LeaseToken) -> StoreFuture<'_, ()> {
        let complete = move |states: &mut HashMap<_, _>| {
            states.insert(key, State::Done);
        };
        self.run(complete, false)
    }

    fn release(&self, key: DeliveryKey, holder: LeaseToken) -> StoreFuture<'_, ()> {
        let release = move |states: &mut HashMap<_, _>| {
            if matches!(states.get(&key), Some(State::Claimed(current, _)) if *current == holder) {
                states.remove(&key);
            }
        };
        self.run(release, true)
    }
}
