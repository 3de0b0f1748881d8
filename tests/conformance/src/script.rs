//! The handler of every server under test.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use smartshape_webhook::{Delivery, Envelope, Event, FileUploaded, TypedEvent as _};
use tokio::sync::{Semaphore, watch};

/// What the handler does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Succeed,
    /// Fails; trying again may help.
    Fail,
    /// Cannot work now.
    Unavailable,
    /// Fails for good.
    FailPermanently,
    Panic,
}

/// What the handler saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub uuid: String,
    /// `unknown`, `undecoded`, or the event's name.
    pub event: String,
    pub body: String,
    pub secret: Option<String>,
}

/// Tells the handler what to do, and keeps what it saw. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Script(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plans: Mutex<HashMap<String, VecDeque<Step>>>,
    seen: Mutex<Vec<Seen>>,
    started: watch::Sender<usize>,
    ended: watch::Sender<usize>,
    max_concurrent: Mutex<usize>,
    held: Mutex<bool>,
    gate: Semaphore,
}

impl Default for Script {
    fn default() -> Self {
        Self(Arc::new(Inner {
            plans: Mutex::default(),
            seen: Mutex::default(),
            started: watch::Sender::new(0),
            ended: watch::Sender::new(0),
            max_concurrent: Mutex::default(),
            held: Mutex::new(false),
            gate: Semaphore::new(0),
        }))
    }
}

/// Counts a handler as ended however it ends.
struct Ended<'a>(&'a Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended.send_modify(|count| *count += 1);
    }
}

impl Script {
    /// What the handler does at its first, second … call for a uuid; afterwards it succeeds.
    pub fn plan(&self, uuid: &str, steps: impl IntoIterator<Item = Step>) {
        self.0.plans.lock().unwrap().insert(uuid.to_owned(), steps.into_iter().collect());
    }

    /// From now on every call waits until it is released.
    pub fn hold(&self) {
        *self.0.held.lock().unwrap() = true;
    }

    /// Lets this many waiting calls go on.
    pub fn release(&self, calls: usize) {
        self.0.gate.add_permits(calls);
    }

    /// Waits until so many calls have started.
    pub async fn wait_for_started(&self, calls: usize) {
        self.0.started.subscribe().wait_for(|count| *count >= calls).await.unwrap();
    }

    /// Waits until this many calls have ended, cancelled ones included.
    pub async fn wait_for_ended(&self, calls: usize) {
        self.0.ended.subscribe().wait_for(|count| *count >= calls).await.unwrap();
    }

    /// What the handler saw, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    /// How often the handler was called for a uuid.
    pub fn calls(&self, uuid: &str) -> usize {
        self.seen().iter().filter(|seen| seen.uuid == uuid).count()
    }

    /// The most calls that ran at the same time.
    pub fn max_concurrent(&self) -> usize {
        *self.0.max_concurrent.lock().unwrap()
    }

    /// Handles a delivery that came whole.
    pub async fn handle(&self, delivery: &Delivery) -> Step {
        let event = match delivery.event() {
            Event::Unknown(_) => "unknown",
            Event::Undecoded(_) => "undecoded",
            event => event.name(),
        };
        let body = String::from_utf8(delivery.raw().to_vec()).unwrap();
        let secret = delivery.secret_name().map(str::to_owned);
        self.call(Seen { uuid: delivery.uuid().to_owned(), event: event.to_owned(), body, secret }).await
    }

    /// Handles a body that a plain handler got.
    pub async fn handle_body(&self, body: &[u8]) -> Step {
        let envelope = Envelope::parse(body).unwrap();
        let (uuid, event) = (envelope.uuid().to_owned(), envelope.event().to_owned());
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.call(Seen { uuid, event, body, secret: None }).await
    }

    /// Handles an event that a typed extractor accepted.
    pub async fn handle_typed(&self, event: &FileUploaded) -> Step {
        let body = event.raw().as_str().to_owned();
        self.call(Seen { uuid: String::new(), event: "typed".to_owned(), body, secret: None }).await
    }

    async fn call(&self, seen: Seen) -> Step {
        let inner = &*self.0;
        let step = inner.plans.lock().unwrap().get_mut(&seen.uuid).and_then(VecDeque::pop_front);
        inner.seen.lock().unwrap().push(seen);
        let _ended = Ended(inner);
        inner.started.send_modify(|count| *count += 1);
        let concurrent = *inner.started.borrow() - *inner.ended.borrow();
        let most = *inner.max_concurrent.lock().unwrap();
        *inner.max_concurrent.lock().unwrap() = most.max(concurrent);
        if *inner.held.lock().unwrap() {
            inner.gate.acquire().await.unwrap().forget();
        }
        match step.unwrap_or(Step::Succeed) {
            Step::Panic => panic!("the handler panics, as planned"),
            step => step,
        }
    }
}
